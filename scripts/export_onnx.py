"""Write released base weights as an ONNX graph beside them, which every inference on a CPU then uses.

    python scripts/export_onnx.py                                   # weights/AgeRegBaseline
    python scripts/export_onnx.py --weights runs/AgeRegBaseline/<time>/weights
    python scripts/export_onnx.py --fast data/prepared/utkface      # also the graph of --fast, in INT8
    python scripts/export_onnx.py --weights weights/DiffPipeline6   # the graph of the difference head

Compares the ages of both on random crops and fails if they differ by more than 0.01 years. The INT8 graph is
calibrated on faces of the base split and compared with the other on those of val.
"""

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from AgeRegBaseline.AgeRegBaseline__dataset import FaceSet
from common.base.distribution import interval_distance
from common.base.model import BARConfig, central_view, predict_by_torch
from common.base.onnx import FAST_FILE, ONNX_FILE, load_onnx
from common.base.onnx_export import export_fast, export_onnx
from common.base.prediction import predict_crops
from common.base.weight_files import read_settings
from common.base.weights import load_bar
from common.difference.corrector import Faces
from common.difference.head_export import export_head
from common.difference.onnx_head import load_graph_head
from common.errors import UserError, WeightsError
from common.pipeline import RELEASED
from common.training.tensorboard import evenly
from DiffPipeline6.DiffPipeline6__model import load_model as load_difference_model

TOLERANCE = 0.01  # years
CALIBRATED_BY = 512  # faces


def check(folder: Path) -> float:
    """Largest difference (years) of the ages that torch and ONNX Runtime give for random crops; raises WeightsError."""
    model = load_bar(folder)
    size = model.config.crop_size
    crops = np.random.default_rng(0).integers(0, 256, (16, size, size, 3), dtype=np.uint8)
    by_graph = predict_crops(load_onnx(folder, model.config), crops, model.config).ages
    return within_tolerance(folder, by_graph, predict_by_torch(model, crops).ages)


def within_tolerance(folder: Path, by_graph: np.ndarray, by_torch: np.ndarray) -> float:
    """Largest difference of ages [N] (years); raises WeightsError if it is more than TOLERANCE."""
    apart = float(np.abs(by_graph - by_torch).max())
    if apart > TOLERANCE:
        raise WeightsError(f"{folder}: the graph's ages differ from the weights' by {apart:.3f} years; do not use it.")
    return apart


def make_head(folder: Path) -> None:
    """Write the graph of a DiffPipeline6 head; print how far the ages of both are apart on references of its bank."""
    corrector = load_difference_model(folder, "cpu")
    written = export_head(corrector.head, folder)
    if written is None:
        raise WeightsError(f"The head in {folder} pools by fc, whose number of references is fixed; it has no graph.")
    some = corrector.bank.rows(np.linspace(0, len(corrector.bank) - 1, 256).astype(int))
    faces = Faces(some.embeddings.astype(np.float32), some.estimates, some.id, some.person)
    graph = replace(corrector, head=load_graph_head(folder, asdict(corrector.head.config)))
    apart = within_tolerance(folder, graph.correct(faces, votes=False).age, corrector.correct(faces, votes=False).age)
    print(f"{written}: {written.stat().st_size / 1e6:.1f} MB; ages differ from torch's by at most {apart:.6f} years")


def seen(faces: FaceSet, numbers: np.ndarray, config: BARConfig) -> Tensor:
    """The faces with these numbers [B] as the base sees them: [B, 3, I, I] float in 0..1."""
    return torch.cat([central_view(part, config) for part in faces.take(numbers).crops.split(64)])


def make_fast(weights: Path, folder: Path) -> None:
    """Write the INT8 graph and print what it costs: errors of both on the val split (years), how much ages change."""
    model = load_bar(weights)
    base, val = (FaceSet([folder], split, model.config.crop_size) for split in ("base", "val"))
    written = export_fast(weights, seen(base, evenly(len(base), CALIBRATED_BY), model.config))
    crops = val.take(np.arange(len(val))).crops.numpy()
    exact, fast = (
        torch.from_numpy(predict_crops(load_onnx(weights, model.config, file), crops, model.config).ages)
        for file in (ONNX_FILE, FAST_FILE)
    )
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
    words = "also write the INT8 graph, calibrated on this prepared folder"
    parser.add_argument("--fast", type=Path, metavar="DIR", help=words)
    arguments = parser.parse_args(argv)
    try:
        if "aggregation" in read_settings(arguments.weights).get("head", {}):
            make_head(arguments.weights)
            return 0
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
