"""Ages of the faces in photos, end to end: the base's estimate corrected by comparison with references.

    python DiffPipeline6/DiffPipeline6__infer2.py  # the demo portrait, base and corrected
    python DiffPipeline6/DiffPipeline6__infer2.py photo.jpg album/ --out ages.csv --explain drawn/
    python DiffPipeline6/DiffPipeline6__infer2.py --manifest data/prepared/mine/manifest.csv
    python DiffPipeline6/DiffPipeline6__infer2.py photo.jpg --references family.npz --person anna
    python DiffPipeline6/DiffPipeline6__infer2.py --manifest people.csv --mode oracle  # an upper bound

Exit status: 0 all estimated, 1 some inputs failed (named on stderr), 2 nothing could be done.
"""

import sys
from functools import partial

from common.files import WEIGHTS
from common.inference.options import inference_parser, parse_inference


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    arguments = parse_inference(inference_parser(__doc__, "full", WEIGHTS / "DiffPipeline6"), __file__, argv)
    from common.inference.run import infer, refuse_contradictions
    from DiffPipeline6.DiffPipeline6__model import load_model

    load = partial(load_model, arguments.weights, arguments.device)
    return infer(arguments, "DiffPipeline6", load, refuse_contradictions)


if __name__ == "__main__":
    sys.exit(main())
