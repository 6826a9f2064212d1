"""The base regressor's distribution over ages for each face: its mode, its median and how wide it is.

    python AgeRegBaseline/AgeRegBaseline__infer.py                             # the demo portrait
    python AgeRegBaseline/AgeRegBaseline__infer.py photo.jpg --explain drawn/  # draws each face beside its distribution

Prints per face: estimated age, most probable age, median, and the 90 % range of the distribution. The range
says what the network believes; it is not calibrated.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common.base.distribution import median
from common.data.predictions import NOT_FINITE
from common.errors import UserError
from common.files import short_stem
from common.inference.drawings import draw_distribution
from common.inference.estimates import Face
from common.inference.inputs import list_inputs, read_faces
from common.inference.options import InputOptions, input_parser, read_options
from common.inference.terminal import patient_output, printable
from common.pipeline import RELEASED, AgePredictBasicPipeline


@dataclass(frozen=True)
class DistributionOptions(InputOptions):
    """The inputs of every inference, and the folder of images."""

    explain: Path | None = None


def parse_options(argv: list[str] | None = None) -> DistributionOptions:
    """The inputs of every inference, and --explain."""
    parser = input_parser(__doc__, RELEASED)
    told = "draw each face beside its distribution"
    parser.add_argument("--explain", "--plot", type=Path, metavar="DIR", help=told)
    return read_options(parser, argv, DistributionOptions)


def describe(ages: np.ndarray, log_probs: np.ndarray) -> dict[str, float]:
    """Mode, median and the ends of the central 90 % of one distribution [n_ages] over `ages` [n_ages], in years."""
    cumulative = np.exp(log_probs).cumsum()
    low, high = (ages[min(np.searchsorted(cumulative, part), len(ages) - 1)] for part in (0.05, 0.95))
    middle = median(torch.tensor(log_probs)[None], torch.tensor(ages))[0]
    return {"mode": float(ages[log_probs.argmax()]), "median": float(middle), "low": float(low), "high": float(high)}


def show(options: DistributionOptions) -> int:
    """Print (and draw) the distribution of every face; returns the exit status."""
    pipeline = AgePredictBasicPipeline.from_weights(options.weights, options.device)
    manifest = list_inputs(options)
    estimated, failed = 0, []
    print(f"{'age':>6s} {'mode':>6s} {'median':>6s} {'90 % range':>12s}  image")
    for found in read_faces(manifest, options, pipeline):
        known = found.known if isinstance(found, Face) else found
        result = pipeline.predict(found.crop[None]) if isinstance(found, Face) else None
        if result is None or not np.isfinite(result.ages[0]):
            failed.append(f"{known.photo}: {NOT_FINITE if result else known.status}")
            continue
        age, log_probs = float(result.ages[0]), result.log_probs[0]
        shape = describe(pipeline.ages, log_probs)
        span = f"{shape['low']:.0f} to {shape['high']:.0f}"
        print(f"{age:6.1f} {shape['mode']:6.0f} {shape['median']:6.1f} {span:>12s}  {printable(known.photo)}")
        estimated += 1
        if options.explain and isinstance(found, Face):
            draw(found, age, log_probs, pipeline.ages, options.explain)
    for line in failed:
        print(f"not estimated: {printable(line)}", file=sys.stderr)
    return 0 if not failed else 1 if estimated else 2


def draw(face: Face, age: float, log_probs: np.ndarray, ages: np.ndarray, folder: Path) -> None:
    """Draw a face beside its distribution [n_ages] over `ages` [n_ages] (years) into a folder."""
    marks = {"estimate": age} | ({} if np.isnan(face.true_age) else {"true age": face.true_age})
    drawn = folder / f"{face.known.row:04d}_{face.known.face}_{short_stem(face.known.photo)}.png"
    draw_distribution(face.crop, ages, log_probs, marks, drawn)
    print(f"drawn: {printable(str(drawn))}")


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 all estimated, 1 some failed, 2 nothing could be done."""
    options = parse_options(argv)
    try:
        with patient_output():
            return show(options)
    except UserError as error:
        print(f"AgeRegBaseline: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
