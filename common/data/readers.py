"""What each data set calls its files: one reader per set, from names to labels.

A reader is a function `(source, options) -> list[Entry | Problem]`. To add a set, write one and name it in READERS.
"""

import io
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.data.labels import NUMBERS, person_name, row_age
from common.data.manifest import renamed
from common.data.readers_names import read_aaf, read_afad, read_agedb
from common.data.readers_tables import (
    read_adience,
    read_appareal,
    read_cacd,
    read_chalearn,
    read_imdbclean,
    read_morph2,
    read_public_figures,
)
from common.data.source import Entry, Problem, Source, from_names, number, published_part
from common.data.synthetic import generate_faces
from common.errors import DataError

UTKFACE_NAME = re.compile(r"^(\d{1,3})_([01])_([0-4])_\d+(\.jpg\.chip)?\.jpg$", re.IGNORECASE)
UTKFACE_GENDER = ("male", "female")
UTKFACE_GROUP = ("white", "black", "asian", "indian", "other")
FGNET_NAME = re.compile(r"^(\d{3})A(\d{2})[a-z]?\.jpe?g$", re.IGNORECASE)


def read_utkface(source: Source, options: dict) -> list[Entry | Problem]:
    """UTKFace: age_gender_race_date.jpg.chip.jpg (aligned crops) or age_gender_race_date.jpg (whole photos)."""

    def describe(name: str, match: re.Match) -> Entry:
        age, gender, race, chip = match.groups()
        ready = bool(chip) or options["crops"]
        gender, group = UTKFACE_GENDER[int(gender)], UTKFACE_GROUP[int(race)]
        return Entry(name, age=float(age), gender=gender, group=group, ready_crop=ready)

    return from_names(source.images(), UTKFACE_NAME, "age_gender_race_date.jpg[.chip.jpg]", describe)


def read_fairface(source: Source, options: dict) -> list[Entry | Problem]:
    """FairFace: labels.csv with path, age_min, age_max, gender, race; its published `val` part becomes `test`.

    Its crops (margin 0.25) need no alignment: their average landmarks fit our template at a scale of 1.06.
    """
    folder, table = source.table("labels.csv")
    return [
        Entry(
            folder + row.path,
            age_min=number(row.age_min),
            age_max=number(row.age_max),
            gender=row.gender.lower(),
            group=row.race.lower(),
            ready_crop=True,
            **published_part("test" if row.path.startswith("val/") else "train"),
        )
        for row in table.itertuples()
    ]


def read_fgnet(source: Source, options: dict) -> list[Entry | Problem]:
    """FG-NET: 001A02.JPG is person 001 at the age of 2; whole photos."""

    def describe(name: str, match: re.Match) -> Entry:
        return Entry(name, age=float(match[2]), person=match[1], ready_crop=options["crops"])

    return from_names(source.images(), FGNET_NAME, "a name like 001A02.JPG", describe)


def read_csv(source: Source, options: dict) -> list[Entry | Problem]:
    """A generic CSV with `path` (relative to it) and `age`, or `age_min`/`age_max`; person, gender, group, split."""
    folder, table = source.table(options["csv_name"])
    table = renamed(table, options["columns"], options["csv_name"])
    if "path" not in table.columns or not {"age", "age_min", "age_max"} & set(table.columns):
        raise DataError(
            f"{options['csv_name']} needs the columns 'path' and 'age' (or age_min, age_max); it has "
            f"{', '.join(table.columns)}. Rename with --column age=NAME."
        )
    present = [name for name in ("person", "gender", "group", "split") if name in table.columns]
    entries: list[Entry | Problem] = []
    for row in table.to_dict("records"):
        name = folder + row["path"]
        try:
            stated = row_age(*(row.get(key, "") for key in NUMBERS))
        except ValueError as error:
            entries.append(Problem(name, f"its age cannot be used: {error}"))
            continue
        ages: dict = {key: None if math.isnan(age) else age for key, age in zip(NUMBERS, stated, strict=True)}
        texts: dict = {key: person_name(row[key]) if key == "person" else row[key].strip().lower() for key in present}
        entries.append(Entry(name, **ages, **texts, ready_crop=options["crops"]))
    return entries


class SyntheticSource(Source):
    """Synthetic faces (see common/data/synthetic.py) offered like a folder of PNG files."""

    def __init__(self, count: int, seed: int, size: int):
        crops, self.labels = generate_faces(count, seed, size)
        self.files = dict(zip(self.labels["name"], map(_png, crops), strict=True))
        self.root, self.names, self.problems = Path("synthetic"), list(self.files), []

    def read(self, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (name, PNG bytes) of the wanted faces."""
        return ((name, data) for name, data in self.files.items() if name in wanted)


def read_synthetic(source: SyntheticSource, options: dict) -> list[Entry | Problem]:
    """Synthetic faces with exact ages and persons."""
    return [
        Entry(row.name, float(row.age), person=row.person, gender=row.gender, group=row.group, ready_crop=True)
        for row in source.labels.itertuples(index=False, name="Row")
    ]


def _png(crop: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(crop).save(stream, "PNG")
    return stream.getvalue()


Reader = Callable[[Any, dict], list[Entry | Problem]]  # the first is the source, synthetic has one of its own kind

READERS: dict[str, Reader] = {
    "utkface": read_utkface,
    "fairface": read_fairface,
    "fgnet": read_fgnet,
    "morph2": read_morph2,
    "cacd": read_cacd,
    "afad": read_afad,
    "agedb": read_agedb,
    "appareal": read_appareal,
    "chalearn": read_chalearn,
    "aaf": read_aaf,
    "imdbclean": read_imdbclean,
    "adience": read_adience,
    "public_figures": read_public_figures,
    "csv": read_csv,
    "synthetic": read_synthetic,
}
