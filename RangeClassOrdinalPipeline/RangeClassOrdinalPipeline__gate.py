"""What a gate does: names of its classes, strengths it chooses from, and its ages beside never and always."""

import numpy as np
import pandas as pd

from common.evaluation.metrics import paired_bootstrap
from common.evaluation.tables import DASH, error_figures, markdown, signed_gain

GATE_WEIGHTS = np.arange(0, 16) / 10  # of a correction; what the gate chooses from


def class_names(edges: tuple[float, ...]) -> list[str]:
    """Names of the classes in years, as "0-2", "2-4", …, ">10"."""
    starts = (0.0, *edges)
    return [*(f"{low:g}-{high:g}" for low, high in zip(starts, edges, strict=False)), f">{edges[-1]:g}"]


def best_gate_weight(base: np.ndarray, corrected: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Ages [N] (years) with the strength that is best for each true age [N]: an upper bound, never an estimate."""
    ages = base[:, None] + GATE_WEIGHTS[None, :] * (corrected - base)[:, None]  # [N, strengths]
    best = np.abs(ages - truth[:, None]).argmin(axis=1)
    return np.take_along_axis(ages, best[:, None], axis=1)[:, 0]


def gate_table(
    base: np.ndarray, corrected: np.ndarray, gated: np.ndarray, truth: np.ndarray, person: np.ndarray
) -> list[str]:
    """Markdown lines: never, always, gated, and the upper bound, of ages [N] in years, person [N] str.

    Gains are over never, with paired bootstrap intervals (persons are drawn whole).
    """
    rows = {"never (base)": base, "always": corrected, "gated": gated}
    rows["oracle: best strength for the TRUE age (upper bound)"] = best_gate_weight(base, corrected, truth)
    cells = []
    for name, ages in rows.items():
        gain = DASH if ages is base else signed_gain(**paired_bootstrap(base - truth, ages - truth, person))
        cells.append([name, *error_figures(ages - truth), gain])
    return markdown([f"correction, {len(truth)} faces", "MAE", "CS@5", "bias", "gain over never"], cells)


def gate_lines(known: pd.DataFrame) -> list[str]:
    """What the gate does to the faces of a predictions table whose true age is known, and how often its class is right.

    The columns error_class and ungated_age are those of `RangeModel.correct`.
    """
    base, ungated, age, truth = (known[name].to_numpy(float) for name in ("base_age", "ungated_age", "age", "true_age"))
    lines = gate_table(base, ungated, age, truth, known["person"].to_numpy(str))
    error = np.abs(base - truth)
    right = [_holds(name, value) for name, value in zip(known["error_class"], error, strict=True)]
    return [*lines, f"class of the base's error: {100 * np.mean(right):.1f} % right"]


def _holds(name: str, error: float) -> bool:
    """Whether a class of this name ("0-2", ">10") holds an error (years); an edge belongs to the class below it."""
    if name.startswith(">"):
        return error > float(name[1:])
    low, high = (float(end) for end in name.split("-"))
    return error <= high and (error > low or low == 0)
