"""Ages of the faces in photos, end to end, by the base regressor alone.

    python AgeRegBaseline/AgeRegBaseline__infer2.py                            # the demo portrait
    python AgeRegBaseline/AgeRegBaseline__infer2.py photo.jpg album/ --out ages.csv --explain drawn/
    python AgeRegBaseline/AgeRegBaseline__infer2.py --manifest data/prepared/utkface/manifest.csv --split test

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
class BaseOptions(InferenceOptions):
    """The options of every inference, and whether several views of a face are averaged."""

    multi_crop: bool = False

    def check(self) -> None:
        """Raise DataError for options that do not go together."""
        super().check()
        if self.multi_crop and (self.interval is not None or self.processes > 1 or self.shard):
            raise DataError("--multi-crop goes without --interval (calibrated on one view), --processes and --shard.")


def make_parser() -> Parser:
    """The command line of a pipeline without references, and --multi-crop."""
    parser = inference_parser(__doc__, WEIGHTS / "AgeRegBaseline", corrects=False, own_references=False)
    parser.add_argument(
        "--multi-crop", action="store_true", help="average multi-scale TTA: six views of each face: slower, more exact"
    )
    return parser


def load(options: BaseOptions) -> "AgePipeline":
    """The pipeline that the options ask for; raises WeightsError."""
    from common.pipeline import AgePipeline, AgePredictBasicPipeline

    base = AgePredictBasicPipeline.from_weights(options.weights, options.device)
    base.multi_crop = options.multi_crop
    return AgePipeline(base, None, options.weights)


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    options = parse_inference(make_parser(), __file__, argv, BaseOptions)
    from common.inference.run import infer

    return infer(options, "AgeRegBaseline", load)


if __name__ == "__main__":
    sys.exit(main())
