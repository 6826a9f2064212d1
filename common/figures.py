"""Matplotlib figures without a screen: their colours, how they are begun and saved."""

from pathlib import Path

import matplotlib

from common.errors import DataError
from common.faces.photo_files import SOFTWARE

BLUE, ORANGE = "#4477aa", "#ee7733"  # told apart by colour-blind readers


def new_figure(width: float, height: float, columns: int = 1):
    """A matplotlib figure (inches) and its axes [columns], drawn without a screen."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, columns, figsize=(width, height), layout="constrained", squeeze=False)
    return figure, axes[0]


def save_figure(figure, path: Path) -> None:
    """Write a figure as PNG and close it; raises DataError if the place cannot be written."""
    from matplotlib import pyplot

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120, metadata={"Software": SOFTWARE})
    except OSError as error:
        raise DataError(f"The picture cannot be written to {path} ({error.strerror}).") from None
    finally:
        pyplot.close(figure)
