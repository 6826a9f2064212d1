"""The report of analyze_reg_model.py, through the very pipeline that AgeRegBaseline__infer2.py runs (mode bypass).

    python scripts/analyze_reg_model_on_actual_pipe.py --manifest data/prepared/utkface/manifest.csv --split test

The manifest.csv of a prepared folder is read from its crops.npy; of any other manifest the photos are opened, faces
found and aligned. On the same crops it finds what analyze_reg_model.py finds, to float tolerance
(tests/scripts/test_analyze.py).
Exit status: 0 all estimated, 1 some inputs failed (named on stderr), 2 nothing could be done.
"""

import argparse
import sys

from common.data.predictions import OK
from common.errors import DataError
from common.inference.base_estimates import add_intervals, estimate_base
from common.inference.inputs import list_inputs
from common.inference.report import exit_status
from common.pipeline import AgePredictBasicPipeline
from scripts.report.command import check_words, deliver, report_parser, run_command, source_name


def run(arguments: argparse.Namespace) -> int:
    """Estimate by the pipeline and make the report; raises UserError for anything that cannot be used."""
    check_words(arguments)
    if not arguments.manifest:
        raise DataError("Give --manifest with the faces to estimate.")
    manifest = list_inputs(arguments)
    pipeline = AgePredictBasicPipeline.from_weights(arguments.weights, arguments.device)
    base = estimate_base(manifest, arguments, pipeline)
    if arguments.interval is not None:
        add_intervals(base, arguments.interval, arguments.weights, "bypass")
    for row in base.table[base.table["status"] != OK].itertuples():
        print(f"not estimated: {row.path}: {row.status}", file=sys.stderr)
    deliver(arguments, base.table, source_name(arguments))
    return exit_status(base.table)


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = report_parser(__doc__)
    parser.add_argument("--crops", action="store_true", help="the pictures are face crops: do not look for faces")
    arguments = parser.parse_args(argv, argparse.Namespace(inputs=[]))
    return run_command("analyze_reg_model_on_actual_pipe", lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
