"""Tables in Markdown, and how figures are written in their cells."""

from collections.abc import Iterable, Sequence

import numpy as np

DASH = "–"


def markdown(headers: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table of such cells, written as by `str`; every "|" in them is escaped."""
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |" for cells in (headers, *rows)]
    return [lines[0], "|---" * len(headers) + "|", *lines[1:]]


def or_dash(value: float | None, form: str) -> str:
    """A figure in that format; a dash for None and NaN."""
    return DASH if value is None or np.isnan(value) else f"{value:{form}}"


def with_interval(value: float, low: float, high: float, form: str = ".2f") -> str:
    """'5.12 [4.90, 5.34]', or the value alone where there is no interval; a dash for NaN."""
    return or_dash(value, form) + ("" if np.isnan([value, low]).any() else f" [{low:{form}}, {high:{form}}]")


def signed_gain(gain: float, low: float, high: float, digits: int = 3) -> str:
    """'+0.123 (-0.010 to +0.256)': a gain and its interval, of metrics.paired_bootstrap; a dash for NaN."""
    form = f"+.{digits}f"
    return DASH if np.isnan(gain) else f"{gain:{form}} ({low:{form}} to {high:{form}})"


def error_figures(error: np.ndarray) -> list[str]:
    """MAE (years), CS@5 (%) and bias (years) of errors [N]: estimate - true age, all finite."""
    size = np.abs(error)
    return [f"{size.mean():.3f}", f"{100 * (size <= 5).mean():.1f}", f"{error.mean():+.2f}"]
