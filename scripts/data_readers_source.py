"""What every reader of a data set shares: a labelled picture, a source of files, labels from names or from tables."""

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from common.crops import IMAGE_SUFFIXES
from common.errors import DataError

GENDERS = {"m": "male", "f": "female"}  # by the first letter in small letters; anything else is unknown


@dataclass(frozen=True)
class Entry:
    """One labelled picture: where it lies in the source and what is known of it (ages in years).

    `split` is one of ours or '' (to be decided by hash); `box` is (left, top, right, bottom) in pixels of the face
    that is meant, None for the largest; `further` are columns of the manifest beyond the common ones.
    """

    path: str
    age: float | None = None
    age_min: float | None = None
    age_max: float | None = None
    person: str = ""
    gender: str = ""
    group: str = ""
    split: str = ""
    ready_crop: bool = False
    box: tuple[float, float, float, float] | None = None
    further: dict[str, str] = field(default_factory=dict)


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

    def find(self, file_name: str) -> str:
        """The first of the least deep names whose last part is this ('' if there is none)."""
        found = (name for name in self.names if name.rsplit("/", 1)[-1] == file_name)
        return min(found, key=lambda name: name.count("/"), default="")

    def table(self, file_name: str, separator: str = ",") -> tuple[str, pd.DataFrame]:
        """The CSV of this name: (its folder with a closing slash or '', its rows as text)."""
        found = self.find(file_name)
        if not found:
            raise DataError(f"{self.root} holds no {file_name}; give the folder or archive that does.")
        _, content = next(self.read({found}))
        try:
            table = pd.read_csv(io.BytesIO(content), sep=separator, dtype=str, keep_default_na=False)
        except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise DataError(f"{self.root}: {found} cannot be read as a table ({error}).") from None
        return found.removesuffix(file_name), table.rename(columns=str.strip)

    def by_ending(self, parts: int, names: list[str] | None = None) -> dict[str, str]:
        """Names of pictures (all, or of `names`) by their last `parts` parts."""
        return {"/".join(name.split("/")[-parts:]): name for name in (self.images() if names is None else names)}


def from_names(
    names: list[str], pattern: re.Pattern, expected: str, describe: Callable[[str, re.Match], Entry]
) -> list[Entry | Problem]:
    """An entry for every name whose last part matches `pattern` (`expected` in words), a problem for any other."""
    found: list[Entry | Problem] = []
    for name in names:
        match = pattern.match(name.rsplit("/", 1)[-1])
        found.append(describe(name, match) if match else Problem(name, f"misnamed: expected {expected}"))
    return found


def from_table(
    table: pd.DataFrame, needed: tuple[str, ...], title: str, describe: Callable[[dict[str, str]], Entry]
) -> list[Entry | Problem]:
    """An entry for every row of a table; a row whose age is no number becomes a problem.

    The first of the `needed` columns names the picture. Raises DataError, naming the table `title`, if one is missing.
    """
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise DataError(f"{title} has no column '{missing[0]}'; its columns are {', '.join(table.columns)}.")
    found: list[Entry | Problem] = []
    for row in table.to_dict("records"):
        try:
            found.append(describe(row))
        except ValueError as error:
            found.append(Problem(row[needed[0]], f"its age is no number ({error})"))
    return found


def number(text: str) -> float | None:
    """The number a text stands for, None for an empty one; raises ValueError for any other text."""
    return float(text) if str(text).strip() else None


def gender_of(text: str) -> str:
    """male, female or '' for words and letters such as M, f, Female, u."""
    return GENDERS.get(text.strip().lower()[:1], "")


def published_part(part: str) -> dict:
    """Fields of an Entry that lies in a published part: 'train', 'val' or 'test'.

    The part is kept in the column `official`; the published test part is our `test`, the rest is decided by hash.
    """
    return {"split": "test" if part == "test" else "", "further": {"official": part}}
