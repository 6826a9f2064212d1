"""The report of analyze_reg_model.py, through the very pipeline that AgeRegBaseline__infer2.py runs (mode bypass).

    python scripts/analyze_reg_model_on_actual_pipe.py --manifest data/prepared/utkface/manifest.csv --split test

The manifest.csv of a prepared folder is read from its crops.npy; of any other manifest the photos are opened, faces
found and aligned. On the same crops it finds what analyze_reg_model.py finds, to float tolerance
(tests/scripts/test_analyze.py).
Exit status: 0 all estimated, 1 some inputs failed (named on stderr), 2 nothing could be done.
"""

import argparse
import sys

from common.data.predictions import answered
from common.errors import DataError
from common.inference.inputs import list_inputs
from common.inference.options import InferenceOptions
from common.inference.report import exit_status
from common.inference.run import estimate
from common.inference.table import predictions_of
from common.pipeline import AgePipeline, AgePredictBasicPipeline
from scripts.report.command import check_words, deliver, report_parser, run_command, source_name


def run(arguments: argparse.Namespace) -> int:
    """Estimate by the pipeline and make the report; raises UserError for anything that cannot be used."""
    check_words(arguments)
    if not arguments.manifest:
        raise DataError("Give --manifest with the faces to estimate.")
    names = ("manifest", "split", "crops", "weights", "batch_size", "device", "interval")
    options = InferenceOptions(mode="bypass", **{name: getattr(arguments, name) for name in names})
    manifest = list_inputs(options)
    base = AgePredictBasicPipeline.from_weights(options.weights, options.device)
    estimates = estimate(AgePipeline(base, None, options.weights), manifest, options)
    table = predictions_of(estimates.faces, manifest)
    for row in table[~answered(table)].itertuples():
        print(f"not estimated: {row.path}: {row.status}", file=sys.stderr)
    deliver(arguments, table, source_name(arguments))
    return exit_status(table)


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = report_parser(__doc__)
    parser.add_argument("--crops", action="store_true", help="the images are face crops: do not look for faces")
    arguments = parser.parse_args(argv)
    return run_command("analyze_reg_model_on_actual_pipe", lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
