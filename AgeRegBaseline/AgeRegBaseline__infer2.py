"""Ages of the faces in photos, end to end, by the base regressor alone.

    python AgeRegBaseline__infer2.py                            # the demo portrait
    python AgeRegBaseline__infer2.py photo.jpg album/ --out ages.csv --explain drawn/
    python AgeRegBaseline__infer2.py --manifest data/prepared/utkface/manifest.csv --split test

Exit status: 0 all estimated, 1 some inputs failed (named on stderr), 2 nothing could be done.
"""

import sys
from argparse import Namespace

from common.drawing import draw_photos
from common.errors import DataError, UserError
from common.inference import add_intervals, estimate_base, exit_status, inference_parser, list_inputs, print_result
from common.pipeline import RELEASED, AgePredictBasicPipeline
from common.predictions import write_predictions


def refuse_what_is_missing(arguments: Namespace) -> None:
    """Raise DataError for options of the common command line that the base regressor has no answer to."""
    if arguments.mode != "bypass":
        raise DataError(f"The base regressor corrects nothing: it knows --mode bypass, not {arguments.mode}.")
    for option in ("references", "person"):
        if getattr(arguments, option):
            raise DataError(f"The base regressor uses no references: --{option} belongs to the difference pipelines.")
    if arguments.explain and (arguments.crops or arguments.manifest):
        raise DataError("--explain draws photos; it does not go with --crops or --manifest.")


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    arguments = inference_parser(__doc__, "bypass", RELEASED).parse_args(argv)
    try:
        refuse_what_is_missing(arguments)
        manifest = list_inputs(arguments)
        pipeline = AgePredictBasicPipeline.from_weights(arguments.weights, arguments.device)
        base = estimate_base(manifest, arguments, pipeline)
        table = base.table
        if arguments.interval is not None:
            add_intervals(base, arguments.interval, arguments.weights, "bypass")
        print_result(table)
        if arguments.out:
            write_predictions(table, arguments.out)
            print(f"predictions: {arguments.out}")
        if arguments.explain:
            draw_photos(table, arguments.explain)
    except UserError as error:
        print(f"AgeRegBaseline: {error}", file=sys.stderr)
        return 2
    return exit_status(table)


if __name__ == "__main__":
    sys.exit(main())
