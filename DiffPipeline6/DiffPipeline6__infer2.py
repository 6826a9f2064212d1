"""Ages of the faces in photos, end to end: the base's estimate corrected by comparison with references.

    python DiffPipeline6/DiffPipeline6__infer2.py  # the demo portrait, base and corrected
    python DiffPipeline6/DiffPipeline6__infer2.py photo.jpg album/ --out ages.csv --explain drawn/
    python DiffPipeline6/DiffPipeline6__infer2.py --manifest data/prepared/mine/manifest.csv
    python DiffPipeline6/DiffPipeline6__infer2.py photo.jpg --references family.npz --person anna
    python DiffPipeline6/DiffPipeline6__infer2.py --manifest people.csv --mode oracle  # an upper bound

References of the training sets gain 0.04 years on UTKFace and lose 0.2 to 0.3 on photos unlike them (there
--mode bypass is better); dated photos of your own (--references) gain much: DiffPipeline6/README.md.

Exit status: 0 all estimated, 1 some inputs failed (named on stderr), 2 nothing could be done.
"""

import sys
from typing import TYPE_CHECKING

from common.files import WEIGHTS
from common.inference.options import InferenceOptions, inference_parser, parse_inference

if TYPE_CHECKING:
    from common.pipeline import AgePipeline


def load(options: InferenceOptions) -> "AgePipeline":
    """The pipeline that the options ask for; raises WeightsError."""
    from common.difference.corrector import load_corrector
    from common.pipeline import AgePipeline

    corrector = load_corrector(options.weights, options.device)
    return AgePipeline(corrector.pipeline, corrector, options.weights)


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    options = parse_inference(inference_parser(__doc__, WEIGHTS / "DiffPipeline6"), __file__, argv, InferenceOptions)
    from common.inference.run import infer

    return infer(options, "DiffPipeline6", load)


if __name__ == "__main__":
    sys.exit(main())
