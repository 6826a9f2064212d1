"""How often intervals with own references hold the age, by decade, each face left out with its person or alone."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from common.base.intervals import IntervalCalibrator, bounds
from common.difference.own_references import UserReferences
from common.evaluation.tables import markdown

EDGES = (0, 10, 20, 30, 40, 50, 60, 70, 121)


def held_by_intervals(
    user: UserReferences, spread: np.ndarray, calibrator: IntervalCalibrator, probability: float
) -> pd.DataFrame:
    """Columns age, references, held, width of every reference as if new: by the base, by others, and by its own too."""
    bank = user.bank
    estimate, truth = bank.estimates.astype(float), bank.ages.astype(float)
    half = calibrator.half_width(estimate, spread, probability)
    parts = [_held("none", estimate, half, truth)]
    for name, ages in zip(("other people", "+ the person's own"), user.leave_one_out(), strict=True):
        parts.append(_held(name, ages.age, half * user.width_factor(estimate, ages, probability), truth))
    return pd.concat(parts, ignore_index=True)


def _held(name: str, age: np.ndarray, half: np.ndarray, truth: np.ndarray) -> pd.DataFrame:
    low, high = bounds(age, half)
    held = (low <= truth) & (truth <= high)
    return pd.DataFrame({"age": truth, "references": name, "held": held, "width": high - low})


def coverage_lines(table: pd.DataFrame) -> list[str]:
    """Markdown: share of the ages that intervals hold, with Wilson's interval, and their mean width."""
    rows = []
    for name, part in table.groupby("references", sort=False):
        decades = pd.cut(part["age"], EDGES, right=False)
        for label, one in [("all", part), *part.groupby(decades, observed=True)]:
            low, high = binomtest(int(one["held"].sum()), len(one)).proportion_ci(method="wilson")
            where = label if label == "all" else f"{label.left:.0f}-{label.right - 1:.0f}"
            share = f"{100 * one['held'].mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"
            rows.append([name, where, len(one), share, f"{one['width'].mean():.1f}"])
    return markdown(["references", "age", "faces", "held (%)", "mean width (years)"], rows)
