"""Ages of the faces in photos, end to end: the correction of DiffPipeline6, as strong as pays for faces like this.

    python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__infer2.py  # the demo portrait
    python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__infer2.py photo.jpg album/ --out ages.csv --interval 0.9
    python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__infer2.py --manifest data/prepared/mine/manifest.csv
    python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__infer2.py --manifest people.csv --mode oracle

--mode full: gated by the class of error that is predicted; bypass: the base; oracle: the strength that is best for
each face's TRUE age, an upper bound of any gate. The predictions get two more columns: error_class (years) and
expected_error (years). Exit status: 0 all estimated, 1 some inputs failed (named on stderr), 2 nothing could be done.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import pandas as pd

from common.difference.corrector import Correction, Faces
from common.errors import DataError, UserError
from common.evaluation.metrics import paired_bootstrap
from common.evaluation.tables import DASH, error_figures, markdown, signed_gain
from common.inference.base_estimates import BaseEstimates, add_intervals, estimate_base
from common.inference.correct_table import correct_table
from common.inference.inputs import list_inputs
from common.inference.options import inference_parser, parse_inference
from common.inference.report import report
from common.inference.run import explain, refuse_contradictions
from common.inference.shards import infer_in_shards
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__dataset import range_class
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__model import CORRECTOR, RELEASED, RangeModel, load_model
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__train import STRENGTHS


def make_parser() -> ArgumentParser:
    """The command line that every pipeline has, and --corrector."""
    parser = inference_parser(__doc__, "full", RELEASED)
    words = "DiffPipeline6 weights the classifier was trained beside (the released ones)"
    parser.add_argument("--corrector", type=Path, default=CORRECTOR, metavar="DIR", help=words)
    return parser


def refuse(arguments: Namespace) -> None:
    """Raise DataError for options that do not go together."""
    refuse_contradictions(arguments)
    if arguments.references:
        raise DataError("The gate is fitted on the released bank; give --references to DiffPipeline6__infer2.py.")


def class_names(edges: tuple[float, ...]) -> list[str]:
    """Names of the classes in years, as "0-2", "2-4", …, ">10"."""
    starts = (0.0, *edges)
    return [*(f"{low:g}-{high:g}" for low, high in zip(starts, edges, strict=False)), f">{edges[-1]:g}"]


def best_strength(base: np.ndarray, corrected: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Ages [N] (years) with the strength that is best for each true age [N]: an upper bound, never an estimate."""
    ages = base[:, None] + STRENGTHS[None, :] * (corrected - base)[:, None]  # [N, strengths]
    best = np.abs(ages - truth[:, None]).argmin(axis=1)
    return np.take_along_axis(ages, best[:, None], axis=1)[:, 0]


def gate_table(
    base: np.ndarray, corrected: np.ndarray, gated: np.ndarray, truth: np.ndarray, person: np.ndarray
) -> list[str]:
    """Markdown lines: never, always, gated, and the upper bound, of ages [N] in years, person [N] str.

    Gains are over never, with paired bootstrap intervals (persons are drawn whole).
    """
    rows = {"never (base)": base, "always": corrected, "gated": gated}
    rows["oracle: best strength for the TRUE age (upper bound)"] = best_strength(base, corrected, truth)
    cells = []
    for name, ages in rows.items():
        gain = DASH if ages is base else signed_gain(**paired_bootstrap(base - truth, ages - truth, person))
        cells.append([name, *error_figures(ages - truth), gain])
    return markdown([f"correction, {len(truth)} faces", "MAE", "CS@5", "bias", "gain over never"], cells)


def estimate(base: BaseEstimates, model: RangeModel, mode: str) -> Correction:
    """Correct the table of base estimates by the gate and print how it does; returns the ungated correction."""
    table, rows = base.table, base.good_rows
    correction = correct_table(base, model.corrector)
    good = table.loc[rows]
    own, corrected = good["base_age"].to_numpy(float), good["age"].to_numpy(float)
    names = [good[name].fillna("").to_numpy(str) for name in ("id", "person")]
    probabilities = model.error_classes(Faces(base.embeddings, own.astype(np.float32), *names), correction)
    gated = model.gate.apply(own, corrected, probabilities)
    ends = np.array(class_names(model.head.config.edges))
    table.loc[rows, "error_class"] = ends[probabilities.argmax(axis=1)]
    table.loc[rows, "expected_error"] = model.gate.expected_error(probabilities)
    truth = good["true_age"].to_numpy(float)
    if mode == "oracle" and np.isnan(truth).any():
        raise DataError("--mode oracle needs the exact age of every face in the manifest.")
    table.loc[rows, "age"] = best_strength(own, corrected, truth) if mode == "oracle" else gated
    known = ~np.isnan(truth)
    if known.sum() > 1:
        print("\n".join(gate_table(*(ages[known] for ages in (own, corrected, gated, truth, names[1])))))
        said, true = probabilities.argmax(axis=1), range_class(np.abs(own - truth)[known], model.head.config.edges)
        print(f"class of the base's error: {100 * (said[known] == true).mean():.1f} % right")
    return correction


def gated_table(arguments: Namespace, manifest: pd.DataFrame) -> pd.DataFrame:
    """The predictions for a manifest; raises DataError, WeightsError."""
    model = load_model(arguments.weights, arguments.device, arguments.corrector)
    if model.gate is None:
        raise DataError(f"{arguments.weights} classifies differences of pairs; only --target error makes a gate.")
    base = estimate_base(manifest, arguments, model.corrector.pipeline)
    if not len(base.good_rows):
        return base.table
    correction = estimate(base, model, arguments.mode) if arguments.mode != "bypass" else None
    if arguments.interval is not None:
        add_intervals(base, arguments.interval, arguments.weights, arguments.mode)
    if arguments.explain:
        explain(base, correction, model.corrector, arguments.explain, names=("gated", "not gated"))
    return base.table


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    arguments = parse_inference(make_parser(), __file__, argv)
    try:
        refuse(arguments)
        manifest = list_inputs(arguments)
        table = infer_in_shards(arguments, manifest) if arguments.processes > 1 else gated_table(arguments, manifest)
        if arguments.mode == "oracle":
            print("oracle: the strength was chosen by the TRUE age; these figures are an upper bound.")
        return report(table, arguments)
    except UserError as error:
        print(f"RangeClassOrdinalPipeline: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
