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
from argparse import ArgumentParser, Namespace
from functools import partial

from common.errors import DataError
from common.files import WEIGHTS
from common.inference.options import inference_parser, parse_inference


def make_parser() -> ArgumentParser:
    """The command line that every pipeline has, and --iterations."""
    parser = inference_parser(__doc__, "full", WEIGHTS / "Ep3Pipeline")
    parser.add_argument("--iterations", type=int, metavar="N", default=1, help="correct up to N times over (1)")
    return parser


def refuse(arguments: Namespace) -> None:
    """Raise DataError for options that do not go together."""
    from common.inference.run import refuse_contradictions

    refuse_contradictions(arguments)
    if arguments.iterations == 1:
        return
    if arguments.iterations < 1:
        raise DataError(f"--iterations must be 1 or more, not {arguments.iterations}.")
    if arguments.mode != "full":
        raise DataError(f"--iterations corrects again; it does not go with --mode {arguments.mode}.")
    if arguments.interval is not None and not arguments.references:
        raise DataError("--interval is calibrated on what the weights say; it does not go with --iterations.")


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    arguments = parse_inference(make_parser(), __file__, argv)
    from common.inference.run import infer
    from Ep3Pipeline.Ep3Pipeline__model import load_model

    load = partial(load_model, arguments.weights, arguments.device, arguments.iterations)
    return infer(arguments, "Ep3Pipeline", load, refuse)


if __name__ == "__main__":
    sys.exit(main())
