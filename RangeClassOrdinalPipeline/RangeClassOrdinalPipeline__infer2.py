"""Ages of the faces in photos, end to end: the correction of DiffPipeline6, as strong as pays for faces like this.

    python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__infer2.py  # the demo portrait
    python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__infer2.py photo.jpg album/ --out ages.csv --interval 0.9
    python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__infer2.py --manifest data/prepared/mine/manifest.csv
    python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__infer2.py --manifest people.csv --mode oracle

--mode full: gated by the class of error that is predicted; bypass: the base; oracle: the strength that is best for
each face's TRUE age, an upper bound of any gate. All columns are those of every pipeline, and error_class,
expected_error and ungated_age (years).
Exit status: 0 all estimated, 1 some inputs failed (named on stderr), 2 nothing could be done.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import DataError
from common.files import WEIGHTS
from common.inference.options import InferenceOptions, Parser, inference_parser, parse_inference

if TYPE_CHECKING:
    import pandas as pd

    from common.pipeline import AgePipeline


@dataclass(frozen=True)
class RangeOptions(InferenceOptions):
    """The options of every inference, and the folder of the corrector that the classifier was trained beside."""

    corrector: Path = WEIGHTS / "DiffPipeline6"


def make_parser() -> Parser:
    """The command line of a pipeline without own references, and --corrector."""
    parser = inference_parser(__doc__, WEIGHTS / "RangeClassOrdinalPipeline", own_references=False)
    words = "DiffPipeline6 weights the classifier was trained beside (the released ones)"
    default = WEIGHTS / "DiffPipeline6"
    parser.add_argument("--corrector", type=Path, default=default, metavar="DIR", help=words)
    return parser


def load(options: RangeOptions) -> "AgePipeline":
    """The pipeline that the options ask for; raises WeightsError, DataError if its classifier makes no gate."""
    from common.pipeline import AgePipeline
    from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__model import load_model

    model = load_model(options.weights, options.device, options.corrector)
    if model.gate is None:
        raise DataError(f"{options.weights} classifies differences of pairs; only --target error makes a gate.")
    return AgePipeline(model.corrector.pipeline, model, options.weights)


def tell(table: "pd.DataFrame", options: RangeOptions) -> None:
    """Print how the gate does on faces of known age: never, always, gated, and the upper bound."""
    from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__gate import gate_lines

    known = table[table["true_age"].notna() & table["age"].notna()]
    if options.mode != "bypass" and len(known) > 1:
        print("\n".join(gate_lines(known)))


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    options = parse_inference(make_parser(), __file__, argv, RangeOptions)
    from common.inference.run import infer

    return infer(options, "RangeClassOrdinalPipeline", load, tell)


if __name__ == "__main__":
    sys.exit(main())
