"""Prepared data sets: `manifest.csv` beside `crops.npy`, row i of the one being row i of the other."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.errors import DataError
from common.labels import NUMBERS
from common.labels import OLDEST as OLDEST

COLUMNS = ["path", "id", "age", "age_min", "age_max", "person", "gender", "group", "split"]
SPLITS = ("base", "dar", "val", "calib", "test")
BLOCK = 4096  # crops copied at once


@dataclass(frozen=True)
class PreparedSet:
    """One prepared data set: its manifest, its packed crops (memory-mapped) and where it lies."""

    folder: Path
    manifest: pd.DataFrame  # COLUMNS, N rows
    crops: np.ndarray  # [N, S, S, 3] uint8 RGB

    def rows(self, split: str) -> np.ndarray:
        """Row numbers [M] int64 of one split, ascending; raises DataError for a name that is no split."""
        if split not in SPLITS:
            raise DataError(f"'{split}' is not a split; use one of {', '.join(SPLITS)}.")
        return np.flatnonzero(self.manifest["split"].to_numpy() == split)


def read_manifest(path: str | Path) -> pd.DataFrame:
    """Read a manifest CSV into COLUMNS; ages are float64 years with NaN for unknown, the rest text.

    Columns beyond COLUMNS are kept, missing ones are added empty. Raises DataError if the file is missing,
    is not a CSV with a `path` column, or holds an age that is no number.
    """
    path = Path(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"There is no manifest at {path}; check the name.") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} cannot be read as a CSV table ({error}).") from None
    if "path" not in table.columns:
        raise DataError(f"{path} has no column 'path'; its columns are {', '.join(table.columns)}.")
    for column in COLUMNS:
        if column not in table.columns:
            table[column] = ""
    for column in NUMBERS:
        numbers = pd.to_numeric(table[column], errors="coerce")
        wrong = table.index[numbers.isna() & (table[column].str.strip() != "")]
        if len(wrong):
            raise DataError(f"{path}, line {wrong[0] + 2}: {column} '{table[column][wrong[0]]}' is no number.")
        table[column] = numbers
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
    """Open a folder written by scripts/prepare_data.py; raises DataError if it is incomplete."""
    folder = Path(folder)
    for name in ("manifest.csv", "crops.npy", "prepared.json"):
        if not (folder / name).is_file():
            raise DataError(f"{folder} is not a prepared data set (no {name}); make one with scripts/prepare_data.py.")
    manifest = read_manifest(folder / "manifest.csv")
    crops = np.load(folder / "crops.npy", mmap_mode="r")
    if len(manifest) != len(crops):
        raise DataError(
            f"{folder}: manifest.csv has {len(manifest)} rows but crops.npy {len(crops)}; prepare it again."
        )
    return PreparedSet(folder, manifest, crops)


def write_crops(path: str | Path, crops: np.ndarray, rows: np.ndarray) -> None:
    """Write the crops [N, S, S, 3] uint8 of these rows [M] as a .npy file, block by block."""
    written = np.lib.format.open_memmap(path, "w+", np.uint8, (len(rows), *crops.shape[1:]))
    for start in range(0, len(rows), BLOCK):
        written[start : start + BLOCK] = crops[rows[start : start + BLOCK]]
    written.flush()


def renamed(table: pd.DataFrame, columns: dict[str, str], name: str) -> pd.DataFrame:
    """A table with its `columns` (ours: theirs) under our names; raises DataError naming one that it lacks."""
    missing = [theirs for theirs in columns.values() if theirs not in table.columns]
    if missing:
        raise DataError(f"{name} has no column '{missing[0]}'; it has {', '.join(table.columns)}.")
    return table.rename(columns={theirs: ours for ours, theirs in columns.items()})
