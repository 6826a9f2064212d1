"""Pictures of results: a photo with its estimated ages, a face beside its predicted distribution."""

from pathlib import Path

import numpy as np
import pandas as pd

from common.data.predictions import OK
from common.faces.images import load_image
from common.figures import BLUE, ORANGE, new_figure, save_figure

MARKS = (("--", "black"), ("-", ORANGE), (":", "black"))  # of the ages in a picture of votes


def draw_photo(image: np.ndarray, faces: pd.DataFrame, path: Path) -> None:
    """Draw a photo [H, W, 3] uint8 with the box and estimated age of each face (rows of a predictions table)."""
    height, width = image.shape[:2]
    scale = 7 / max(height, width)
    figure, (axis,) = new_figure(max(3, width * scale), max(3, height * scale))
    axis.imshow(image)
    axis.set_axis_off()
    for row in faces.itertuples():
        left, top, right, bottom = (float(edge) for edge in row.box.split())
        axis.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=ORANGE, linewidth=2)
        axis.text(
            left, top, _said(row), va="bottom", ha="left", fontsize=13, color="white",
            bbox={"facecolor": ORANGE, "edgecolor": "none", "pad": 2},
        )  # fmt: skip
    save_figure(figure, path)


def _said(row) -> str:
    span = "" if np.isnan(row.interval_low) else f" ({row.interval_low:.0f} to {row.interval_high:.0f})"
    return f"{row.age:.0f} years{span}"


def draw_photos(table: pd.DataFrame, folder: Path) -> None:
    """Draw every photo of a predictions table with its estimated ages into `folder`; prints where.

    Files are numbered by the row of the photo's first face.
    """
    for path, faces in table[table["status"] == OK].groupby("path", sort=False):
        drawn = folder / f"{faces.index[0]:04d}_{Path(path).stem}.png"
        draw_photo(load_image(path), faces, drawn)
        print(f"drawn: {drawn}")


def draw_distribution(crop: np.ndarray, ages: np.ndarray, log_probs: np.ndarray, marks: dict, path: Path) -> None:
    """Draw a crop [S, S, 3] uint8 beside its distribution over ages.

    `ages` [n_ages] years and `log_probs` [n_ages]; `marks` are vertical lines, label to age in years.
    """
    figure, (left, right) = new_figure(9, 3.4, columns=2)
    left.imshow(crop)
    left.set_axis_off()
    right.stairs(np.exp(log_probs), np.append(ages - 0.5, ages[-1] + 0.5), fill=True, color=BLUE)
    styles = ("-", "--", ":")
    for style, (label, age) in zip(styles, marks.items(), strict=False):
        right.axvline(age, color=ORANGE if style == "-" else "black", linestyle=style, label=f"{label} {age:.1f}")
    right.set(xlabel="age (years)", ylabel="probability", xlim=(ages[0] - 0.5, ages[-1] + 0.5))
    right.legend(frameon=False)
    save_figure(figure, path)


def draw_votes(
    crop: np.ndarray, votes: pd.DataFrame, marks: dict[str, float], interval: tuple[float, float], path: Path
) -> None:
    """Draw a crop [S, S, 3] uint8 beside its references, nearest on top.

    `votes` has a row for each reference: its `age`, the corrected age it would give alone (`vote`), both in years, and
    its `weight`; `marks` are the base's estimate, the age of the table and, if the user's own references changed it,
    the one without them, label to years. `interval` is that of the age, in years (NaN where it was not asked for).
    """
    figure, (left, right) = new_figure(9, 4.2, columns=2)
    left.imshow(crop)
    left.set_axis_off()
    place = np.arange(len(votes))
    size = 10 + 60 * votes["weight"] / max(votes["weight"].max(), 1e-9) if len(votes) else 10
    right.hlines(place, votes["age"], votes["vote"], color="lightgrey", linewidth=1)
    right.scatter(votes["age"], place, s=12, color="black", label="age of the reference")
    label = "its vote (size: its weight)" if votes["weight"].nunique() > 1 else "its vote"
    right.scatter(votes["vote"], place, s=size, color=BLUE, alpha=0.6, label=label)
    if not np.isnan(interval).any():
        right.axvspan(*interval, color=ORANGE, alpha=0.12, label=f"interval {interval[0]:.0f} to {interval[1]:.0f}")
    for (style, colour), (label, age) in zip(MARKS, marks.items(), strict=False):
        right.axvline(age, color=colour, linestyle=style, label=f"{label} {age:.1f}")
    right.invert_yaxis()
    right.set(xlabel="age (years)", ylabel="reference, most similar on top", yticks=[])
    right.locator_params(axis="x", integer=True)
    right.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    save_figure(figure, path)
