"""Crops made so far by a preparation, each found by the content of its image; kept until the set is finished."""

import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.data.manifest import CROPS, DIGESTS, INDEX, CropRows, crops_digest

MADE, PROGRESS = "crops.partial", "progress.tsv"


class Key(NamedTuple):
    """What decides a crop: SHA-1 of the image's bytes, and how the face is cut out of it."""

    id: str
    cut: str


class CropStore:
    """Crops [S, S, 3] uint8 by Key in a file that only grows, beside a list of them whose every line is checked.

    A line cut off by a kill, or a crop that is not what was written, is forgotten with all that follow.
    """

    def __init__(self, folder: Path, size: int):
        self.folder, self.shape = folder, (size, size, 3)
        self.bytes = size * size * 3
        self.slots: dict[Key, int] = {}
        self.problems: dict[Key, str] = {}
        good = self._read()
        self.made = open(folder / MADE, "r+b" if (folder / MADE).exists() else "w+b", opener=_no_link)  # noqa: SIM115
        self.made.truncate(len(self.slots) * self.bytes)
        self.made.seek(0, 2)
        self.progress = open(folder / PROGRESS, "w", encoding="utf-8", opener=_no_link)  # noqa: SIM115
        self.progress.writelines(good)
        self.progress.flush()

    def _read(self) -> list[str]:
        """Take over what an earlier run left; returns its good lines."""
        try:
            lines = (self.folder / PROGRESS).read_text(encoding="utf-8").splitlines(keepends=True)
            made = (self.folder / MADE).open("rb")
        except (OSError, UnicodeDecodeError):
            return []
        good = []
        with made:
            for line in lines:
                check, number, cut, told = (line.rstrip("\n").split("\t", 3) + [""] * 4)[:4]
                if not line.endswith("\n") or check != _checked(number, cut, told):
                    break
                if told.startswith("crop "):
                    crop = made.read(self.bytes)
                    if len(crop) != self.bytes or told != f"crop {zlib.crc32(crop)}":
                        break
                    self.slots[Key(number, cut)] = len(self.slots)
                else:
                    self.problems[Key(number, cut)] = told.removeprefix("problem ")
                good.append(line)
        return good

    def __contains__(self, key: Key) -> bool:
        return key in self.slots or key in self.problems

    def add(self, key: Key, crop: np.ndarray) -> None:
        """Keep the crop of an image, once."""
        if key in self:
            return
        data = np.ascontiguousarray(crop).tobytes()
        self.made.write(data)
        self.made.flush()
        self.slots[key] = len(self.slots)
        self._note(key, f"crop {zlib.crc32(data)}")

    def fail(self, key: Key, problem: str) -> None:
        """Keep why an image has no crop."""
        problem = " ".join(problem.split())
        self.problems[key] = problem
        self._note(key, f"problem {problem}")

    def _note(self, key: Key, told: str) -> None:
        self.progress.write(f"{_checked(*key, told)}\t{key.id}\t{key.cut}\t{told}\n")
        self.progress.flush()

    def take_finished(self, wanted: set[Key]) -> None:
        """Take over the wanted crops of a finished set in the folder, if it surely is what was written."""
        try:
            crops_digest(self.folder)
            index = pd.read_csv(self.folder / INDEX, dtype=str, keep_default_na=False)
            crops = np.load(self.folder / CROPS, mmap_mode="r")
            keys = [Key(*pair) for pair in zip(index["id"], index["cut"], strict=True)]
        except (OSError, ValueError, KeyError):
            return
        if not (self.folder / DIGESTS).is_file() or crops.shape != (len(keys), *self.shape):
            return
        for row, key in enumerate(keys):
            if key in wanted:
                self.add(key, crops[row])

    def crops(self, keys: list[Key]) -> CropRows:
        """The crops of these keys, in their order."""
        count = len(self.slots)
        made = (
            np.memmap(self.folder / MADE, np.uint8, "r", shape=(count, *self.shape))
            if count
            else np.empty((0, *self.shape), np.uint8)
        )
        return CropRows(made, np.array([self.slots[key] for key in keys], np.int64))

    def close(self) -> None:
        """Leave the files for the next run."""
        self.made.close()
        self.progress.close()

    def discard(self) -> None:
        """Remove the files: the set is finished."""
        self.close()
        for name in (MADE, PROGRESS):
            (self.folder / name).unlink(missing_ok=True)


def _no_link(path: str, flags: int) -> int:
    """Open a file of our own; raises OSError for a link, which may lead to a file of somebody else."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _checked(number: str, cut: str, told: str) -> str:
    return f"{zlib.crc32(chr(9).join((number, cut, told)).encode()):08x}"
