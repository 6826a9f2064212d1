"""Matplotlib figures without a screen: their colours, how they are begun and saved."""

from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import DataError
from common.faces.photo_files import SOFTWARE

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

BLUE, ORANGE = "#4477aa", "#ee7733"  # told apart by colour-blind readers


def new_figure(width: float, height: float, columns: int = 1) -> "tuple[Figure, np.ndarray]":
    """A matplotlib figure (inches) and its axes [columns], drawn without a screen and without pyplot's state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG; raises DataError if the place cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120, metadata={"Software": SOFTWARE})
    except OSError as error:
        raise DataError(f"The image cannot be written to {path} ({error.strerror}).") from None
