"""Evaluation protocols: which face of a prepared set is trained on and which is tested, as data with a hash.

A protocol turns a manifest into folds. A fold names the split of every face, '' leaving it out. What it trains on is
divided into base, dar, val and calib by the hash of common/data/splits.py, so a fold fits every pipeline. Nothing
here depends on the order of rows, on file names or on random numbers: the same images give the same folds anywhere.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.manifest import SPLITS, age_bounds
from common.data.splits import components, duplicate_pairs, equal_pairs, split_of
from common.errors import DataError

TEST_SHARE = 0.2
NAME_COLUMNS = ("name", "file", "path", "filename")  # of published lists; else their first column
PARTS = {"train": "", "valid": "val", "val": "val", "test": "test"}  # of published lists, '' to be divided by hash


@dataclass(frozen=True)
class Fold:
    """Name of a fold and the split [N] str of every row of the manifest: one of SPLITS, or '' (left out)."""

    name: str
    split: np.ndarray


@dataclass(frozen=True)
class Request:
    """What is asked of a protocol: folds, seed of the draw, ages [low, high] in years, published part by name."""

    protocol: str
    folds: int = 5
    seed: int = 0
    ages: tuple[float, float] | None = None
    published: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Faces:
    """A manifest of N rows and the key [N] str of the group that each row must not be parted from."""

    manifest: pd.DataFrame
    key: np.ndarray

    @classmethod
    def of(cls, manifest: pd.DataFrame, crops: np.ndarray) -> "Faces":
        """Group rows by person and by image (crops [N, S, S, 3] uint8), as the splits of a prepared set are."""
        joined = [duplicate_pairs(crops), equal_pairs(manifest["person"]), equal_pairs(manifest["id"])]
        group = components(len(manifest), np.concatenate(joined))
        own = manifest["person"].where(manifest["person"] != "", manifest["id"])
        return cls(manifest, own.groupby(group).transform("min").to_numpy(str))


def position(key: str, seed: int) -> str:
    """Where a key stands in the order that folds are dealt in: a hexadecimal SHA-1 of seed and key."""
    return hashlib.sha1(f"{seed}:{key}".encode()).hexdigest()


def training_split(key: str) -> str:
    """base, dar, val or calib for a group that is trained on: the usual hash, again if it says test."""
    name = split_of(key)
    while name == "test":
        key = f"{key} again"
        name = split_of(key)
    return name


def divided(test: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Split [N] str of a fold whose test part is the mask `test` [N], groups `key` [N] of the rest kept together."""
    return np.where(test, "test", _training_splits(key))


def _training_splits(key: np.ndarray) -> np.ndarray:
    names, inverse = np.unique(key, return_inverse=True)
    return np.array([training_split(name) for name in names], dtype="<U5")[inverse]


def dealt(key: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold number [N] int of every row: groups go, in hash order, to the fold that is smallest so far.

    The sizes of two folds differ by at most the size of the largest group. Raises DataError for more folds than groups.
    """
    names, inverse, sizes = np.unique(key, return_inverse=True, return_counts=True)
    if not 2 <= folds <= len(names):
        raise DataError(f"{folds} folds cannot be made of {len(names)} groups of faces; change --folds.")
    order = sorted(range(len(names)), key=lambda group: position(str(names[group]), seed))
    fold, filled = np.empty(len(names), int), np.zeros(folds, int)
    for group in order:
        fold[group] = np.argmin(filled)
        filled[fold[group]] += sizes[group]
    return fold[inverse]


def drawn(key: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Mask [N] of the groups that come first in hash order and hold at most `share` of the rows, and at least one."""
    names, inverse, sizes = np.unique(key, return_inverse=True, return_counts=True)
    order = np.array(sorted(range(len(names)), key=lambda group: position(str(names[group]), seed)))
    taken = np.cumsum(sizes[order]) <= share * len(key)
    taken[0] = True
    chosen = np.zeros(len(names), bool)
    chosen[order[taken]] = True
    return chosen[inverse]


def known_persons(faces: Faces) -> np.ndarray:
    """Persons [N] str; raises DataError if the manifest names none: nothing on it can be subject-exclusive."""
    person = faces.manifest["person"].to_numpy(str)
    if not (person != "").any():
        raise DataError("This set names no persons, so no protocol on it is subject-exclusive; use random-80-20.")
    return person


def subject_kfold(faces: Faces, request: Request) -> list[Fold]:
    """k folds of about equal size; a person is in one of them."""
    known_persons(faces)
    number = dealt(faces.key, request.folds, request.seed)
    return [Fold(f"fold{fold}", divided(number == fold, faces.key)) for fold in range(request.folds)]


def subject_80_20(faces: Faces, request: Request) -> list[Fold]:
    """80 % to train on, 20 % to test on; a person is on one side."""
    known_persons(faces)
    return [Fold("split", divided(drawn(faces.key, TEST_SHARE, request.seed), faces.key))]


def random_80_20(faces: Faces, request: Request) -> list[Fold]:
    """80 % and 20 % of the images, whoever they show: leaks identities. Published with it: much of MORPH II."""
    key = faces.manifest["id"].to_numpy(str)
    return [Fold("split", divided(drawn(key, TEST_SHARE, request.seed), key))]


def leave_one_person_out(faces: Faces, request: Request) -> list[Fold]:
    """A fold for each person (FG-NET); rows that show the same image under another name are left out of it."""
    person, folds = known_persons(faces), []
    for name in sorted(set(person) - {""}):
        test = person == name
        split = divided(test, faces.key)
        split[np.isin(faces.key, faces.key[test]) & ~test] = ""
        folds.append(Fold(f"person_{_file_part(name)}", split))
    return folds


def official(faces: Faces, request: Request) -> list[Fold]:
    """The published training, validation and test part, from the column `official` of the manifest."""
    part = _column(faces.manifest, "official")
    return [Fold("split", _parts_to_splits(part, faces.key))]


def official_folds(faces: Faces, request: Request) -> list[Fold]:
    """The published folds, from the column `fold` of the manifest (Adience)."""
    fold = _column(faces.manifest, "fold")
    return [Fold(f"fold{name}", divided(fold == name, faces.key)) for name in sorted(set(fold) - {""})]


def published_list(faces: Faces, request: Request) -> list[Fold]:
    """A published list of names and parts (--split-file); images it does not name are left out."""
    names = faces.manifest["path"].to_numpy(str)
    listed = request.published
    part = np.array([listed.get(name, listed.get(name.rsplit("/", 1)[-1], "none")) for name in names])
    if (part == "none").all():
        raise DataError("The list of --split-file names no image of this set; check both.")
    return [Fold("split", _parts_to_splits(part, faces.key))]


def _column(manifest: pd.DataFrame, name: str) -> np.ndarray:
    values = manifest[name].to_numpy(str) if name in manifest.columns else np.array([""])
    if not (values != "").any():
        raise DataError(f"The manifest has no published parts (column '{name}'); prepare the set with its own reader.")
    return values


def _parts_to_splits(part: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Splits [N] for published parts [N] (train, val, test, one of SPLITS, or anything else to leave the row out)."""
    training, names = _training_splits(key), PARTS | {name: name for name in SPLITS}
    split = np.array([names.get(name, "left out") for name in part])
    return np.where(split == "left out", "", np.where(split == "", training, split))


def _file_part(name: str) -> str:
    """A person's name as a part of a file name; names that differ stay different."""
    safe = re.sub(r"[^\w.-]", "_", name)
    return safe if safe == name else f"{safe}_{hashlib.sha1(name.encode()).hexdigest()[:6]}"


PROTOCOLS: dict[str, Callable[[Faces, Request], list[Fold]]] = {
    "subject-kfold": subject_kfold,
    "subject-80-20": subject_80_20,
    "random-80-20": random_80_20,
    "leave-one-person-out": leave_one_person_out,
    "official": official,
    "official-folds": official_folds,
    "list": published_list,
}


def make_folds(faces: Faces, request: Request) -> list[Fold]:
    """Folds of a protocol on the faces whose age is exact and within `request.ages` (None: on all labelled faces).

    Faces without a label or outside these ages are in no split. Raises DataError if a fold has no test face.
    """
    low, high = age_bounds(faces.manifest)
    keep = ~np.isnan(low)
    if request.ages:
        keep = keep & (low == high) & (low >= request.ages[0]) & (high <= request.ages[1])
    if not keep.any():
        raise DataError("No face has an exact age within --ages.")
    chosen = Faces(faces.manifest[keep].reset_index(drop=True), faces.key[keep])
    folds = []
    for fold in PROTOCOLS[request.protocol](chosen, request):
        split = np.full(len(keep), "", dtype="<U5")
        split[keep] = fold.split
        if not (split == "test").any() or not ((split != "") & (split != "test")).any():
            raise DataError(f"{request.protocol}, {fold.name}: there is nothing to test on, or nothing beside it.")
        folds.append(Fold(fold.name, split))
    return folds


def people_on_both_sides(manifest: pd.DataFrame, split: np.ndarray) -> int | None:
    """How many persons are tested on and trained on in a fold; None if the manifest names no persons."""
    person = manifest["person"].to_numpy(str)
    if not (person != "").any():
        return None
    named = person != ""
    tested, trained = (set(person[named & side]) for side in (split == "test", (split != "test") & (split != "")))
    return len(tested & trained)


def split_table(manifest: pd.DataFrame, split: np.ndarray) -> pd.DataFrame:
    """Columns name, id, split of the faces in a fold, ordered by id: what a split file holds."""
    table = pd.DataFrame({"name": manifest["path"], "id": manifest["id"], "split": split})
    return table[table["split"] != ""].sort_values("id").reset_index(drop=True)


def split_hash(table: pd.DataFrame) -> str:
    """SHA-1 of the (image, split) pairs of a split table, in any order; images by `id`, or by `name` without it."""
    key = "id" if "id" in table.columns else "name"
    lines = sorted(f"{picture},{split}" for picture, split in zip(table[key], table["split"], strict=True))
    return hashlib.sha1("\n".join(lines).encode()).hexdigest()


def read_split_file(path: str | Path) -> pd.DataFrame:
    """A split file as text; raises DataError if it has no columns name (or id) and split."""
    table = _read_list(path)
    if "split" not in table.columns or not {"name", "id"} & set(table.columns):
        raise DataError(f"{path} is no split file: it needs the columns name (or id) and split.")
    return table


def read_published(words: Iterable[str]) -> dict[str, str]:
    """Part by image name from PART=LIST.csv words (train, val, test), or from one CSV with the columns name,split.

    The names are in a column name, file, path or filename, else in the first. Raises DataError for anything else.
    """
    listed: dict[str, str] = {}
    for word in words:
        part, equals, path = word.partition("=")
        table = _read_list(path) if equals else read_split_file(word)
        names = table[next((column for column in NAME_COLUMNS if column in table.columns), table.columns[0])]
        parts = [part] * len(table) if equals else list(table["split"])
        wrong = sorted(set(parts) - set(PARTS) - set(SPLITS))
        if wrong:
            raise DataError(f"'{wrong[0]}' is no part of a list; use train, val, test or {', '.join(SPLITS)}.")
        repeated = set(names) & set(listed)
        if repeated:
            raise DataError(f"{path or word} names {sorted(repeated)[0]}, which another list names too.")
        listed |= dict(zip(names, parts, strict=True))
    return listed


def _read_list(path: str | Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} cannot be read as a list ({error}).") from None
