"""Ages of the faces in photos, end to end: the base's estimate corrected by comparison with references.

    python Ep3Pipeline/Ep3Pipeline__infer2.py  # the demo portrait, base and corrected
    python Ep3Pipeline/Ep3Pipeline__infer2.py photo.jpg album/ --out ages.csv --explain drawn/
    python Ep3Pipeline/Ep3Pipeline__infer2.py --manifest data/prepared/mine/manifest.csv
    python Ep3Pipeline/Ep3Pipeline__infer2.py photo.jpg --references family.npz --person anna
    python Ep3Pipeline/Ep3Pipeline__infer2.py photo.jpg --iterations 3  # the corrected age becomes the next estimate
    python Ep3Pipeline/Ep3Pipeline__infer2.py --manifest people.csv --mode oracle  # an upper bound

Exit status: 0 all estimated, 1 some inputs failed (named on stderr), 2 nothing could be done.
"""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import DataError
from common.files import WEIGHTS
from common.inference.options import InferenceOptions, Parser, inference_parser, parse_inference

if TYPE_CHECKING:
    from common.pipeline import AgePipeline


@dataclass(frozen=True)
class Ep3Options(InferenceOptions):
    """The options of every inference, and how many times over a face is corrected at most."""

    iterations: int = 1

    def check(self) -> None:
        """Raise DataError for options that do not go together."""
        super().check()
        if self.iterations == 1:
            return
        if self.iterations < 1:
            raise DataError(f"--iterations must be 1 or more, not {self.iterations}.")
        if self.mode != "full":
            raise DataError(f"--iterations corrects again; it does not go with --mode {self.mode}.")
        if self.interval is not None and not self.references:
            raise DataError("--interval is calibrated on what the weights say; it does not go with --iterations.")


def make_parser() -> Parser:
    """The command line that every pipeline has, and --iterations."""
    parser = inference_parser(__doc__, WEIGHTS / "Ep3Pipeline")
    parser.add_argument("--iterations", type=int, metavar="N", default=1, help="correct up to N times over (1)")
    return parser


def load(options: Ep3Options) -> "AgePipeline":
    """The pipeline that the options ask for; raises WeightsError."""
    from common.pipeline import AgePipeline
    from Ep3Pipeline.Ep3Pipeline__model import load_model

    corrector = load_model(options.weights, options.device, options.iterations)
    return AgePipeline(corrector.pipeline, corrector, options.weights)


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    options = parse_inference(make_parser(), __file__, argv, Ep3Options)
    from common.inference.run import infer

    return infer(options, "Ep3Pipeline", load)


if __name__ == "__main__":
    sys.exit(main())
