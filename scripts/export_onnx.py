"""Write released base weights as an ONNX graph beside them, which every inference on a CPU then uses.

    python scripts/export_onnx.py                                   # weights/AgeRegBaseline
    python scripts/export_onnx.py --weights runs/AgeRegBaseline/<time>/weights
    python scripts/export_onnx.py --fast data/prepared/utkface      # also the graph of --fast, in 8 bits

Compares the ages of both on random crops and fails if they differ by more than 0.01 years. The 8-bit graph is
calibrated on faces of the base split and compared with the other on those of val.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from AgeRegBaseline.AgeRegBaseline__dataset import FaceSet
from common.base.distribution import interval_distance
from common.base.model import BARConfig, central_view, estimate
from common.base.onnx import FAST_FILE, ONNX_FILE, export_fast, export_onnx, load_onnx
from common.base.weights import load_bar
from common.errors import UserError, WeightsError
from common.pipeline import RELEASED
from common.training.tensorboard import evenly

TOLERANCE = 0.01  # years
CALIBRATED_BY = 512  # faces


def check(folder: Path) -> float:
    """Largest difference (years) of the ages that torch and ONNX Runtime give for random crops; raises WeightsError."""
    model = load_bar(folder)
    size = model.config.crop_size
    crops = np.random.default_rng(0).integers(0, 256, (16, size, size, 3), dtype=np.uint8)
    images = central_view(torch.from_numpy(crops), model.config)
    with torch.inference_mode():
        apart = (estimate(model, images).age - estimate(load_onnx(folder, model), images).age).abs().max().item()
    if apart > TOLERANCE:
        raise WeightsError(f"{folder}: the graph's ages differ from the weights' by {apart:.3f} years; do not use it.")
    return apart


def seen(faces: FaceSet, numbers: np.ndarray, config: BARConfig) -> Tensor:
    """The faces with these numbers [B] as the base sees them: [B, 3, I, I] float in 0..1."""
    return torch.cat([central_view(part, config) for part in faces.take(numbers).crops.split(64)])


def make_fast(weights: Path, folder: Path) -> None:
    """Write the 8-bit graph and print what it costs: errors of both on the val split (years), how far ages move."""
    model = load_bar(weights)
    base, val = (FaceSet([folder], split, model.config.crop_size) for split in ("base", "val"))
    written = export_fast(weights, seen(base, evenly(len(base), CALIBRATED_BY), model.config))
    images = seen(val, np.arange(len(val)), model.config)
    exact, fast = (estimate(load_onnx(weights, model, file), images).age for file in (ONNX_FILE, FAST_FILE))
    low, high = (torch.from_numpy(bound) for bound in (val.low, val.high))
    error, before = (interval_distance(age, low, high).mean().item() for age in (fast, exact))
    moves = (fast - exact).abs().numpy()
    print(f"{written}: {written.stat().st_size / 1e6:.1f} MB; MAE on {len(val)} faces of val {error:.3f},", end=" ")
    print(f"in full precision {before:.3f} years;", end=" ")
    print(f"ages differ by {moves.mean():.2f} on average, {np.quantile(moves, 0.99):.1f} at most for 99 % of the faces")


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--weights", type=Path, default=RELEASED, metavar="DIR", help="base weights (the released ones)"
    )
    words = "also write the 8-bit graph, calibrated on this prepared folder"
    parser.add_argument("--fast", type=Path, metavar="DIR", help=words)
    arguments = parser.parse_args(argv)
    try:
        written = export_onnx(load_bar(arguments.weights), arguments.weights)
        print(f"{written}: {written.stat().st_size / 1e6:.1f} MB, ages within {check(arguments.weights):.5f} years")
        if arguments.fast:
            make_fast(arguments.weights, arguments.fast)
    except UserError as error:
        print(f"export_onnx: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
