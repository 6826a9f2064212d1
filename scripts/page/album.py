"""An album of a visit, from memory: its faces, who may be one person, and what AlbumPipeline makes of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import pandas as pd

from AlbumPipeline.AlbumPipeline__infer2 import DEMO
from AlbumPipeline.AlbumPipeline__photos import PERSON, cluster
from AlbumPipeline.AlbumPipeline__report import Solved, dates_table, faces_table, people_table, solve_table, suggestions
from AlbumPipeline.AlbumPipeline__tables import COLUMNS, make_album, read_faces_table
from AlbumPipeline.AlbumPipeline__weights import RELEASED, load_errors
from common.data.dates import name_date
from common.errors import WeightsError
from common.inference.estimates import Face
from scripts.page.photos import PROBABILITY, Upload, Visit


class AlbumFace(NamedTuple):
    """A face of an album, or a photo without one: key ('' none), photo (a name of its own), the base's age (years)."""

    key: str
    photo: str
    id: str
    estimate: float
    status: str
    portrait: bytes


class Answer(NamedTuple):
    """A solved album, and a sentence for each thing that was not used."""

    solved: Solved
    problems: list[str]


def photo_names(uploads: Sequence[Upload]) -> dict[str, str]:
    """A name of its own for each photo, by its id: that of its file, with a number where another is called so too."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for upload in uploads:
        name, number = upload.name, 2
        while name in taken:
            name, number = f"{upload.name} ({number})", number + 1
        taken.add(name)
        names[upload.id] = name
    return names


def album_faces(visit: Visit, upload: Upload, name: str) -> list[AlbumFace]:
    """The faces of a photo of the album with the base's ages, which AlbumPipeline is fitted for."""
    portraits, faces = visit.found(upload).portraits, []
    for face in visit.ages(upload, "bypass"):
        known = face.face is not None and np.isfinite(face.base_age)
        key, portrait = (f"{upload.id} {face.face}", portraits[face.face or 0]) if known else ("", b"")
        faces.append(AlbumFace(key, name, upload.id, face.base_age, face.status, portrait))
    return faces


def identities(visit: Visit, upload: Upload) -> np.ndarray:
    """Face-recognition embeddings [F, 512] of the faces in a photo."""
    crops = [face.crop for face in visit.found(upload).faces if isinstance(face, Face)]
    return visit.memory.get("identity", upload.id, lambda: visit.workshop.encoder(crops))


def people_of(visit: Visit, uploads: Sequence[Upload], faces: Sequence[AlbumFace]) -> list[list[AlbumFace]]:
    """The faces of each person that recognition tells apart, the most frequent person first."""
    seen = [face for face in faces if face.key]
    if not seen:
        return []
    embedding = {f"{one.id} {n}": row for one in uploads for n, row in enumerate(identities(visit, one))}
    number = cluster(np.stack([embedding[face.key] for face in seen]))
    return [
        [face for face, one in zip(seen, number, strict=True) if one == person] for person in range(number.max() + 1)
    ]


def suggested_name(visit: Visit, group: Sequence[AlbumFace], number: int) -> str:
    """The name that was typed for most of these faces, else a number."""
    typed = Counter(visit.typed[f"name {face.key}"] for face in group if f"name {face.key}" in visit.typed)
    return str(typed.most_common(1)[0][0]) if typed else f"{PERSON} {number + 1}"


def stated_dates(upload: Upload, no_exif: bool) -> tuple[str, str]:
    """When a photo was taken as its EXIF or its name states ('' unknown), and a date it is not later than."""
    taken, edited = upload.exif
    said = "" if no_exif else taken[:10].replace(":", "-")
    return said or name_date((upload.name,)), edited[:10]


def solve(
    visit: Visit,
    faces: Sequence[AlbumFace],
    names: Mapping[str, str],
    births: Mapping[str, str],
    dates: Mapping[str, tuple[str, str]],
) -> Answer:
    """Births and dates of an album, solved together as AlbumPipeline__infer2.py does; solved once for the same input.

    `names` by the key of a face, `births` by name, `dates` (stated, not later than) by the id of a photo. Raises
    DataError without a named face, WeightsError if the errors were fitted for another base.
    """
    key = tuple((face[:4], names.get(face.key, ""), dates[face.id]) for face in faces), tuple(sorted(births.items()))

    def make() -> Answer:
        errors, notes = load_errors(RELEASED)
        if notes.get("base") and notes["base"] != visit.workshop.pipeline.base.fingerprint:
            raise WeightsError(
                "The album's errors were fitted for another base; start the page with the released weights."
            )
        table, problems = make_album(_table(faces, names, dates), dict(births), errors, date.today())
        return Answer(solve_table(table, errors), problems)

    return visit.memory.get("album", key, make)


def _table(faces: Sequence[AlbumFace], names: Mapping[str, str], dates: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    records = [
        {
            "photo": face.photo, "face": face.key.partition(" ")[2], "person": names.get(face.key, ""),
            "estimate": face.estimate, "photo_date": dates[face.id][0], "latest": dates[face.id][1],
            "session": "", "id": face.id, "status": face.status,
        }
        for face in faces
    ]  # fmt: skip
    return pd.DataFrame(records, columns=COLUMNS)


def demo(visit: Visit) -> Answer:
    """The demo album of the repository, solved: simulated people, no photos."""

    def make() -> Answer:
        errors, _ = load_errors(RELEASED)
        faces, births, problems = read_faces_table(DEMO)
        table, said = make_album(faces, births, errors, date.today())
        return Answer(solve_table(table, errors), problems + said)

    return visit.memory.get("album", "demo", make)


def files_of(solved: Solved) -> dict[str, str]:
    """The files that AlbumPipeline__infer2.py writes, their texts by name."""
    dates = dates_table(solved, PROBABILITY)
    tables = {"dates.csv": dates, "people.csv": people_table(solved, PROBABILITY)}
    tables |= {"faces.csv": faces_table(solved, PROBABILITY), "exiftool.csv": suggestions(dates)}
    return {name: table.to_csv(index=False, float_format="%.2f") for name, table in tables.items()}
