"""Write released base weights as an ONNX graph beside them, which every inference on a CPU then uses.

    python scripts/export_onnx.py                                   # weights/AgeRegBaseline
    python scripts/export_onnx.py --weights runs/AgeRegBaseline/<time>/weights

Compares the ages of both on random crops and fails if they differ by more than 0.01 years.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from common.bar import central_view, estimate
from common.checkpoints import load_bar
from common.errors import UserError, WeightsError
from common.onnx_backend import export_onnx, load_onnx
from common.pipeline import RELEASED

TOLERANCE = 0.01  # years


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


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--weights", type=Path, default=RELEASED, metavar="DIR", help="base weights (the released ones)"
    )
    arguments = parser.parse_args(argv)
    try:
        written = export_onnx(load_bar(arguments.weights), arguments.weights)
        print(f"{written}: {written.stat().st_size / 1e6:.1f} MB, ages within {check(arguments.weights):.5f} years")
    except UserError as error:
        print(f"export_onnx: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
