"""The figures of an analysis report as PNG bytes, axes with units, in colours that colour-blind readers tell apart."""

import io

import numpy as np
import pandas as pd

from common.figures import BLUE, ORANGE, new_figure
from scripts.report.numbers import SCORE_LIMITS, cumulative_scores

GREY = "#999999"
STYLES = (
    (BLUE, "o-"), (ORANGE, "s--"), ("black", "^:"), (GREY, "D-."), (BLUE, "v:"), (ORANGE, "x-"),
    ("black", "P-"), (GREY, "*--"),
)  # fmt: skip
HISTOGRAM_END = 30  # years; larger errors are counted in the outermost bars


def png(figure) -> bytes:
    """A matplotlib figure as PNG bytes; closes it."""
    from matplotlib import pyplot

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    pyplot.close(figure)
    return buffer.getvalue()


def draw_errors(error: np.ndarray) -> bytes:
    """CS@1 … 10 beside the histogram of errors [N] in years (estimate - truth)."""
    figure, (left, right) = new_figure(8.6, 3.7, columns=2)
    _score_axis(left, {"": error})
    edges = np.arange(-HISTOGRAM_END, HISTOGRAM_END + 1, 2)
    right.hist(np.clip(error, edges[0], edges[-1] - 1e-6), bins=edges, color=BLUE, edgecolor="white", linewidth=0.5)
    right.axvline(0, color="black", linewidth=1)
    right.axvline(error.mean(), color=ORANGE, linestyle="--", label=f"mean {error.mean():+.2f} years")
    right.set(xlabel="estimate − true age (years; end bars: all beyond)", ylabel="faces")
    right.margins(y=0.2)
    right.legend(frameon=False, loc="upper left")
    return png(figure)


def draw_scores(errors: dict[str, np.ndarray]) -> bytes:
    """CS@1 … 10 of several predictions, name to errors [N] in years."""
    figure, (axis,) = new_figure(6.4, 4.2)
    _score_axis(axis, errors)
    axis.legend(frameon=False, loc="lower right")
    return png(figure)


def _score_axis(axis, errors: dict[str, np.ndarray]) -> None:
    for place, (name, error) in enumerate(errors.items()):
        colour, style = STYLES[place % len(STYLES)]
        axis.plot(SCORE_LIMITS, cumulative_scores(error), style, color=colour, markersize=5, label=_plain(name))
    axis.set(xlabel="largest error allowed, k (years)", ylabel="CS@k (% of faces)", ylim=(0, 100), xticks=SCORE_LIMITS)
    axis.grid(axis="y", color="#dddddd")


def draw_density(truth: np.ndarray, age: np.ndarray) -> bytes:
    """Estimated against true age, [N] years each, as the number of faces in cells of 2 by 2 years."""
    from matplotlib.colors import LogNorm

    figure, (axis,) = new_figure(6.2, 5.0)
    end = max(10.0, 2 * np.ceil((max(truth.max(), age.max()) + 1) / 2))
    start = min(0.0, 2 * np.floor(age.min() / 2))
    edges = np.arange(start, end + 1, 2)
    counts = np.histogram2d(truth, age, bins=(edges, edges))[0]  # [cells of truth, cells of estimate]
    cells = np.ma.masked_equal(counts, 0)
    mesh = axis.pcolormesh(edges, edges, cells.T, cmap="cividis", norm=LogNorm(1, max(2, counts.max())))
    axis.plot((start, end), (start, end), color=ORANGE, linestyle="--", linewidth=1.5, label="estimate = true age")
    axis.set(xlabel="true age (years)", ylabel="estimated age (years)", xlim=(start, end), ylim=(start, end))
    axis.set_aspect("equal")
    axis.legend(frameon=False, loc="upper left")
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= max(2, counts.max())]
    bar = figure.colorbar(mesh, ax=axis, label="faces in a cell of 2 × 2 years", ticks=ticks, format="%d")
    bar.minorticks_off()
    return png(figure)


def draw_parts(table: pd.DataFrame, label: str) -> bytes:
    """Bias and MAE with 95 % intervals of the rows of `report_numbers.measure_parts`."""
    figure, (axis,) = new_figure(8.6, 4.2)
    place = np.arange(len(table))
    for shift, name, colour, marker in ((-0.12, "mae", BLUE, "o"), (0.12, "bias", ORANGE, "s")):
        title = "MAE" if name == "mae" else "bias (mean of estimate − true age)"
        _points(axis, place + shift, table, (name, f"{name}_low", f"{name}_high"), (colour, marker, title))
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(place, _counted(table))
    low, high = axis.get_ylim()
    end = 2 * table["mae"].max() + 1  # the intervals of two or three faces are cut off rather than flatten the rest
    axis.set_ylim(max(low, -end), min(high, end))
    axis.set(xlabel=f"{label}, with the number of faces", ylabel="years", xlim=(-0.6, len(table) - 0.4))
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    return png(figure)


def draw_coverage(table: pd.DataFrame, probability: float | None) -> bytes:
    """Coverage of intervals with its 95 % interval, of the rows of `report_numbers.coverage`."""
    figure, (axis,) = new_figure(8.6, 3.8)
    place = np.arange(len(table))
    _points(axis, place, table, ("coverage", "low", "high"), (BLUE, "o", "share of intervals that hold the true age"))
    if probability is not None:
        axis.axhline(100 * probability, color=ORANGE, linestyle="--", label=f"aim: {100 * probability:g} %")
    axis.set_xticks(place, _counted(table))
    axis.set(xlabel="estimated age (years), with the number of faces", ylabel="coverage (%)", ylim=(0, 105))
    axis.set_xlim(-0.6, len(table) - 0.4)
    axis.legend(frameon=False, loc="lower left")
    return png(figure)


def _points(axis, place: np.ndarray, table: pd.DataFrame, columns: tuple, look: tuple) -> None:
    middle, low, high = (table[column].to_numpy(float) for column in columns)
    colour, marker, label = look
    reach = np.nan_to_num(np.clip(np.stack([middle - low, high - middle]), 0, None))  # [2, parts]
    axis.errorbar(place, middle, reach, fmt=marker, color=colour, capsize=3, label=label)


def _counted(table: pd.DataFrame) -> list[str]:
    return [f"{_plain(row.part).replace(' ', chr(10))}\n{row.faces}" for row in table.itertuples()]


def _plain(name: str) -> str:
    """A name as matplotlib shows it unread: a $ would start a formula, a leading _ hides it from the legend."""
    return f" {name}".replace("$", r"\$") if name.startswith("_") else name.replace("$", r"\$")
