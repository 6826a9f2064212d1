"""The figures of an analysis report, from a predictions table: errors by part with 95 % intervals, confusion, coverage.

Nothing here draws or writes; see scripts/report/figures.py and scripts/report/html.py.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest, t

from common.data.predictions import read_predictions
from common.errors import DataError
from common.evaluation.metrics import AGE_BANDS, clusters, estimated

NUMBERS = ["age", "true_age_min", "true_age_max", "interval_low", "interval_high"]
TEXTS = ["id", "path", "person", "gender", "group"]
SCORE_LIMITS = np.arange(1, 11)  # years; the k of CS@k
ADULT = 18  # years


def load_predictions(path: str | Path) -> pd.DataFrame:
    """Read a predictions table and check its numbers; raises DataError for a file that cannot be analysed."""
    table = read_predictions(path)
    if "id" not in table.columns:
        raise DataError(f"{path} is no predictions table: it has no column id.")
    return checked(table, str(path))


def checked(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """A copy of a predictions table with NUMBERS as float64 years (NaN where empty) and TEXTS as text.

    Raises DataError naming `source` for a cell that is no finite number.
    """
    table = table.reset_index(drop=True).copy()
    for column in NUMBERS:
        table[column] = numbers(table[column], source) if column in table.columns else np.nan
    for column in TEXTS:
        table[column] = table[column].fillna("").astype(str) if column in table.columns else ""
    return table


def named_path(pair: str, example: str = "predictions.csv") -> tuple[str, str]:
    """NAME=CSV of a command line as its two parts; raises DataError, naming `example`, if it is none."""
    name, equals, path = pair.partition("=")
    if not (name and equals and path):
        raise DataError(f"'{pair}' must look like NAME={example}.")
    return name, path


def numbers(column: pd.Series, source: str) -> np.ndarray:
    """A column [N] as float64, NaN where empty; raises DataError for a cell that is no finite number."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    filled = column.notna().to_numpy() & (column.astype(str).str.strip() != "").to_numpy(bool)
    wrong = np.flatnonzero(filled & ~np.isfinite(values))
    if len(wrong):
        raise DataError(f"{source}, line {wrong[0] + 2}: {column.name} '{column.iloc[wrong[0]]}' is no number.")
    return values


def exact_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The estimated, exactly labelled rows, with `truth` and `error` (estimate - truth), both in years."""
    good = estimated(table) & (table["true_age_min"] == table["true_age_max"]).to_numpy()
    rows = table[good].reset_index(drop=True)
    return rows.assign(truth=rows["true_age_min"], error=rows["age"] - rows["true_age_min"])


def mean_interval(values: np.ndarray, person: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of values [N], by Student's t with a standard error clustered by person.

    `person` [N] str, '' unknown (each face for itself). NaN for fewer than two persons. Reference: Cameron & Miller,
    "A Practitioner's Guide to Cluster-Robust Inference", 2015.

    Examples
    --------
    >>> low, high = mean_interval(np.array([1.0, 2.0, 3.0]), np.array(["", "", ""]))
    >>> print(f"{low:.3f} {high:.3f}")
    -0.484 4.484
    """
    mean = values.mean()
    sums = np.bincount(clusters(person), weights=values - mean)  # [C]
    count = len(sums)
    if count < 2:
        return np.nan, np.nan
    half = t.ppf(0.975, count - 1) * np.sqrt(count / (count - 1) * (sums**2).sum()) / len(values)
    return float(mean - half), float(mean + half)


def share_interval(hits: int, count: int) -> tuple[float, float]:
    """95 % Wilson interval, in percent, of a share of `hits` among `count` faces (NaN of none)."""
    if not count:
        return np.nan, np.nan
    interval = binomtest(int(hits), int(count)).proportion_ci(method="wilson")
    return 100 * interval.low, 100 * interval.high


def cumulative_scores(error: np.ndarray) -> np.ndarray:
    """CS@k [10] in percent for k = 1 … 10 years: the share of errors [N] of at most k years."""
    return 100 * (np.abs(error)[:, None] <= SCORE_LIMITS).mean(axis=0)


def measure_parts(rows: pd.DataFrame, parts: dict[str, pd.Series]) -> pd.DataFrame:
    """Errors of parts of `exact_rows` (name to mask [N]); empty parts are left out.

    Columns: part, faces, mae, mae_low, mae_high, bias, bias_low, bias_high, rmse (years), cs5 (%).
    """
    measured = []
    for name, mask in parts.items():
        part = rows[mask]
        if part.empty:
            continue
        error, person = part["error"].to_numpy(float), part["person"].to_numpy(str)
        mae_low, mae_high = mean_interval(np.abs(error), person)
        bias_low, bias_high = mean_interval(error, person)
        row = {"part": name, "faces": len(part), "mae": np.abs(error).mean(), "mae_low": max(mae_low, 0.0)}
        row |= {"mae_high": mae_high, "bias": error.mean(), "bias_low": bias_low, "bias_high": bias_high}
        row |= {"rmse": np.sqrt((error**2).mean()), "cs5": cumulative_scores(error)[4]}
        measured.append(row)
    return pd.DataFrame(measured)


def everything(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """The part of all rows."""
    return {"all faces": rows["truth"].notna()}


def decades(ages: pd.Series) -> dict[str, pd.Series]:
    """Masks of the decades of ages [N] (years) that occur, youngest first; an estimate below 0 has its own."""
    start = (ages // 10 * 10).clip(lower=-10).astype(int)
    names = {first: f"{first}-{first + 9}" if first >= 0 else "below 0" for first in sorted(start.unique())}
    return {name: start == first for first, name in names.items()}


def bands(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Masks of common.evaluation.metrics.AGE_BANDS, by true age."""
    return {name: (rows["truth"] >= low) & (rows["truth"] <= high) for name, (low, high) in AGE_BANDS.items()}


def genders_and_groups(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Masks of the genders and of the groups that occur; faces of unknown gender or group are in none."""
    masks = {}
    for column in ("gender", "group"):
        for name in sorted(set(rows[column]) - {""}):
            masks[name] = rows[column] == name
    return masks


def confusion_at(rows: pd.DataFrame, limit: float = ADULT) -> pd.DataFrame:
    """How faces below and from `limit` years were estimated: columns truth, faces, child, adult, wrong, low, high.

    `child` and `adult` count estimates below and from the limit (not rounded); wrong is the share on the wrong side
    with its 95 % interval, in %.
    """
    result = []
    for name, adult in ((f"below {limit:g}", False), (f"{limit:g} and older", True)):
        part = rows[(rows["truth"] >= limit) == adult]
        from_limit = int((part["age"] >= limit).sum())
        below = len(part) - from_limit
        wrong = below if adult else from_limit
        low, high = share_interval(wrong, len(part))
        row = {"truth": name, "faces": len(part), "child": below, "adult": from_limit}
        result.append(row | {"wrong": 100 * wrong / len(part) if len(part) else np.nan, "low": low, "high": high})
    return pd.DataFrame(result)


def coverage(rows: pd.DataFrame) -> pd.DataFrame:
    """How often the intervals hold the true age, for all faces and by decade of *estimated* age.

    Columns: part, faces, coverage, low, high (%), width (mean, years). Empty if no row has an interval.
    """
    rows = rows[rows["interval_low"].notna() & rows["interval_high"].notna()]
    if rows.empty:
        return pd.DataFrame()
    inside = (rows["truth"] >= rows["interval_low"]) & (rows["truth"] <= rows["interval_high"])
    width = rows["interval_high"] - rows["interval_low"]
    result = []
    for name, mask in (everything(rows) | decades(rows["age"])).items():
        low, high = share_interval(inside[mask].sum(), mask.sum())
        row = {"part": name, "faces": int(mask.sum()), "coverage": 100 * inside[mask].mean(), "low": low, "high": high}
        result.append(row | {"width": width[mask].mean()})
    return pd.DataFrame(result)


def worst_faces(rows: pd.DataFrame, count: int = 16) -> pd.DataFrame:
    """The rows of the largest absolute errors, worst first."""
    order = np.argsort(-rows["error"].abs().to_numpy(), kind="stable")[:count]
    return rows.iloc[order].reset_index(drop=True)
