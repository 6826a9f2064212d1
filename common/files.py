"""Files that are written whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path to write to, put in the place of `path` when everything is written; a kill leaves the old file whole.

    What is no regular file (a pipe, /dev/stdout) is written to directly.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve()  # what a link leads to
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: str | Path, text: str) -> None:
    """Write a text file that stays whole (the old one, or the new one) whenever the writing is cut off."""
    with replacing(path) as whole:
        whole.write_text(text, encoding="utf-8")
