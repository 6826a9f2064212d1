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

from common.bar import BARConfig, central_view, estimate
from common.checkpoints import load_bar
from common.errors import DataError, UserError, WeightsError
from common.manifest import load_prepared
from common.onnx_backend import FAST_FILE, ONNX_FILE, export_fast, export_onnx, load_onnx
from common.pipeline import RELEASED

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


def views(folder: Path, split: str, config: BARConfig, limit: int | None = None) -> tuple[Tensor, np.ndarray]:
    """Faces of a split [N, 3, I, I] as the base sees them, `limit` of them spread over it, and their ages [N]."""
    prepared = load_prepared(folder)
    rows = prepared.rows(split)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, limit).round().astype(int))] if limit else rows
    size = prepared.crops.shape[1]
    if size != config.crop_size:
        raise DataError(f"{folder} holds crops of {size} px, the weights want {config.crop_size} px; prepare it anew.")
    if not len(rows):
        raise DataError(f"{folder} has no face in split '{split}'.")
    crops = torch.from_numpy(prepared.crops[rows])
    images = torch.cat([central_view(part, config) for part in crops.split(64)])
    return images, prepared.manifest["age"].to_numpy(float)[rows]


def make_fast(weights: Path, faces: Path) -> None:
    """Write the 8-bit graph and print what it costs: errors of both on the val split (years), how far ages move."""
    model = load_bar(weights)
    written = export_fast(weights, views(faces, "base", model.config, CALIBRATED_BY)[0])
    images, truth = views(faces, "val", model.config)
    exact, fast = (estimate(load_onnx(weights, model, file), images).age.numpy() for file in (ONNX_FILE, FAST_FILE))
    moves = np.abs(fast - exact)
    print(f"{written}: {written.stat().st_size / 1e6:.1f} MB; MAE on {len(truth)} faces of val", end=" ")
    print(
        f"{np.nanmean(np.abs(fast - truth)):.3f}, in full precision {np.nanmean(np.abs(exact - truth)):.3f} years;",
        end=" ",
    )
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
