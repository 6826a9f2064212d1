"""Readers of sets with label tables: MORPH II, CACD, APPA-REAL, ChaLearn LAP, IMDB-clean, Adience, PublicFigures."""

import io
import re

import numpy as np
import pandas as pd
from scipy.io import loadmat

from common.data.labels import NUMBERS
from common.data.source import Entry, Problem, Source, from_names, from_table, gender_of, number, published_part
from common.errors import DataError

MORPH2_TABLE = "morph_2008_nonCommercial.csv"
MORPH2_GROUP = {"B": "black", "W": "white", "A": "asian", "H": "hispanic", "O": "other"}
CACD_TABLE = "celebrity2000_meta.mat"
CACD_NAME = re.compile(r"^(\d{1,3})_(.+)_(\d{4})\.jpe?g$", re.IGNORECASE)
IMDB_PERSON = re.compile(r"(?:^|/)(nm\d+)_")
PARTS = {"train": "train", "valid": "val", "test": "test"}  # file names of a published part: what we call it
ADIENCE_INTERVAL = re.compile(r"^\((\d+),\s*(\d+)\)$")


def read_morph2(source: Source, options: dict) -> list[Entry | Problem]:
    """MORPH II (Ricanek & Tesafaye, 2006): the CSV of the 2008 non-commercial release and the photos it names."""
    folder, table = source.table(MORPH2_TABLE)

    def describe(row: dict[str, str]) -> Entry:
        return Entry(
            folder + row["photo"].strip().replace("\\", "/"),
            age=number(row["age"]),
            person=row["id_num"].strip(),
            gender=gender_of(row["gender"]),
            group=MORPH2_GROUP.get(row["race"].strip().upper(), ""),
            ready_crop=options["crops"],
        )

    return from_table(table, ("photo", "id_num", "age", "gender", "race"), MORPH2_TABLE, describe)


def read_cacd(source: Source, options: dict) -> list[Entry | Problem]:
    """CACD (Chen et al., 2014): celebrity2000_meta.mat, or without it names like 53_Robin_Williams_0001.jpg.

    The parts of the paper are known from the .mat alone: celebrities of rank 1 and 2 of their birth year are `val`,
    3 to 5 `test`, the others `train`.
    """
    found = source.find(CACD_TABLE)
    if not found:

        def describe(name: str, match: re.Match) -> Entry:
            return Entry(name, float(match[1]), person=match[2], ready_crop=options["crops"])

        return from_names(source.images(), CACD_NAME, "a name like 53_Robin_Williams_0001.jpg", describe)
    place = source.by_ending(1)
    entries: list[Entry | Problem] = []
    for row in _cacd_table(source, found).itertuples():
        part = published_part("val" if row.rank <= 2 else "test" if row.rank <= 5 else "train")
        name = place.get(row.name, row.name)
        entries.append(Entry(name, float(row.age), person=str(row.identity), ready_crop=options["crops"], **part))
    return entries


def _cacd_table(source: Source, found: str) -> pd.DataFrame:
    """Columns name, age, identity, rank of the struct celebrityImageData; raises DataError if it is not that."""
    _, content = next(source.read({found}))
    try:
        struct = loadmat(io.BytesIO(content), variable_names=["celebrityImageData"])["celebrityImageData"][0, 0]
        numbers = {key: struct[key].ravel() for key in ("age", "identity", "rank")}
        names = [str(np.ravel(cell)[0]) for cell in struct["name"].ravel()]
        return pd.DataFrame({"name": names, **numbers})
    except NotImplementedError:
        raise DataError(f"{found} is a MATLAB 7.3 file; save it with '-v7', or take it away to go by names.") from None
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise DataError(f"{found} is not CACD's metadata ({error}); take it away to go by file names.") from None


def read_appareal(source: Source, options: dict) -> list[Entry | Problem]:
    """APPA-REAL (Agustsson et al., 2017): gt_avg_{train,valid,test}.csv; X.jpg_face.jpg where there is one.

    `age` is the real age, or with options["label"] "apparent" the mean of the votes; both, the standard deviation of
    the votes in years and their number are kept as real_age, apparent_age, apparent_spread, ratings.
    """
    needed = ("file_name", "real_age", "apparent_age_avg", "apparent_age_std", "num_ratings")
    labels = ("real_age", "apparent_age", "apparent_spread", "ratings")
    known, entries = set(source.names), []
    for part, ours in PARTS.items():
        folder, table = source.table(f"gt_avg_{part}.csv")
        traits = _traits(source, f"allcategories_{part}.csv")

        def describe(row: dict[str, str], folder=folder, part=part, ours=ours, traits=traits) -> Entry:
            photo = f"{folder}{part}/{row['file_name']}"
            face = photo + "_face.jpg"
            age = row["apparent_age_avg" if options["label"] == "apparent" else "real_age"]
            gender, group = traits.get(row["file_name"], ("", ""))
            fields = published_part(ours)
            fields["further"] |= dict(zip(labels, (row[column] for column in needed[1:]), strict=True))
            path = face if face in known else photo
            return Entry(path, number(age), gender=gender, group=group, ready_crop=options["crops"], **fields)

        entries += from_table(table, needed, f"gt_avg_{part}.csv", describe)
    return entries


def _traits(source: Source, file_name: str) -> dict[str, tuple[str, str]]:
    """(gender, group) by file from APPA-REAL's table of further attributes; empty if there is none."""
    if not source.find(file_name):
        return {}
    _, table = source.table(file_name)
    return {row["file"]: (gender_of(row["gender"]), row["race"].lower()) for row in table.to_dict("records")}


def read_chalearn(source: Source, options: dict) -> list[Entry | Problem]:
    """ChaLearn LAP 2016: {train,valid,test}_gt.csv (image, mean, stdv) beside the folders train, valid, test.

    Its only age is the apparent one; the standard deviation of the votes is kept as apparent_spread, in years.
    """
    entries: list[Entry | Problem] = []
    for part, ours in PARTS.items():
        folder, table = source.table(f"{part}_gt.csv")

        def describe(row: dict[str, str], folder=folder, part=part, ours=ours) -> Entry:
            fields = published_part(ours)
            fields["further"] |= {"apparent_age": row["mean"], "apparent_spread": row["stdv"]}
            return Entry(f"{folder}{part}/{row['image']}", number(row["mean"]), ready_crop=options["crops"], **fields)

        entries += from_table(table, ("image", "mean", "stdv"), f"{part}_gt.csv", describe)
    return entries


def read_imdbclean(source: Source, options: dict) -> list[Entry | Problem]:
    """IMDB-clean (Lin et al., 2021): imdb_{train,valid,test}_new_1024.csv, or without them …_new.csv.

    The tables name the face by its box. The person is the nm… number in the file name.
    """
    large = bool(source.find("imdb_train_new_1024.csv"))
    inside = [name for name in source.images() if ("imdb-clean-1024" in name.split("/")) == large]
    place = source.by_ending(2, inside or source.images())
    needed = ("filename", "age", "gender", "x_min", "y_min", "x_max", "y_max")
    entries: list[Entry | Problem] = []
    for part, ours in PARTS.items():
        title = f"imdb_{part}_new{'_1024' if large else ''}.csv"
        _, table = source.table(title)

        def describe(row: dict[str, str], ours=ours) -> Entry:
            person = IMDB_PERSON.search(row["filename"])
            return Entry(
                place.get("/".join(row["filename"].split("/")[-2:]), row["filename"]),
                age=number(row["age"]),
                person=person[1] if person else "",
                gender=gender_of(row["gender"]),
                ready_crop=options["crops"],
                box=(float(row["x_min"]), float(row["y_min"]), float(row["x_max"]), float(row["y_max"])),
                **published_part(ours),
            )

        entries += from_table(table, needed, title, describe)
    return entries


def read_adience(source: Source, options: dict) -> list[Entry | Problem]:
    """Adience (Eidinger et al., 2014): fold_0_data.txt to fold_4_data.txt; ages like (25, 32), or single numbers.

    Intervals are kept as they are written. The person is the Flickr album and the number of the face in it; `fold`
    keeps the published five folds. Pictures: faces/… (coarse_tilt_aligned_face.…) or else aligned/….
    """
    place = source.by_ending(2)
    entries: list[Entry | Problem] = []
    for fold in range(5):
        title = f"fold_{fold}_data.txt"
        _, table = source.table(title)

        def describe(row: dict[str, str], fold=fold) -> Entry:
            ends = [
                f"{row['user_id']}/{kind}.{row['face_id']}.{row['original_image']}"
                for kind in ("coarse_tilt_aligned_face", "landmark_aligned_face")
            ]
            return Entry(
                next((place[end] for end in ends if end in place), f"faces/{ends[0]}"),
                **_adience_age(row["age"].strip()),
                person=f"{row['user_id']}/{row['face_id']}",
                gender=gender_of(row["gender"]),
                ready_crop=options["crops"],
                further={"fold": str(fold)},
            )

        entries += from_table(table, ("original_image", "user_id", "face_id", "age", "gender"), title, describe)
    return entries


def _adience_age(text: str) -> dict:
    interval = ADIENCE_INTERVAL.match(text)
    if interval:
        return {"age_min": float(interval[1]), "age_max": float(interval[2])}
    return {} if text in ("", "None") else {"age": float(text)}


def read_public_figures(source: Source, options: dict) -> list[Entry | Problem]:
    """Public figures of known birth date: labels.csv with path, age or age_min/age_max, person, gender, source, dates.

    Ages are real ones in completed years. `born`, `photo_date` (ISO days, '' unknown; nominal where the age is an
    interval) and `source` (the collection) are kept in the manifest. The pictures are crops on our template.
    """
    folder, table = source.table("labels.csv")
    kept = ("born", "photo_date", "source")

    def describe(row: dict[str, str]) -> Entry:
        return Entry(
            folder + row["path"],
            age=number(row["age"]),
            age_min=number(row["age_min"]),
            age_max=number(row["age_max"]),
            person=row["person"],
            gender=gender_of(row["gender"]),
            ready_crop=True,
            further={key: row[key].strip() for key in kept},
        )

    return from_table(table, ("path", *NUMBERS, "person", "gender", *kept), "labels.csv", describe)
