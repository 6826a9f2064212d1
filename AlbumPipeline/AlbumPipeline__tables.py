"""Tables of people as they write them become an album: names, births, photo dates, with what is wrong in them."""

from datetime import date, timedelta
from operator import eq
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
import pandas as pd

from AlbumPipeline.AlbumPipeline__dataset import noise_repeats, unknown
from AlbumPipeline.AlbumPipeline__model import Album, Known
from AlbumPipeline.AlbumPipeline__weights import AgeErrors
from common.data.births import COLUMNS as BIRTHS
from common.data.births import births_of
from common.data.dates import Period, decimal_year, parse_period
from common.data.labels import OLDEST, person_key, person_name, read_table
from common.errors import DataError

COLUMNS = ["photo", "face", "person", "estimate", "photo_date", "latest", "session", "id", "status"]
ALIASES = {"path": "photo", "age": "estimate", "base_age": "estimate", "estimated_age": "estimate"}
UNIFORM = 12**0.5  # length of an interval over the standard deviation of what is uniform in it
DAY = timedelta(days=1)


class AlbumTable(NamedTuple):
    """An album with its names.

    faces: those of named people, as rows of COLUMNS; person, photo: names, in the order of the album's numbers; born,
    taken: the texts that state them ('' nothing); album: what is solved.
    """

    faces: pd.DataFrame
    person: list[str]
    photo: list[str]
    born: list[str]
    taken: list[str]
    album: Album


def read_faces_table(path: Path) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """Faces (COLUMNS) of a CSV, births by person from its column `born`, and a sentence for each bad row.

    Needed are photo, person and estimate (or age, base_age): the base's age, not a corrected one. Raises DataError.
    """
    table = read_table(path, "table of faces").rename(columns=lambda name: name.strip())
    taken = set(table.columns)
    for theirs, ours in ALIASES.items():
        if theirs in taken and ours not in table.columns:
            table = table.rename(columns={theirs: ours})
    for needed in ("photo", "person", "estimate"):
        if needed not in table.columns:
            raise DataError(f"{path} has no column '{needed}'; it needs photo, person and estimate (years).")
    births = births_of(table, path) if set(BIRTHS) & set(table.columns) else {}
    for column in COLUMNS:
        if column not in table.columns:
            table[column] = ""
    faces, problems = table[COLUMNS].copy(), []
    ages = pd.to_numeric(faces["estimate"], errors="coerce")
    for row in np.flatnonzero(~((ages >= 0) & (ages <= OLDEST)) & (faces["person"].str.strip() != "")):
        problems.append(f"{path}, row {row + 2}: '{faces['estimate'][row][:40]}' is no age; the face is left out")
    faces["estimate"] = ages.where((ages >= 0) & (ages <= OLDEST))
    return faces, births, problems


def people_of(faces: pd.DataFrame) -> list[str]:
    """The people of an album: whom faces (COLUMNS) with an estimate show, in their order."""
    return faces.loc[np.isfinite(faces["estimate"].astype(float)), "person"].tolist()


def with_dates(faces: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Faces (COLUMNS) with the dates of a CSV (photo, photo_date), and a sentence for each of its photos that is not
    there. A photo is named as in the faces, or by so much of its path as no other photo has."""
    table = read_table(path, "table of dates").rename(columns={"path": "photo"})
    if not {"photo", "photo_date"} <= set(table.columns):
        raise DataError(f"{path} needs the columns photo and photo_date; it has {', '.join(table.columns)}.")
    known = sorted(set(faces["photo"]))
    stated, problems = {}, []
    for row in table.itertuples():
        if not row.photo_date.strip():
            continue
        meant = photos_meant(row.photo, known)
        if len(meant) == 1:
            first = stated.setdefault(meant[0], row.photo_date)
            if first != row.photo_date:
                problems.append(f"{path}: {meant[0]} has two dates; {first} is used, not {row.photo_date}")
        else:
            told = f"there are {len(meant)} photos" if meant else "there is no photo"
            problems.append(f"{path}: {told} {row.photo}; a photo is named like {(meant or known)[0]}")
    dates = [stated.get(name, text) for name, text in zip(faces["photo"], faces["photo_date"], strict=True)]
    return faces.assign(photo_date=dates), problems


def photos_meant(name: str, known: list[str]) -> list[str]:
    """The photos of this name, else those whose path ends like it, or that end it.

    Examples
    --------
    >>> photos_meant("anna/1.jpg", ["album/anna/1.jpg", "album/susanna/1.jpg"])
    ['album/anna/1.jpg']
    """
    if name in known:
        return [name]
    asked = PurePath(name).parts[::-1]
    return [photo for photo in known if all(map(eq, asked, PurePath(photo).parts[::-1])) and asked]


def make_album(
    faces: pd.DataFrame, births: dict[str, str], errors: AgeErrors, today: date
) -> tuple[AlbumTable, list[str]]:
    """An album of the faces (COLUMNS) that have a person and an estimate, and a sentence for each thing not used.

    Photos without such a face are in it too. Raises DataError if there is no face at all.
    """
    faces = faces.assign(person=faces["person"].map(person_name))
    key = faces["person"].map(person_key)
    usable = (key != "") & np.isfinite(faces["estimate"].astype(float))
    if not usable.any():
        raise DataError(
            "No face has a name and an estimated age; name people by folders (give the folder above theirs), a column "
            "or --examples."
        )
    kept = faces[usable].reset_index(drop=True)
    people = dict(zip(key[usable][::-1], kept["person"][::-1], strict=True))  # the first spelling stays
    keys, photos = sorted(people), sorted(set(faces["photo"]))
    stated = {person_key(name): text.strip() for name, text in births.items()}
    problems = [f"{name} is in no photo" for name in births if person_key(name) not in people]
    (dates, said), (latest_texts, _) = (_photo_texts(faces, column) for column in ("photo_date", "latest"))
    born, wrong_births = parse_known([stated.get(name, "") for name in keys], [people[name] for name in keys], today)
    taken, wrong_dates = parse_known([dates.get(name, "") for name in photos], photos, today)
    latest, _ = parse_known([latest_texts.get(name, "") for name in photos], photos, today)
    taken = taken._replace(high=np.fmin(taken.high, np.where(np.isfinite(latest.high), latest.high, np.inf)))
    person = pd.Index(keys).get_indexer(key[usable])
    photo = pd.Index(photos).get_indexer(kept["photo"])
    repeats = noise_repeats(person, _sessions(kept, taken, photo), kept["id"].to_numpy(str), errors)
    album = Album(person, photo, kept["estimate"].to_numpy(float), repeats, born, taken)
    names = [people[name] for name in keys]
    texts = [stated.get(name, "") for name in keys], [dates.get(name, "") for name in photos]
    return AlbumTable(kept, names, photos, *texts, album), problems + said + wrong_births + wrong_dates


def _photo_texts(faces: pd.DataFrame, column: str) -> tuple[dict[str, str], list[str]]:
    """The stated date of each photo that has one, the first of its rows, and a sentence where rows differ."""
    stated = faces[faces[column].str.strip() != ""]
    found, problems = {}, []
    for name, texts in stated.groupby("photo", sort=True)[column]:
        different = list(dict.fromkeys(text.strip() for text in texts))
        found[name] = different[0]
        if len(different) > 1:
            problems.append(f"{name} has two dates, {different[0]} and {different[1]}; the first is used")
    return found, problems


def _sessions(faces: pd.DataFrame, taken: Known, photo: np.ndarray) -> np.ndarray:
    """The session [F] str of each face: as its column says, else the day if that is known."""
    day = np.where(taken.sd[photo] < 1 / 300, taken.mean[photo].round(4).astype(str), "")
    return np.where(faces["session"].str.strip() != "", faces["session"].str.strip(), day)


def parse_known(texts: list[str], names: list[str], today: date) -> tuple[Known, list[str]]:
    """What these texts [N] state ('' nothing); nothing is later than today. A sentence for each that cannot be read."""
    known, problems = unknown(len(texts)), []
    known.high[:] = _end(today)
    for number, (text, name) in enumerate(zip(texts, names, strict=True)):
        if not text.strip():
            continue
        try:
            period = parse_period(text)
        except ValueError as error:
            problems.append(f"{name}: {error}; it is taken as unknown")
            continue
        if period.first is not None and period.first > today + DAY:
            problems.append(f"{name}: '{text[:40]}' is in the future; it is taken as unknown")
            continue
        _state(known, number, period)
        known.high[number] = min(known.high[number], _end(today))
    return known, problems


def _state(known: Known, number: int, period: Period) -> None:
    """Enter a period: in the middle of it, uniform, its ends being bounds; soft ends are none."""
    low = -np.inf if period.first is None else decimal_year(period.first)
    high = np.inf if period.last is None else _end(period.last)
    if np.isfinite(low) and np.isfinite(high):
        known.mean[number], known.sd[number] = (low + high) / 2, (high - low) / UNIFORM
    if not period.about:
        known.low[number], known.high[number] = low, high


def _end(day: date) -> float:
    return decimal_year(min(day, date.max - DAY) + DAY)
