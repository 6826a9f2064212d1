"""What each data set calls its files: one reader per set, from names to labels.

A reader is a function `(source, options) -> list[Entry | Problem]`. To add a set, write one and name it in READERS.
"""

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from common.crops import IMAGE_SUFFIXES
from common.errors import DataError
from common.synthetic import generate_faces

UTKFACE_NAME = re.compile(r"^(\d{1,3})_([01])_([0-4])_\d+(\.jpg\.chip)?\.jpg$", re.IGNORECASE)
UTKFACE_GENDER = ("male", "female")
UTKFACE_GROUP = ("white", "black", "asian", "indian", "other")
FGNET_NAME = re.compile(r"^(\d{3})A(\d{2})[a-z]?\.jpe?g$", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One labelled picture: where it lies in the source and what is known of it (ages in years)."""

    path: str
    age: float | None = None
    age_min: float | None = None
    age_max: float | None = None
    person: str = ""
    gender: str = ""
    group: str = ""
    split: str = ""
    ready_crop: bool = False


@dataclass(frozen=True)
class Problem:
    """One file left out, and why."""

    path: str
    reason: str


@dataclass
class Source:
    """A folder, a tar or tar.gz, or a folder's CSV file; every name is relative to it."""

    root: Path
    names: list[str] = field(default_factory=list)

    def __post_init__(self):
        if not self.root.exists():
            raise DataError(f"There is nothing at {self.root}; give a folder, a .tar, a .tar.gz or a CSV file.")
        if self.root.is_dir():
            self.names = sorted(
                path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file()
            )
        else:
            self.names = sorted(name for name, _ in self._members())

    def _members(self) -> Iterator[tuple[str, Callable[[], bytes]]]:
        try:
            with tarfile.open(self.root) as archive:
                for member in archive:
                    if member.isfile():
                        yield member.name, lambda member=member: archive.extractfile(member).read()
        except tarfile.TarError:
            raise DataError(f"{self.root} is neither a folder nor a readable tar archive.") from None

    def images(self) -> list[str]:
        """Names that end like a picture's."""
        return [name for name in self.names if Path(name).suffix.lower() in IMAGE_SUFFIXES]

    def read(self, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (name, bytes) of the wanted files in the order they are stored in."""
        if self.root.is_dir():
            for name in sorted(wanted):
                if (self.root / name).is_file():
                    yield name, (self.root / name).read_bytes()
        else:
            for name, read in self._members():
                if name in wanted:
                    yield name, read()

    def table(self, file_name: str) -> tuple[str, pd.DataFrame]:
        """The CSV of this name: (its folder with a closing slash or '', its rows as text)."""
        found = [name for name in self.names if name.rsplit("/", 1)[-1] == file_name]
        if not found:
            raise DataError(f"{self.root} holds no {file_name}; give the folder or archive that does.")
        _, content = next(self.read({found[0]}))
        return found[0].removesuffix(file_name), pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)


def read_utkface(source: Source, options: dict) -> list[Entry | Problem]:
    """UTKFace: age_gender_race_date.jpg.chip.jpg (aligned crops) or age_gender_race_date.jpg (whole photos)."""
    entries: list[Entry | Problem] = []
    for name in source.images():
        match = UTKFACE_NAME.match(name.rsplit("/", 1)[-1])
        if match is None:
            entries.append(Problem(name, "misnamed: expected age_gender_race_date.jpg[.chip.jpg]"))
            continue
        age, gender, race, chip = match.groups()
        entries.append(
            Entry(
                name,
                age=float(age),
                gender=UTKFACE_GENDER[int(gender)],
                group=UTKFACE_GROUP[int(race)],
                ready_crop=bool(chip) or options["crops"],
            )
        )
    return entries


def read_fairface(source: Source, options: dict) -> list[Entry | Problem]:
    """FairFace: labels.csv with path, age_min, age_max, gender, race; its published `val` part becomes `test`.

    Its crops (margin 0.25) need no alignment: their average landmarks fit our template at a scale of 1.06.
    """
    folder, table = source.table("labels.csv")
    return [
        Entry(
            folder + row.path,
            age_min=_number(row.age_min),
            age_max=_number(row.age_max),
            gender=row.gender.lower(),
            group=row.race.lower(),
            split="test" if row.path.startswith("val/") else "",
            ready_crop=True,
        )
        for row in table.itertuples()
    ]


def read_fgnet(source: Source, options: dict) -> list[Entry | Problem]:
    """FG-NET: 001A02.JPG is person 001 at the age of 2; whole photos."""
    entries: list[Entry | Problem] = []
    for name in source.images():
        match = FGNET_NAME.match(name.rsplit("/", 1)[-1])
        if match is None:
            entries.append(Problem(name, "misnamed: expected a name like 001A02.JPG"))
        else:
            entries.append(Entry(name, age=float(match[2]), person=match[1], ready_crop=options["crops"]))
    return entries


def read_csv(source: Source, options: dict) -> list[Entry | Problem]:
    """A generic CSV with `path` (relative to it) and `age`, or `age_min`/`age_max`; person, gender, group, split."""
    folder, table = source.table(options["csv_name"])
    table = table.rename(columns={old: new for new, old in options["columns"].items()})
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
            ages = {key: _number(row.get(key, "")) for key in ("age", "age_min", "age_max")}
        except ValueError as error:
            entries.append(Problem(name, f"its age is no number ({error})"))
            continue
        texts = {key: row[key].strip().lower() if key != "person" else row[key].strip() for key in present}
        entries.append(Entry(name, **ages, **texts, ready_crop=options["crops"]))
    return entries


class SyntheticSource(Source):
    """Drawn faces (see common/synthetic.py) offered like a folder of PNG files."""

    def __init__(self, count: int, seed: int, size: int):
        crops, self.labels = generate_faces(count, seed, size)
        self.files = dict(zip(self.labels["name"], map(_png, crops), strict=True))
        self.root, self.names = Path("synthetic"), list(self.files)

    def read(self, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (name, PNG bytes) of the wanted faces."""
        return ((name, data) for name, data in self.files.items() if name in wanted)


def read_synthetic(source: SyntheticSource, options: dict) -> list[Entry | Problem]:
    """Drawn faces with exact ages and persons."""
    return [
        Entry(row.name, float(row.age), person=row.person, gender=row.gender, group=row.group, ready_crop=True)
        for row in source.labels.itertuples(index=False, name="Row")
    ]


def _png(crop: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(crop).save(stream, "PNG")
    return stream.getvalue()


def _number(text: str) -> float | None:
    return float(text) if str(text).strip() else None


READERS = {
    "utkface": read_utkface,
    "fairface": read_fairface,
    "fgnet": read_fgnet,
    "csv": read_csv,
    "synthetic": read_synthetic,
}
