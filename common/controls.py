"""What a claim for references has to beat: re-calibrations of the base, and simple votes of the same references."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from common.metrics import paired_bootstrap
from common.reference_bank import Found, ReferenceBank

Calibration = Callable[[np.ndarray], np.ndarray]


def recalibrations(estimate: np.ndarray, age: np.ndarray) -> dict[str, Calibration]:
    """Control (c): offset, straight line and isotonic "true age on estimate", fitted on [N] estimates and ages.

    Each takes and returns estimates [M] in years. Fit them on references that the base has not seen.
    """
    offset = float(np.mean(age - estimate))
    slope, start = np.polyfit(estimate, age, 1)
    curve = IsotonicRegression(out_of_bounds="clip").fit(estimate, age)
    return {
        "offset": lambda values: values + offset,
        "line": lambda values: slope * values + start,
        "isotonic": lambda values: curve.predict(values),
    }


def residual_vote(bank: ReferenceBank, found: Found, estimate: np.ndarray) -> np.ndarray:
    """Rival: estimates [B] corrected by the mean residual of their unseen references, shrunk as if 10 more said 0."""
    index = np.where(found.mask, found.index, 0)
    counted = found.mask & ~bank.seen[index]  # [B, K]
    residual = np.where(counted, bank.ages[index] - bank.estimates[index], 0.0)
    return estimate + residual.sum(axis=1) / (counted.sum(axis=1) + 10)


def neighbour_median(bank: ReferenceBank, found: Found, estimate: np.ndarray) -> np.ndarray:
    """Rival: the median age [B] of the references, or the estimate where there are none."""
    ages = np.where(found.mask, bank.ages[np.where(found.mask, found.index, 0)], np.nan)
    any_found = found.mask.any(axis=1)
    median = np.array(estimate, float)
    median[any_found] = np.nanmedian(ages[any_found], axis=1)
    return median


def control_table(predictions: pd.DataFrame, best: str = "full") -> list[str]:
    """Markdown table of every variant beside the base and beside the variant `best`, on the same faces.

    `predictions` has the columns id, person, true_age, variant, seed, age (years), with the variants `base` and `best`
    among them. Errors are averaged over seeds per face; intervals are paired bootstrap, 95 %.
    """
    predictions = predictions.assign(error=(predictions["age"] - predictions["true_age"]).abs())
    errors = predictions.pivot_table(index="id", columns="variant", values="error", aggfunc="mean")  # [N, variants]
    person = predictions.drop_duplicates("id").set_index("id")["person"].fillna("").reindex(errors.index).to_numpy(str)
    by_seed = predictions.groupby(["variant", "seed"])["error"].mean()
    lines = [
        f"| variant | seeds | MAE | sd over seeds | CS@5 | gain over base | gain of {best} over it |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(predictions["variant"]):
        seeds = by_seed[name]
        spread = f"{seeds.std():.3f}" if len(seeds) > 1 else "–"
        cs5 = 100 * (predictions.loc[predictions["variant"] == name, "error"] <= 5).mean()
        gains = [
            "–" if first == second else _gain(errors[first], errors[second], person)
            for first, second in (("base", name), (name, best))
        ]
        cells = [name, len(seeds), f"{errors[name].mean():.3f}", spread, f"{cs5:.1f}", *gains]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _gain(first: pd.Series, second: pd.Series, person: np.ndarray) -> str:
    gain = paired_bootstrap(first.to_numpy(), second.to_numpy(), person)
    return f"{gain['gain']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
