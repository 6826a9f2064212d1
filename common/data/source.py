"""What every reader of a data set shares: a labelled image, a source of files, labels from names or from tables."""

import math
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from lzma import LZMAError
from pathlib import Path

import pandas as pd

from common.data.labels import parse_age, parse_table
from common.errors import DataError
from common.faces.photo_files import IMAGE_SUFFIXES

LARGEST_FILE = 200 * 2**20  # bytes; no image or table of labels is larger
AFTER_END = 64 * 2**20  # bytes read behind the end mark of an archive, to verify what it is packed in
GENDERS = {"m": "male", "f": "female"}  # by the first letter in small letters; anything else is unknown


@dataclass(frozen=True)
class Entry:
    """One labelled image: where it lies in the source and what is known of it (ages in years).

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
    """A folder, a tar or tar.gz, or a folder's CSV file; every name is relative to it.

    `problems` are files of it that are never read: larger than LARGEST_FILE; in an archive also links, what is sparse
    and what is there twice.
    """

    root: Path
    names: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self):
        if not self.root.exists():
            raise DataError(f"There is nothing at {self.root}; give a folder, a .tar, a .tar.gz or a CSV file.")
        if self.root.is_dir():
            names = [(folder, name) for folder, _, files in seen_folders(self.root) for name in files]
            files = [path for folder, name in names if (path := Path(folder, name)).is_file()]
            sizes = [(path.relative_to(self.root).as_posix(), path.stat().st_size) for path in files]
        else:
            members = [(member.name, member.isfile(), _size(member)) for member in self._members()]
            sizes = [(name, size) for name, regular, size in members if regular]
            self.problems += [Problem(name, "a link or a device") for name, regular, _ in members if not regular]
        names = [name for name, _ in sizes]
        twice = {name for name, count in Counter(names).items() if count > 1}
        large = {name for name, size in sizes if size > LARGEST_FILE} - twice
        self.problems += [Problem(name, "its name is in the archive twice") for name in sorted(twice)]
        self.problems += [Problem(name, "larger than any image, or sparse") for name in sorted(large)]
        self.names = sorted(set(names) - twice - large)

    def _members(self) -> Iterator[tarfile.TarInfo]:
        """All but the folders of an archive; raises DataError if it is none, or is cut off or damaged anywhere."""
        try:
            with tarfile.open(self.root) as archive:
                yield from (member for member in archive if not member.isdir())
                self._check_end(archive)
        except (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{self.root} is neither a folder nor a readable tar archive, or is damaged ({reason}); get it again."
            ) from None

    def _check_end(self, archive: tarfile.TarFile) -> None:
        archive.fileobj.seek(archive.offset)
        mark = archive.fileobj.read(tarfile.BLOCKSIZE)
        if mark != b"\0" * tarfile.BLOCKSIZE:
            raise DataError(f"{self.root} is cut off or damaged: it ends without an end mark; get it again.")
        read = 0
        while (part := archive.fileobj.read(2**20)) and (read := read + len(part)) < AFTER_END:
            pass  # a packed archive is verified when it is read to its end

    def images(self) -> list[str]:
        """Names that end like an image's, without hidden files ("._x.jpg")."""
        names = [name for name in self.names if not name.rsplit("/", 1)[-1].startswith(".")]
        return [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]

    def read(self, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (name, bytes) of the wanted files in the order they are stored in, without unreadable images.

        Raises DataError for any other unreadable file and for a damaged archive.
        """
        wanted = wanted & set(self.names)
        if self.root.is_dir():
            for name in sorted(wanted):
                try:
                    data = (self.root / name).read_bytes()
                except OSError as error:
                    if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                        continue
                    raise DataError(f"{self.root / name} cannot be read ({error.strerror}).") from None
                yield name, data
            return
        try:
            with tarfile.open(self.root) as archive:
                for member in archive:
                    if member.name in wanted and member.isfile() and (file := archive.extractfile(member)):
                        yield member.name, file.read()
        except (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError) as error:
            raise DataError(f"{self.root} is damaged ({error}); get it again.") from None

    def find(self, file_name: str) -> str:
        """The first of the least deep names whose last part is this ('' if there is none)."""
        found = (name for name in self.names if name.rsplit("/", 1)[-1] == file_name)
        return min(found, key=lambda name: name.count("/"), default="")

    def table(self, file_name: str) -> tuple[str, pd.DataFrame]:
        """The table of this name: (its folder with a closing slash or '', its rows as text; see `parse_table`)."""
        found = self.find(file_name)
        if not found:
            raise DataError(f"{self.root} holds no {file_name}; give the folder or archive that does.")
        _, content = next(self.read({found}))
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"{self.root}: {found} is no UTF-8 text; save the table as 'CSV UTF-8'.") from None
        return found.removesuffix(file_name), parse_table(text, f"{self.root}: {found}")

    def by_ending(self, parts: int, names: list[str] | None = None) -> dict[str, str]:
        """Names of images (all, or of `names`) by their last `parts` parts."""
        return {"/".join(name.split("/")[-parts:]): name for name in (self.images() if names is None else names)}


def seen_folders(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk, without hidden folders (.venv, .git), wherever they lie."""
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield folder, inner, files


def _size(member: tarfile.TarInfo) -> int:
    """Bytes of a member of an archive; a sparse one, which may be of any size, counts as too large."""
    return LARGEST_FILE + 1 if member.issparse() else member.size


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

    The first of the `needed` columns names the image. Raises DataError, naming the table `title`, if one is missing.
    """
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise DataError(f"{title} has no column '{missing[0]}'; its columns are {', '.join(table.columns)}.")
    found: list[Entry | Problem] = []
    for row in table.to_dict("records"):
        try:
            found.append(describe(row))
        except ValueError as error:
            found.append(Problem(row[needed[0]], f"its age cannot be used: {error}"))
    return found


def number(text: str) -> float | None:
    """The exact age that a text states, None for an unknown one; raises ValueError for any other text."""
    stated = parse_age(text)
    if not (math.isnan(stated.low) and math.isnan(stated.high)):
        raise ValueError(f"'{text}' is an interval")
    return None if math.isnan(stated.age) else stated.age


def gender_of(text: str) -> str:
    """male, female or '' for words and letters such as M, f, Female, u."""
    return GENDERS.get(text.strip().lower()[:1], "")


def published_part(part: str) -> dict:
    """Fields of an Entry that lies in a published part: 'train', 'val' or 'test'.

    The part is kept in the column `official`; the published test part is our `test`, the rest is decided by hash.
    """
    return {"split": "test" if part == "test" else "", "further": {"official": part}}
