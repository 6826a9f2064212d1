"""Files of photos: which ones a folder holds, and the bytes of one."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import ImageError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
IMAGE_SUFFIXES |= {".heic", ".heif", ".avif", ".jp2"}
MAX_BYTES = 200_000_000  # of an image's file
SOFTWARE = "age-by-difference"  # in the images that the product draws: PNG text "Software", or comment of a JPEG
PNG_MARK = b"tEXtSoftware\0" + SOFTWARE.encode()
JPEG_MARK = b"\xff\xfe" + (2 + len(SOFTWARE)).to_bytes(2, "big") + SOFTWARE.encode()
DRAWING_HEAD = 4096  # bytes of a file within which a mark stands
DRAWINGS = "drawings of our own"


@dataclass
class Listing:
    """The images of a folder, in order; what else it holds, suffix to count; folders that cannot be read, and why."""

    files: list[Path] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    unreadable: dict[Path, str] = field(default_factory=dict)


def list_pictures(folder: Path, skip: Path | None = None) -> Listing:
    """The images of a folder and of those below it, without hidden files, the folder `skip` and drawings of ours.

    Linked folders are followed, each folder once; images are known by their suffix and sorted by their path.
    """
    listing = Listing()
    for file in _walk(folder, skip, listing.unreadable):
        if file.suffix.lower() not in IMAGE_SUFFIXES:
            listing.skipped[file.suffix.lower() or "without a suffix"] += 1
        elif is_drawing(_head(file)):
            listing.skipped[DRAWINGS] += 1
        else:
            listing.files.append(file)
    listing.files.sort()
    return listing


def _walk(folder: Path, skip: Path | None, unreadable: dict[Path, str]) -> Iterator[Path]:
    """Yield what is no folder; linked folders come last, so that a folder goes by its own name where it has one."""
    left_out = set() if skip is None or skip.resolve() == folder.resolve() else {skip.resolve()}
    seen, folders = left_out, [folder]
    linked: list[Path] = []
    while folders or linked:
        here = folders.pop() if folders else linked.pop(0)
        if here.resolve() in seen:
            continue
        seen.add(here.resolve())
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            unreadable[here] = error.strerror or str(error)
            continue
        for entry in entries:
            path = here / entry.name
            if entry.name.startswith("."):
                continue
            if path.is_dir():
                (linked if entry.is_symlink() else folders).append(path)
            else:
                yield path


def _head(file: Path) -> bytes:
    try:
        return _read(file, DRAWING_HEAD)
    except (OSError, ImageError):
        return b""  # it is named when it is to be read


def is_drawing(head: bytes) -> bool:
    """Whether an image whose first bytes are given was drawn by the product itself."""
    return any(mark in head[:DRAWING_HEAD] for mark in (PNG_MARK, JPEG_MARK))


def not_looked_at(listing: Listing) -> str:
    """What was left out and what cannot be read, in a sentence or two; '' if there is nothing to say."""
    sentences = []
    if listing.skipped:
        count = sum(listing.skipped.values())
        kinds = sorted(listing.skipped.items(), key=lambda kind: (-kind[1], kind[0]))
        named = ", ".join(f"{number} {_singular(kind, number)}" for kind, number in kinds)
        sentences.append(f"{count} file{'s' if count > 1 else ''} not looked at: {named}.")
    sentences += [f"{folder} cannot be read ({why})." for folder, why in sorted(listing.unreadable.items())]
    return " ".join(sentences)


def _singular(kind: str, number: int) -> str:
    return kind.replace("drawings", "drawing") if number == 1 else kind


def read_bytes(path: str | Path, name: str) -> bytes:
    """The bytes of an image file; raises ImageError naming `name` if there is none."""
    try:
        data = _read(Path(path), MAX_BYTES + 1)
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file.") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: cannot be read: a folder without images.") from None
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror}).") from None
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except ValueError:  # a null byte in the name
        raise ImageError(f"{name}: this is not a usable file name.") from None
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name}: the file is too large (more than {MAX_BYTES // 10**6} MB).")
    return data


def _read(path: Path, most: int) -> bytes:
    """The first bytes of a regular file, without waiting for a pipe; raises ImageError if it is anything else."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb", buffering=0) as stream:  # shut whatever happens
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("this is not a regular file but a pipe or a device.")
        if most > MAX_BYTES and status.st_size > MAX_BYTES:
            raise ImageError(f"the file is too large (more than {MAX_BYTES // 10**6} MB).")
        return stream.read(min(most, status.st_size + 1)) or b""
