"""Files that are written whole or not at all, by one writer at a time."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from common.errors import DataError


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
    """Write a text file that stays whole (the old one, or the new one) whenever the writing is cut off."""
    with replacing(path) as whole:
        whole.write_text(text, encoding="utf-8")


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
