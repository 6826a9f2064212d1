"""The predictions table: what every inference writes and every report reads, one row per face."""

import io
import os
import re
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pandas as pd

from common.data.manifest import age_bounds
from common.errors import DataError
from common.faces.photo_files import IMAGE_SUFFIXES
from common.files import LARGEST_UNPACKED, is_packed, plain_name, read_whole, unpacking, write_whole

COLUMNS = [
    "id", "path", "face", "box", "status", "true_age", "base_age", "age", "interval_low", "interval_high",
    "n_references", "reference_ids", "reference_spread", "person", "gender", "group", "true_age_min", "true_age_max",
]  # fmt: skip
SHORT_COLUMNS = ["photo", "face", "age", "low", "high", "status", "base_age", "left", "top", "right", "bottom"]
IN_SHORT = {"path": "photo", "interval_low": "low", "interval_high": "high"}  # columns that both tables have
FORMULA = ("=", "+", "-", "@")  # begin a cell that a spreadsheet computes
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".parquet")  # what is not written
OK = "ok"  # status of a face that was estimated; any other status is the reason why it was not
DOUBTFUL = "doubtful: "  # begins the status of a face that was estimated although it can hardly be seen
NOT_FINITE = "the estimate is not a number"


def answered(table: pd.DataFrame) -> np.ndarray:
    """Mask [N] bool of the rows of a predictions table that were estimated: ok or doubtful."""
    status = table["status"].astype(str)
    return ((status == OK) | status.str.startswith(DOUBTFUL)).to_numpy()


def prediction_table(manifest: pd.DataFrame, ages: np.ndarray) -> pd.DataFrame:
    """Predictions [N rows, COLUMNS] of a base regressor (no references) for the rows of a manifest.

    `ages` [N] are estimates in years. `true_age` is the exact label, empty for an interval label; its bounds
    are in `true_age_min` and `true_age_max` (equal for an exact label).
    """
    low, high = age_bounds(manifest)
    table = pd.DataFrame("", index=range(len(manifest)), columns=COLUMNS, dtype=object)
    for column in ("id", "path", "person", "gender", "group"):
        table[column] = manifest[column].to_numpy()
    table["face"], table["status"], table["n_references"] = 0, OK, 0
    table["true_age"] = np.where(low == high, low, np.nan)
    table["true_age_min"], table["true_age_max"] = low, high
    table["base_age"] = table["age"] = np.asarray(ages, float)
    return table


def to_csv(table: pd.DataFrame) -> str:
    """A predictions table as the text of a CSV, COLUMNS before any others, numbers with two decimals."""
    further = [name for name in table.columns if name not in COLUMNS]
    return table[[*COLUMNS, *further]].to_csv(index=False, float_format="%.2f")


def to_short(table: pd.DataFrame, guarded: bool = False) -> pd.DataFrame:
    """The table for people (SHORT_COLUMNS, then turned and matched_person where they are) of a predictions table.

    `guarded` puts an apostrophe before text that a spreadsheet would compute.
    """
    short = table.rename(columns=IN_SHORT)
    sides = SHORT_COLUMNS[-4:]
    edges = [box.split() if box else [None] * 4 for box in table["box"].fillna("")]
    short[sides] = pd.DataFrame(edges, short.index, sides).astype(float).round().astype("Int64")
    short["face"] = short["face"].astype("Int64")
    if guarded:
        for name in {"photo", "status", "matched_person"} & set(short.columns):
            short[name] = [f"'{text}" if str(text).startswith(FORMULA) else text for text in short[name]]
    return short[[*SHORT_COLUMNS, *(name for name in ("turned", "matched_person") if name in short.columns)]]


def from_short(short: pd.DataFrame) -> pd.DataFrame:
    """A predictions table of the one for people; what that lacks is empty."""
    table = short.rename(columns={ours: name for name, ours in IN_SHORT.items()})
    table["path"] = [
        text[1:] if str(text).startswith("'") and str(text)[1:].startswith(FORMULA) else text for text in table["path"]
    ]
    sides = table[SHORT_COLUMNS[-4:]].to_numpy(float)
    table["box"] = [" ".join(f"{side:.0f}" for side in row) if np.isfinite(row).all() else "" for row in sides]
    for name in ("id", "person", "gender", "group", "reference_ids"):
        table[name] = ""
    further = [name for name in table.columns if name not in (*COLUMNS, *SHORT_COLUMNS)]
    return table.assign(n_references=0).reindex(columns=[*COLUMNS, *further])


def write_predictions(table: pd.DataFrame, path: str | Path) -> None:
    """Write a predictions table as CSV (see `to_csv`), packed as .csv.gz; raises DataError if it cannot be written."""
    write_text(to_csv(table), path)


def write_table(table: pd.DataFrame, path: str | Path, digits: int) -> None:
    """Write any table of results as CSV, numbers with so many decimals; raises DataError as `write_predictions`."""
    write_text(table.to_csv(index=False, float_format=f"%.{digits}f"), path)


def write_text(text: str, path: str | Path) -> None:
    """Write a file of results, its folder made if need be; an older file stays whole until the new one is.

    Raises DataError if that place cannot be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise DataError(f"The predictions cannot be written to {path} ({error.strerror}).") from None


def check_out(path: Path, columns: tuple[str, ...] = ("path", "age", "status")) -> None:
    """Raise DataError for a place where no table with these columns may be written, before anything is computed.

    That is the name of an image or a spreadsheet, a file that holds something else, a folder where no file can be made.
    """
    place = path.resolve()  # where a link leads to
    if {path.suffix.lower(), place.suffix.lower()} & IMAGE_SUFFIXES:
        raise DataError(f"{path} has the name of an image; give --out a name like ages.csv.")
    if path.suffix.lower() in SPREADSHEETS:
        raise DataError(f"{path} has the name of a spreadsheet; give --out a name like ages.csv, which they read.")
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder; give --out a name like {path / 'ages.csv'}.")
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe
        return
    folder = next(parent for parent in place.parents if os.path.exists(parent))
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        told = f"nothing can be made in {folder}: {error.strerror}"
        raise DataError(f"The predictions cannot be written to {path} ({told}).") from None
    if os.path.isfile(path) and os.path.getsize(path) and not set(columns) <= _header(path):
        raise DataError(f"{path} is there and holds no predictions; give --out another name or remove it.")


def _header(path: Path) -> set[str]:
    """The column names of a CSV, or the keys in the first record of a JSON file."""
    try:
        with unpacking(path) as file:
            head = file.read(65536).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); give --out another name.") from None
    if plain_name(path).suffix.lower() in (".json", ".jsonl"):
        names = set(re.findall(r'"(\w+)":', head.partition("}")[0]))
    else:
        names = set(head.splitlines()[0].strip().split(",")) if head else set()
    return names | ({"path"} if "photo" in names else set())


def read_csv(path: str | Path, kind: str = "CSV table", dtype: dict[str, Any] | None = None) -> pd.DataFrame:
    """A CSV of results, plain or packed (.csv.gz), as pandas reads it; raises DataError if it cannot be read."""
    try:
        return pd.read_csv(io.BytesIO(read_whole(path, LARGEST_UNPACKED)) if is_packed(path) else path, dtype=dtype)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} cannot be read as a {kind} ({error}).") from None


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read a predictions table, or the short one for people; ages are float64 years (NaN if empty).

    Raises DataError if it is none.
    """
    texts = ("id", "path", "photo", "person", "gender", "group")
    table = read_csv(path, "predictions table", dict.fromkeys(texts, str))
    if set(SHORT_COLUMNS) <= set(table.columns):
        table = from_short(table)
    missing = [column for column in ("age", "status", "true_age_min", "true_age_max") if column not in table.columns]
    if missing:
        raise DataError(f"{path} is no predictions table: it has no column {missing[0]}.")
    for column in ("person", "gender", "group"):
        table[column] = table[column].fillna("") if column in table.columns else ""
    return table
