"""Ages of the faces in photos, end to end, by the base regressor alone.

    python AgeRegBaseline/AgeRegBaseline__infer2.py                            # the demo portrait
    python AgeRegBaseline/AgeRegBaseline__infer2.py photo.jpg album/ --out ages.csv --explain drawn/
    python AgeRegBaseline/AgeRegBaseline__infer2.py --manifest data/prepared/utkface/manifest.csv --split test

Exit status: 0 all estimated, 1 some inputs failed (named on stderr), 2 nothing could be done.
"""

import sys
from argparse import Namespace

from common.errors import DataError, UserError
from common.files import WEIGHTS
from common.inference.options import inference_parser, parse_inference


def refuse_what_is_missing(arguments: Namespace) -> None:
    """Raise DataError for options of the common command line that the base regressor has no answer to."""
    if arguments.mode != "bypass":
        raise DataError(f"The base regressor corrects nothing: it knows --mode bypass, not {arguments.mode}.")
    for option in ("references", "person"):
        if getattr(arguments, option):
            raise DataError(f"The base regressor uses no references: --{option} belongs to the difference pipelines.")
    if arguments.multi_crop and (arguments.interval is not None or arguments.processes > 1 or arguments.shard):
        raise DataError("--multi-crop goes without --interval (calibrated on one view), --processes and --shard.")
    if arguments.explain and (arguments.crops or arguments.manifest):
        raise DataError("--explain draws photos; it does not go with --crops or --manifest.")


def estimate(arguments: Namespace) -> int:
    """Estimate all inputs of a command line and report; returns the exit status, raises UserError."""
    from common.inference.base_estimates import add_intervals, estimate_base
    from common.inference.drawings import draw_photos
    from common.inference.inputs import list_inputs
    from common.inference.report import report
    from common.inference.shards import infer_in_shards
    from common.pipeline import AgePredictBasicPipeline

    refuse_what_is_missing(arguments)
    manifest = list_inputs(arguments)
    if arguments.processes > 1:
        return report(infer_in_shards(arguments, manifest), arguments)
    pipeline = AgePredictBasicPipeline.from_weights(arguments.weights, arguments.device)
    pipeline.multi_crop = arguments.multi_crop
    base = estimate_base(manifest, arguments, pipeline)
    if arguments.interval is not None:
        add_intervals(base, arguments.interval, arguments.weights, "bypass")
    status = report(base.table, arguments)
    if arguments.explain:
        draw_photos(base.table, arguments.explain)
    return status


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = inference_parser(__doc__, "bypass", WEIGHTS / "AgeRegBaseline")
    parser.add_argument("--multi-crop", action="store_true", help="average six views of each face: slower, more exact")
    arguments = parse_inference(parser, __file__, argv)
    try:
        return estimate(arguments)
    except UserError as error:
        print(f"AgeRegBaseline: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
