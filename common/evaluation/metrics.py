"""Metrics of age estimates, from arrays or from a predictions table; every error is in years.

An estimate that is no finite number is a failure: it misses in every share (CS@k, hit rate), which are of all faces;
the means are of the finite ones, with the count of the others beside them (`not_finite`, only where there are any).
"""

from typing import Any, TypedDict

import numpy as np
import pandas as pd

from common.data.predictions import answered
from common.errors import DataError

AGE_BANDS = {
    "0-12": (0, 12),
    "13-17": (13, 17),
    "18-29": (18, 29),
    "18-64": (18, 64),
    "65+": (65, np.inf),
    "21-60": (21, 60),
}

BIN_YEARS = 5  # width of a bin of true age, of the balanced MAE
FEWEST_IN_CELL = 10  # faces of a group x gender x decade that is reported
FEWEST_IN_BIN = 5  # faces; one face alone would otherwise weigh as much as a whole bin


def balanced_mae(age: np.ndarray, true_age: np.ndarray) -> float:
    """Mean over 5-year bins of true age (0-4, 5-9 …) of the MAE in each, so that every age counts alike.

    Both arrays are [N] finite float years. Bins of fewer than 5 faces are left out; NaN if all are.
    """
    bins = (np.asarray(true_age, float) // BIN_YEARS).astype(int)
    counts = np.bincount(bins)
    sums = np.bincount(bins, weights=np.abs(np.asarray(age, float) - true_age))
    full = counts >= FEWEST_IN_BIN
    return float((sums[full] / counts[full]).mean()) if full.any() else float("nan")


def point_metrics(age: np.ndarray, true_age: np.ndarray) -> dict[str, float]:
    """n, MAE, balanced MAE (where a bin has faces enough), RMSE, bias (mean of estimate - truth), CS@k; exact labels.

    CS@k is the percentage of faces whose absolute error is at most k years. Both arrays are [N] float years;
    raises ValueError if their shapes differ, they are empty or a true age is not finite, DataError if no estimate is.
    """
    age, true_age = np.asarray(age, float), np.asarray(true_age, float)
    if age.shape != true_age.shape or age.size == 0:
        raise ValueError(f"age {age.shape} and true_age {true_age.shape} must be equal and not empty.")
    if not np.isfinite(true_age).all():
        raise ValueError("A true age is no finite number.")
    finite = _some_finite(age)
    error = (age - true_age)[finite]
    result = {"mae": np.abs(error).mean(), "rmse": np.sqrt((error**2).mean()), "bias": error.mean()}
    balanced = balanced_mae(age[finite], true_age[finite])
    result |= {} if np.isnan(balanced) else {"balanced_mae": balanced}
    result |= {f"cs{k}": 100.0 * (np.abs(error) <= k).sum() / age.size for k in (1, 3, 5, 10)}
    return {"n": int(age.size)} | {key: round(float(value), 3) for key, value in result.items()} | _others(finite)


def _some_finite(age: np.ndarray) -> np.ndarray:
    """Mask [N] bool of the finite estimates; raises DataError if there are none."""
    finite = np.isfinite(age)
    if not finite.any():
        raise DataError(f"{not_finite_words(len(age), len(age))}.")
    return finite


def _others(finite: np.ndarray) -> dict[str, int]:
    return {} if finite.all() else {"not_finite": int((~finite).sum())}


def not_finite_words(count: int, among: int) -> str:
    """What is said of estimates that are no finite numbers: "2 of 4 have no finite age"."""
    return f"{count} of {among} {'has' if count == 1 else 'have'} no finite age"


def clusters(person: np.ndarray) -> np.ndarray:
    """Number [N] int of the person each face shows; `person` [N] str, '' unknown: a number for each such face."""
    alone = np.char.add("face ", np.arange(len(person)).astype(str))
    names = np.where(person == "", alone, np.char.add("person ", person.astype(str)))
    return np.unique(names, return_inverse=True)[1]


class Gain(TypedDict):
    """A gain in years and the ends of its 95 % interval."""

    gain: float
    low: float
    high: float


def paired_bootstrap(
    base_error: np.ndarray, corrected_error: np.ndarray, person: np.ndarray | None = None, resamples: int = 10_000
) -> Gain:
    """Mean gain |base error| - |corrected error| in years with its 95 % bootstrap interval, on the same faces.

    Parameters
    ----------
    base_error, corrected_error : [N] years, absolute values are taken
    person : [N] str; faces of one person are drawn together ('' unknown: each face for itself)
    resamples : bootstrap samples, drawn with a fixed seed

    Raises DataError if there is no face, or one without two finite errors: a pair with a failure has no gain.
    """
    gain = np.abs(np.asarray(base_error, float)) - np.abs(np.asarray(corrected_error, float))  # [N]
    if not len(gain) or not np.isfinite(gain).all():
        raise DataError(f"{not_finite_words(int((~np.isfinite(gain)).sum()), len(gain))}; there is no paired gain.")
    cluster = clusters(np.full(len(gain), "") if person is None else np.asarray(person, str))
    sums, counts = np.bincount(cluster, weights=gain), np.bincount(cluster)  # [C], [C]
    random = np.random.default_rng(0)
    means = np.empty(resamples)
    for number in range(resamples):
        drawn = random.integers(0, len(sums), len(sums))
        means[number] = sums[drawn].sum() / counts[drawn].sum()
    low, high = np.percentile(means, [2.5, 97.5])
    return {"gain": float(gain.mean()), "low": float(low), "high": float(high)}


def distance_to_interval(age: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Years [N] by which estimates miss the whole years low…high [N] of their labels; 0 inside."""
    return np.clip(low - 0.5 - age, 0, None) + np.clip(age - (high + 0.5), 0, None)


def interval_metrics(age: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, float]:
    """n, hit rate (% of estimates inside the label's interval) and mean distance to it, [N] float years each.

    Labels are whole years, so an estimate counts as inside 20-29 if it rounds to one of these years. Raises DataError
    if no estimate is finite.
    """
    finite = _some_finite(age)
    distance = distance_to_interval(age, low, high)[finite]
    hit_rate = 100.0 * (distance == 0).sum() / len(age)
    result = {"n": int(len(age)), "hit_rate": round(float(hit_rate), 2), "distance": round(float(distance.mean()), 3)}
    return result | _others(finite)


def estimated(table: pd.DataFrame) -> np.ndarray:
    """Mask [N] bool of the rows of a predictions table that have a finite age."""
    return answered(table) & np.isfinite(pd.to_numeric(table["age"], errors="coerce").to_numpy(float))


def without_age(table: pd.DataFrame) -> np.ndarray:
    """Mask [N] bool of the rows that say they were estimated but have no finite age."""
    return answered(table) & ~estimated(table)


def summarise(table: pd.DataFrame) -> dict[str, Any]:
    """Metrics of a predictions table: overall, by band and decade of true age, by gender and group, and crossed.

    Rows without a finite age are counted under `failed`, those among them that say they were estimated under
    `not_finite` too, and as misses of their part. Exactly labelled and interval-labelled rows are reported apart
    ("exact", "interval"); a part without any finite age is left out.
    """
    count, unsaid = int(estimated(table).sum()), int(without_age(table).sum())
    result: dict[str, Any] = {"faces": count, "failed": len(table) - count} | ({"not_finite": unsaid} if unsaid else {})
    good = table[answered(table)]
    exact = good[good["true_age_min"] == good["true_age_max"]]
    interval = good[good["true_age_min"] < good["true_age_max"]]
    if estimated(exact).any():
        result["exact"] = _by_part(exact, _exact_metrics)
        true_age = exact["true_age_min"]
        parts = {name: exact[(true_age >= low) & (true_age <= high)] for name, (low, high) in AGE_BANDS.items()}
        parts |= {f"{d}-{d + 9}": exact[true_age // 10 * 10 == d] for d in range(0, 110, 10)}
        known = {name: part for name, part in parts.items() if estimated(part).any()}
        result["exact"]["by_age"] = {name: _exact_metrics(part) for name, part in known.items()}
        cells = _by_cell(exact)
        result["exact"] |= {"by_group_gender_decade": cells} if cells else {}
    if estimated(interval).any():
        result["interval"] = _by_part(interval, _interval_metrics)
    return result


def _exact_metrics(table: pd.DataFrame) -> dict[str, float]:
    return point_metrics(table["age"].to_numpy(float), table["true_age_min"].to_numpy(float))


def _by_cell(exact: pd.DataFrame) -> dict[str, dict[str, float]]:
    """n, MAE and bias (years) by group x gender x decade of true age, of those with FEWEST_IN_CELL estimates."""
    good = exact[estimated(exact)]
    decade = (good["true_age_min"] // 10 * 10).astype(int).rename("decade")
    cells = {}
    for (group, gender, start), part in good.groupby(["group", "gender", decade]):
        if group and gender and len(part) >= FEWEST_IN_CELL:
            measured = _exact_metrics(part)
            cells[f"{group} {gender} {start}-{start + 9}"] = {key: measured[key] for key in ("n", "mae", "bias")}
    return cells


def _interval_metrics(table: pd.DataFrame) -> dict[str, float]:
    return interval_metrics(*(table[name].to_numpy(float) for name in ("age", "true_age_min", "true_age_max")))


def _by_part(table: pd.DataFrame, measure) -> dict[str, Any]:
    result = {"all": measure(table)}
    for column in ("gender", "group"):
        groups = {str(name): part for name, part in table.groupby(column) if name != ""}
        parts = {name: measure(part) for name, part in groups.items() if estimated(part).any()}
        if parts:
            result[f"by_{column}"] = parts
    return result
