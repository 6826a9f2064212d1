"""Metrics of age estimates, from arrays or from a predictions table; every error is in years."""

from typing import Any

import numpy as np
import pandas as pd

from common.predictions import OK

AGE_BANDS = {"0-12": (0, 12), "13-17": (13, 17), "18-64": (18, 64), "65+": (65, np.inf), "21-60": (21, 60)}


def point_metrics(age: np.ndarray, true_age: np.ndarray) -> dict[str, float]:
    """n, MAE, RMSE, bias (mean of estimate - truth) and CS@k, all for exact labels.

    CS@k is the percentage of faces whose absolute error is at most k years. Both arrays are [N] float years;
    raises ValueError if their shapes differ or they are empty.
    """
    age, true_age = np.asarray(age, float), np.asarray(true_age, float)
    if age.shape != true_age.shape or age.size == 0:
        raise ValueError(f"age {age.shape} and true_age {true_age.shape} must be equal and not empty.")
    error = age - true_age
    result = {"n": int(age.size), "mae": np.abs(error).mean(), "rmse": np.sqrt((error**2).mean()), "bias": error.mean()}
    result |= {f"cs{k}": 100.0 * (np.abs(error) <= k).mean() for k in (1, 3, 5, 10)}
    return {key: value if key == "n" else round(float(value), 3) for key, value in result.items()}


def clusters(person: np.ndarray) -> np.ndarray:
    """Number [N] int of the person each face shows; `person` [N] str, '' unknown: a number for each such face."""
    alone = np.char.add("face ", np.arange(len(person)).astype(str))
    names = np.where(person == "", alone, np.char.add("person ", person.astype(str)))
    return np.unique(names, return_inverse=True)[1]


def paired_bootstrap(
    base_error: np.ndarray, corrected_error: np.ndarray, person: np.ndarray | None = None, resamples: int = 10_000
) -> dict[str, float]:
    """Mean gain |base error| - |corrected error| in years with its 95 % bootstrap interval, on the same faces.

    Parameters
    ----------
    base_error, corrected_error : [N] years, absolute values are taken
    person : [N] str; faces of one person are drawn together ('' unknown: each face for itself)
    resamples : bootstrap samples, drawn with a fixed seed
    """
    gain = np.abs(np.asarray(base_error, float)) - np.abs(np.asarray(corrected_error, float))  # [N]
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

    Labels are whole years, so an estimate counts as inside 20-29 if it rounds to one of these years.
    """
    distance = distance_to_interval(age, low, high)
    hit_rate = 100.0 * (distance == 0).mean()
    return {"n": int(len(age)), "hit_rate": round(float(hit_rate), 2), "distance": round(float(distance.mean()), 3)}


def summarise(table: pd.DataFrame) -> dict[str, Any]:
    """Metrics of a predictions table: overall, by band and decade of true age, by gender and group.

    Rows that were not estimated are counted under `failed`. Exactly labelled and interval-labelled rows are
    reported apart ("exact", "interval").
    """
    good = table[(table["status"] == OK) & table["age"].notna()]
    result: dict[str, Any] = {"faces": int(len(good)), "failed": int(len(table) - len(good))}
    exact = good[good["true_age_min"] == good["true_age_max"]]
    interval = good[good["true_age_min"] < good["true_age_max"]]
    if len(exact):
        result["exact"] = _by_part(exact, _exact_metrics)
        true_age = exact["true_age_min"]
        parts = {name: exact[(true_age >= low) & (true_age <= high)] for name, (low, high) in AGE_BANDS.items()}
        parts |= {f"{d}-{d + 9}": exact[true_age // 10 * 10 == d] for d in range(0, 110, 10)}
        result["exact"]["by_age"] = {name: _exact_metrics(part) for name, part in parts.items() if len(part)}
    if len(interval):
        result["interval"] = _by_part(interval, _interval_metrics)
    return result


def _exact_metrics(table: pd.DataFrame) -> dict[str, float]:
    return point_metrics(table["age"].to_numpy(), table["true_age_min"].to_numpy())


def _interval_metrics(table: pd.DataFrame) -> dict[str, float]:
    return interval_metrics(*(table[name].to_numpy(float) for name in ("age", "true_age_min", "true_age_max")))


def _by_part(table: pd.DataFrame, measure) -> dict[str, Any]:
    result = {"all": measure(table)}
    for column in ("gender", "group"):
        parts = {str(name): measure(part) for name, part in table.groupby(column) if name != ""}
        if parts:
            result[f"by_{column}"] = parts
    return result
