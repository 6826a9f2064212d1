"""What an inference prints of its ages, and its exit status."""

import sys

import numpy as np
import pandas as pd

from common.data.predictions import OK, answered
from common.evaluation.metrics import paired_bootstrap, summarise
from common.evaluation.tables import error_figures
from common.inference.terminal import printable

SHOWN, SHOWN_BESIDE_FILE = 40, 10  # faces printed one by one at most; the same where a table is written


def print_result(
    table: pd.DataFrame, corrected: bool = False, limit: int = SHOWN, probability: float | None = None
) -> None:
    """Print the ages (of up to `limit` faces), the errors where ages are known.

    `corrected` shows the base's estimate beside the age; `probability` is that of the intervals, if there are any.
    """
    good = table[answered(table)]
    if 0 < len(good) <= limit:
        print_faces(good, corrected, probability)
    elif len(good):
        ages = good["age"].to_numpy(float)
        said = f"{len(good)} faces in {good['path'].nunique()} images estimated"
        print(f"{said}, ages {ages.min():.0f} to {ages.max():.0f}, median {np.median(ages):.0f}.")
    labelled = good[good["true_age_min"].notna()]
    if len(labelled):
        for kind, part in summarise(labelled).items():
            if isinstance(part, dict):
                print(f"{kind} labels: " + "  ".join(f"{key} {value}" for key, value in part["all"].items()))


def print_failed(table: pd.DataFrame) -> None:
    """Name on stderr what is doubtful and what failed."""
    good, failed = table[answered(table)], table[~answered(table)]
    for row in good[good["status"] != OK].itertuples():
        print(f"{printable(row.path)}, face {row.face}: {row.status}; its age may be far off", file=sys.stderr)
    for row in failed.itertuples():
        print(f"not estimated: {printable(row.path)}: {printable(row.status)}", file=sys.stderr)


def print_faces(good: pd.DataFrame, corrected: bool, probability: float | None = None) -> None:
    """Print one line for each estimated face; `probability`: of the intervals."""
    labelled = good["true_age_min"].notna().any()
    base = f" {'base':>6s}" if corrected else ""
    span = f" {f'{100 * probability:g} % interval':>15s}" if probability else ""
    print(f"{'image':44s} {'face':>4s}{base} {'age':>6s}{span}" + ("  true age" if labelled else ""))
    for row in good.itertuples():
        truth = "" if np.isnan(row.true_age_min) else f"  {_span(row.true_age_min, row.true_age_max)}"
        base = f" {row.base_age:6.1f}" if corrected else ""
        span = "" if np.isnan(row.interval_low) else f" {f'{row.interval_low:.0f} to {row.interval_high:.0f}':>15s}"
        print(f"{_shortened(printable(row.path), 44):44s} {row.face:4d}{base} {row.age:6.1f}{span}{truth}")


def print_gain(table: pd.DataFrame) -> None:
    """Print errors of base and corrected age side by side with the paired interval, where exact ages are known."""
    good = table[answered(table) & (table["true_age_min"] == table["true_age_max"])]
    truth = good["true_age_min"].to_numpy(float)
    base, age = (good[name].to_numpy(float) - truth for name in ("base_age", "age"))
    if len(good) < 2 or np.array_equal(base, age):
        return
    for name, error in (("base", base), ("corrected", age)):
        print("{:9s} MAE {}  CS@5 {} %  bias {}".format(name, *error_figures(error)))
    gain = paired_bootstrap(base, age, good["person"].to_numpy(str))
    print(
        f"gain {gain['gain']:+.3f} years, 95 % interval {gain['low']:+.3f} to {gain['high']:+.3f} ({len(good)} faces)"
    )


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[-(width - 1) :]


def exit_status(table: pd.DataFrame) -> int:
    """0 if every input was estimated, 1 if some failed, 2 if all did."""
    good = answered(table)
    return 0 if good.all() else 1 if good.any() else 2
