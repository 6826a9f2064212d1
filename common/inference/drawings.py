"""Images of results: a photo with its estimated ages, a face beside its predicted distribution."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from common.data.predictions import OK
from common.errors import DataError
from common.faces.images import load_image
from common.faces.photo_files import SOFTWARE
from common.figures import BLUE, ORANGE, new_figure, save_figure
from common.files import short_stem
from common.inference.faces_drawn import draw_faces

MARKS = (("--", "black"), ("-", ORANGE), (":", "black"))  # of the ages in an image of votes
QUALITY = 90  # of JPEG
LONGEST = 65_500  # pixels of a JPEG's side that Pillow writes


def draw_photos(table: pd.DataFrame, files: dict[str, str], folder: Path) -> None:
    """Draw every photo of a predictions table with its estimated ages into `folder`, at its own size; prints where.

    `files` are those of the table's paths, where a name that is no UTF-8 is escaped. Drawings are numbered by the row
    of the photo's first face, and marked as such. Raises DataError if the place cannot be written.
    """
    drawable = table[table["age"].notna() & table["box"].fillna("").ne("")]
    for path, faces in drawable.groupby("path", sort=False):
        drawn = folder / f"{faces.index[0]:04d}_{short_stem(path)}.jpg"
        labelled = [(box_of(text), label) for text, label in zip(faces["box"], labels_of(faces), strict=True)]
        save_drawing(draw_faces(Image.fromarray(load_image(files[path])), labelled), drawn)
        print(f"drawn: {drawn}")


def box_of(text: str) -> tuple[float, float, float, float]:
    """Left, top, right, bottom in pixels, of the column `box`."""
    left, top, right, bottom = (float(edge) for edge in text.split())
    return left, top, right, bottom


def labels_of(faces: pd.DataFrame) -> list[str]:
    """What is written beside each face of one photo: its age, its interval, and its number if there are several.

    A face whose status is not ok has a question mark.
    """
    labels = []
    for row in faces.itertuples():
        age = f"{row.age:.0f}" + ("" if row.status == OK else "?")
        span = "" if np.isnan(row.interval_low) else f" ({row.interval_low:.0f}-{row.interval_high:.0f})"
        labels.append(f"{row.face:.0f}: {age}{span}" if len(faces) > 1 else f"{age} years{span}")
    return labels


def save_drawing(image: Image.Image, path: Path) -> None:
    """Write an RGB image as a JPEG that says that it was drawn here (a tenth of a PNG's time).

    An image too long for a JPEG is shrunk. Raises DataError if the place cannot be written.
    """
    image.thumbnail((LONGEST, LONGEST))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, "JPEG", quality=QUALITY, comment=SOFTWARE.encode())
    except OSError as error:
        raise DataError(f"The image cannot be written to {path} ({error.strerror}); give a folder.") from None


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
