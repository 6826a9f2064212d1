"""Prepared data sets: `manifest.csv` beside `crops.npy`, whose rows are matched by `crops.csv` (row, id)."""

import hashlib
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.data import SPLITS as SPLITS
from common.data.labels import NUMBERS, known_column, parse_ages, person_name, read_table
from common.data.labels import OLDEST as OLDEST
from common.errors import DataError
from common.files import replacing, write_whole

COLUMNS = ["path", "id", "age", "age_min", "age_max", "person", "gender", "group", "split"]
BLOCK = 4096  # crops copied at once
CROPS, INDEX, DIGESTS = "crops.npy", "crops.csv", "crops.json"
AGAIN = "prepare it again with scripts/prepare_data.py"


class CropRows:
    """Some rows of packed crops, in any order, read when they are asked for; behaves like crops [N, S, S, 3] uint8."""

    def __init__(self, crops: np.ndarray, rows: np.ndarray):
        self.crops, self.rows = crops, np.asarray(rows, np.int64)
        self.shape, self.dtype, self.ndim = (len(self.rows), *crops.shape[1:]), crops.dtype, crops.ndim

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index) -> np.ndarray:
        return self.crops[self.rows[index]]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.crops[self.rows], dtype)


@dataclass(frozen=True)
class PreparedSet:
    """One prepared data set: its manifest, its packed crops (memory-mapped) and where it lies."""

    folder: Path
    manifest: pd.DataFrame  # COLUMNS, N rows
    crops: np.ndarray | CropRows  # [N, S, S, 3] uint8 RGB, row i being that of row i of the manifest

    def rows(self, split: str) -> np.ndarray:
        """Row numbers [M] int64 of one split, ascending; raises DataError for a name that is no split."""
        if split not in SPLITS:
            raise DataError(f"'{split}' is not a split; use one of {', '.join(SPLITS)}.")
        return np.flatnonzero(self.manifest["split"].to_numpy() == split)


def read_manifest(path: str | Path) -> pd.DataFrame:
    """Read a manifest CSV into COLUMNS; ages are float64 years with NaN for unknown, the rest text.

    Columns beyond COLUMNS are kept, missing ones are added empty. A row whose age cannot be read has none, which is
    said on stderr. Raises DataError if the file is missing, is not a CSV with a `path` column, or if none of its ages
    can be read.
    """
    path = Path(path)
    table = read_table(path, "manifest")
    if "path" not in table.columns:
        raise DataError(f"{path} has no column 'path'; its columns are {', '.join(table.columns)}.")
    for column in COLUMNS:
        if column not in table.columns:
            table[column] = ""
    ages = parse_ages(table)
    table[NUMBERS] = ages.values
    table["person"] = table["person"].map(person_name)
    for column in ("id", "gender", "group", "split"):
        table[column] = table[column].str.strip()
    if ages.problems:
        row, reason = next(iter(ages.problems.items()))
        if table[NUMBERS].isna().all(axis=None):
            raise DataError(f"{path}: no age in it can be read; that of {table['path'][row]}: {reason}.")
        others = f" (and {len(ages.problems) - 1} more)" if len(ages.problems) > 1 else ""
        print(f"{path}: the age of {table['path'][row]}{others} is not used: {reason}", file=sys.stderr)
    return table


def age_bounds(manifest: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest possible age of each row, two arrays [N] float64 in years.

    An exact age is an interval of length 0; an open end becomes 0 or OLDEST; a row without any age is NaN.
    """
    age, low, high = (manifest[column].to_numpy(float) for column in NUMBERS)
    labelled = ~(np.isnan(age) & np.isnan(low) & np.isnan(high))
    low = np.where(np.isnan(age), np.where(np.isnan(low), 0.0, low), age)
    high = np.where(np.isnan(age), np.where(np.isnan(high), OLDEST, high), age)
    return np.where(labelled, low, np.nan), np.where(labelled, high, np.nan)


def load_prepared(folder: str | Path) -> PreparedSet:
    """Open a folder written by scripts/prepare_data.py; a sorted or cut manifest finds its crops by id.

    Raises DataError if it is incomplete, or if a row of the manifest has no crop that is surely its own.
    """
    folder = Path(folder)
    if (folder / "started.json").is_file() and not (folder / "prepared.json").is_file():
        raise DataError(f"The preparation of {folder} was not finished; run its scripts/prepare_data.py again.")
    for name in ("manifest.csv", CROPS, "prepared.json"):
        if not (folder / name).is_file():
            raise DataError(f"{folder} is not a prepared data set (no {name}); make one with scripts/prepare_data.py.")
    manifest = read_manifest(folder / "manifest.csv")
    return PreparedSet(folder, manifest, open_crops(folder, manifest))


def open_crops(folder: Path, manifest: pd.DataFrame) -> np.ndarray | CropRows:
    """The packed crops of a prepared folder, one for each row of a manifest of it; raises DataError."""
    try:
        crops = np.load(folder / CROPS, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder / CROPS} cannot be read ({error}); {AGAIN}.") from None
    if crops.ndim != 4 or crops.shape[3] != 3 or crops.dtype != np.uint8:
        raise DataError(f"{folder / CROPS} holds no crops [N, S, S, 3] uint8; {AGAIN}.")
    if not (folder / INDEX).is_file():
        return _unindexed(folder, manifest, crops)
    crops_digest(folder)
    index = read_table(folder / INDEX)
    if not {"row", "id"} <= set(index.columns) or index["row"].tolist() != [str(row) for row in range(len(crops))]:
        raise DataError(f"{folder / INDEX} does not list the {len(crops)} crops beside it; {AGAIN}.")
    ids, known = manifest["id"].to_numpy(str), index["id"].to_numpy(str)
    if np.array_equal(ids, known):
        return crops
    place = pd.Series(np.arange(len(known)), index=known)
    foreign = [number for number in ids if number not in place.index]
    if foreign or not (place.index.is_unique and pd.Index(ids).is_unique):
        what = f"has an id '{foreign[0]}' without a crop" if foreign else "has an id twice"
        raise DataError(f"{folder / 'manifest.csv'} {what}; {AGAIN}.")
    return CropRows(crops, place[ids].to_numpy())


def _unindexed(folder: Path, manifest: pd.DataFrame, crops: np.ndarray) -> np.ndarray | CropRows:
    """Crops by the row numbers that a manifest has in its file: all there is to go by in an older set."""
    count = len(read_table(folder / "manifest.csv"))
    if count != len(crops):
        raise DataError(f"{folder}: manifest.csv has {count} rows but crops.npy {len(crops)}; prepare it again.")
    print(f"{folder} has no {INDEX}: row i of its manifest is taken for crop i; {AGAIN}.", file=sys.stderr)
    return crops if len(manifest) == count else CropRows(crops, manifest.index.to_numpy())


def crops_digest(folder: str | Path) -> str:
    """SHA-256 of crops.npy: as noted at its preparation while its size and time agree, else computed anew.

    Raises DataError if the crops or their index are not those that were prepared.
    """
    folder = Path(folder)
    state = (folder / CROPS).stat()
    now = {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
    try:
        noted = json.loads((folder / DIGESTS).read_text())
        digest, index = str(noted["sha256"]), noted.get("index")
    except (OSError, ValueError, KeyError, TypeError):
        noted, digest, index = {}, "", None
    if index and index != _sha256(folder / INDEX):
        raise DataError(f"{folder / INDEX} is not the index of the crops beside it; {AGAIN}.")
    if digest and all(noted.get(name) == value for name, value in now.items()):
        return digest
    actual = _sha256(folder / CROPS)
    if index and digest != actual:
        raise DataError(f"{folder / CROPS} is not the file that was prepared; {AGAIN}.")
    with suppress(OSError):  # a read-only set: computed every time
        write_whole(folder / DIGESTS, json.dumps(noted | now | {"sha256": actual}))
    return actual


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_index(folder: Path, ids: pd.Series, cut: pd.Series | None = None, source: str = "") -> None:
    """Write crops.csv and crops.json beside crops.npy, whose rows show the images with these ids [N].

    `cut` [N] says how each was cut out of its image, `source` is a digest of everything they were prepared from.
    """
    index = pd.DataFrame({"row": range(len(ids)), "id": list(ids), "cut": "" if cut is None else list(cut)})
    write_whole(folder / INDEX, index.to_csv(index=False))
    state = (folder / CROPS).stat()
    noted = {"sha256": _sha256(folder / CROPS), "size": state.st_size, "mtime_ns": state.st_mtime_ns}
    write_whole(folder / DIGESTS, json.dumps(noted | {"index": _sha256(folder / INDEX), "source": source}))


def write_crops(path: str | Path, crops: np.ndarray | CropRows, rows: np.ndarray) -> None:
    """Write the crops [N, S, S, 3] uint8 of these rows [M] as a .npy file, block by block, whole or not at all."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *crops.shape[1:])}
    with replacing(path) as whole, open(whole, "wb") as file:  # no memory map: on a full disk that ends the process
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(rows), BLOCK):
            file.write(np.ascontiguousarray(crops[rows[start : start + BLOCK]]).tobytes())


def drawn(rows: np.ndarray, limit: int, seed: int = 0) -> np.ndarray:
    """`limit` of the rows [M], drawn at random by the seed, in their order; all of them for 0 or if there are fewer."""
    if not limit or limit >= len(rows):
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))


def renamed(table: pd.DataFrame, columns: dict[str, str], name: str) -> pd.DataFrame:
    """A table with its `columns` (ours: theirs) under our names; raises DataError naming one that it lacks."""
    columns = {ours: name if name in table.columns else known_column(name) for ours, name in columns.items()}
    missing = [theirs for theirs in columns.values() if theirs not in table.columns]
    if missing:
        raise DataError(f"{name} has no column '{missing[0]}'; it has {', '.join(table.columns)}.")
    return table.rename(columns={theirs: ours for ours, theirs in columns.items()})
