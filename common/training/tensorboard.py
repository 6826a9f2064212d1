"""What TensorBoard shows of a base training besides its curves: an augmented batch, distributions, a scatter."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from common.base.torchvision_cpu import allow_torchvision_import
from common.figures import BLUE, ORANGE, new_figure

BATCH, DISTRIBUTIONS, SCATTER = "batch/augmented", "validation/distributions", "validation/scatter"  # tags
COLUMNS, ROWS, GAP = 8, 2, 4  # of the grid of a batch; the gap in pixels
ROW = 0.9  # height of the highest bar of a distribution; the rows are 1 apart


def log_grid(writer: SummaryWriter, images: Tensor, step: int) -> None:
    """Log images [B, 3, I, I] float in 0..1 under BATCH; see `batch_grid`."""
    writer.add_image(BATCH, batch_grid(images), step, dataformats="HWC")


def batch_grid(images: Tensor) -> np.ndarray:
    """Up to 16 images of a batch [B, 3, I, I] float in 0..1, evenly spaced, as one image [H, W, 3] uint8.

    The images lie in rows of up to 8 on white, W being 8 · (I + 4) + 4 where there are 8 or more of them.
    """
    allow_torchvision_import()
    from torchvision.utils import make_grid

    chosen = images[torch.from_numpy(evenly(len(images), COLUMNS * ROWS))].detach().float().clamp(0, 1)
    picture = make_grid(chosen, COLUMNS, GAP, pad_value=1.0)  # [3, H, W]
    return (255 * picture).round().byte().permute(1, 2, 0).cpu().numpy()


def evenly(count: int, wanted: int) -> np.ndarray:
    """Up to `wanted` of the numbers 0 … count - 1, [W] int64, evenly spaced with both ends."""
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64)


def draw_distributions(ages: np.ndarray, log_probs: np.ndarray, low: np.ndarray, high: np.ndarray):
    """A figure of N distributions over ages above each other, the true age of each marked; the first is the lowest.

    `ages` [n_ages] years; `log_probs` [N, n_ages]; `low`, `high` [N] years: the label of each face (equal if exact).
    Every distribution is scaled to its own peak, which is marked too.
    """
    figure, (axis,) = new_figure(7.2, 1.4 + 0.5 * len(log_probs))
    place, probabilities = np.arange(len(log_probs)), np.exp(log_probs)  # [N], [N, n_ages]
    scaled = ROW * probabilities / probabilities.max(axis=1, keepdims=True)
    edges = np.append(ages - 0.5, ages[-1] + 0.5)  # [n_ages + 1]
    for bottom, heights in enumerate(scaled):
        label = "predicted" if bottom == 0 else None
        axis.stairs(bottom + heights, edges, baseline=bottom, fill=True, color=BLUE, label=label)
    axis.plot(ages[scaled.argmax(axis=1)], place + ROW, "v", color="black", markersize=7, label="its peak")
    width = np.maximum(high - low, 1.0)
    axis.bar((low + high) / 2, ROW, width, bottom=place, color=ORANGE, alpha=0.8, label="true age")
    names = [f"{young:g}" if young == old else f"{young:g}–{old:g}" for young, old in zip(low, high, strict=True)]
    axis.set_yticks(np.arange(len(log_probs)) + ROW / 2, names)
    axis.set(xlabel="age (years); height: probability, each face to its own scale", ylabel="face of true age (years)")
    axis.set(xlim=(ages[0] - 1, ages[-1] + 1), ylim=(-0.15, len(log_probs) + 0.15))
    axis.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def draw_scatter(truth: np.ndarray, age: np.ndarray):
    """A figure of estimated over true ages, [N] years each, with the line where they agree."""
    figure, (axis,) = new_figure(5.2, 5.0)
    ends = (min(0.0, truth.min(), age.min()) - 2, max(truth.max(), age.max()) + 2)
    axis.scatter(truth, age, s=16, color=BLUE, alpha=0.6, linewidths=0, label=f"{len(truth)} validation faces")
    axis.plot(ends, ends, color=ORANGE, linestyle="--", label="estimate = true age")
    title = f"MAE {np.abs(age - truth).mean():.2f} years"
    axis.set(xlabel="true age (years)", ylabel="estimated age (years)", xlim=ends, ylim=ends, title=title)
    axis.set_aspect("equal")
    axis.legend(frameon=False, loc="upper left")
    return figure
