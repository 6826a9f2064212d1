"""The base regressor's distribution over ages for each face: its peak, its middle and how wide it is.

    python AgeRegBaseline/AgeRegBaseline__infer.py                             # the demo portrait
    python AgeRegBaseline/AgeRegBaseline__infer.py photo.jpg --plot drawn/     # draws each face beside its distribution

Prints per face: estimated age, most probable age, median, and the 90 % range of the distribution. The range
says what the network believes; it is not calibrated.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from common.base.distribution import median
from common.data.predictions import NOT_FINITE
from common.errors import UserError
from common.inference.drawings import draw_distribution
from common.inference.inputs import list_inputs, read_faces
from common.inference.options import input_parser
from common.pipeline import RELEASED, AgePredictBasicPipeline


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The inputs of every inference, and --plot."""
    parser = input_parser(__doc__, RELEASED)
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw each face beside its distribution")
    return parser.parse_args(argv)


def describe(ages: np.ndarray, log_probs: np.ndarray) -> dict[str, float]:
    """Peak, median and the ends of the central 90 % of one distribution [n_ages] over `ages` [n_ages], in years."""
    cumulative = np.exp(log_probs).cumsum()
    low, high = (ages[min(np.searchsorted(cumulative, part), len(ages) - 1)] for part in (0.05, 0.95))
    middle = median(torch.tensor(log_probs)[None], torch.tensor(ages))[0]
    return {"peak": float(ages[log_probs.argmax()]), "median": float(middle), "low": float(low), "high": float(high)}


def show(arguments: argparse.Namespace) -> int:
    """Print (and draw) the distribution of every face; returns the exit status."""
    pipeline = AgePredictBasicPipeline.from_weights(arguments.weights, arguments.device)
    manifest = list_inputs(arguments)
    estimated, failed = 0, []
    print(f"{'age':>6s} {'peak':>6s} {'median':>6s} {'90 % range':>12s}  picture")
    for row, _, faces in read_faces(manifest, arguments, pipeline):
        path = manifest.loc[row, "path"]
        if isinstance(faces, str):
            failed.append(f"{path}: {faces}")
            continue
        result = pipeline.predict(np.stack([face.crop for face in faces]))
        for face, age, log_probs in zip(faces, result.ages, result.log_probs, strict=True):
            if not np.isfinite(age):
                failed.append(f"{path}: {NOT_FINITE}")
                continue
            shape = describe(pipeline.ages, log_probs)
            span = f"{shape['low']:.0f} to {shape['high']:.0f}"
            print(f"{age:6.1f} {shape['peak']:6.0f} {shape['median']:6.1f} {span:>12s}  {path}")
            estimated += 1
            if arguments.plot:
                true_age = manifest.loc[row, "age"]
                marks = {"estimate": age} | ({} if np.isnan(true_age) else {"true age": true_age})
                drawn = arguments.plot / f"{row:04d}_{face.face}_{Path(path).stem}.png"
                draw_distribution(face.crop, pipeline.ages, log_probs, marks, drawn)
                print(f"drawn: {drawn}")
    for line in failed:
        print(f"not estimated: {line}", file=sys.stderr)
    return 0 if not failed else 1 if estimated else 2


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 all estimated, 1 some failed, 2 nothing could be done."""
    arguments = parse_arguments(argv)
    try:
        return show(arguments)
    except UserError as error:
        print(f"AgeRegBaseline: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
