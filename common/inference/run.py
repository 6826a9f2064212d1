"""What the `__infer2` of DiffPipeline6 and Ep3Pipeline do with loaded weights: refuse, correct, draw, report."""

import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from common.difference.corrector import Correction, Corrector
from common.errors import DataError, UserError
from common.inference.base_estimates import BaseEstimates, add_intervals, estimate_base
from common.inference.correct_table import correct_table
from common.inference.drawings import draw_photos, draw_votes
from common.inference.inputs import list_inputs
from common.inference.own_table import correct_by_user
from common.inference.report import report
from common.inference.shards import infer_in_shards

EXPLAINED = 50  # faces drawn by --explain at most


def refuse_contradictions(arguments: Namespace) -> None:
    """Raise DataError for options of the common command line that do not go together."""
    if arguments.person and not arguments.references:
        raise DataError("--person names whose references in a bank to use; give the bank with --references.")
    if arguments.references and arguments.mode != "full":
        raise DataError(f"--references corrects; it does not go with --mode {arguments.mode}.")
    if arguments.interval is not None and arguments.mode == "oracle":
        raise DataError("--interval goes with --mode full or bypass; oracle is no estimate.")
    if arguments.mode == "oracle" and not arguments.manifest:
        raise DataError("--mode oracle looks for references at the true age; give it a --manifest with ages.")
    if arguments.mode == "bypass" and arguments.explain:
        raise DataError("--explain draws references, of which --mode bypass uses none.")


def explain(
    base: BaseEstimates,
    correction: Correction,
    corrector: Corrector,
    folder: Path,
    names: tuple[str, str] = ("with your references", "without them"),
) -> None:
    """Draw each face (the first 50) beside its references of the training bank into `folder`; prints where.

    Where the age of the table is another than this correction's, both are marked, by these names. (So of the user's own
    references only what they change is drawn.)
    """
    for place, row in enumerate(base.good_rows[:EXPLAINED]):
        mask = correction.mask[place]
        votes = pd.DataFrame(
            {
                "age": corrector.bank.ages[correction.index[place][mask]],
                "vote": correction.vote[place][mask],
                "weight": correction.weight[place][mask],
            }
        )
        record = base.table.loc[row]
        drawn = folder / f"{row:04d}_{Path(record['path']).stem}_references.png"
        marks = {"base": record["base_age"], "corrected": float(correction.age[place])}
        if abs(record["age"] - marks["corrected"]) > 0.05:
            marks = {"base": marks["base"], names[0]: record["age"], names[1]: marks["corrected"]}
        draw_votes(base.crops[place], votes, marks, (record["interval_low"], record["interval_high"]), drawn)
    count = min(len(base.good_rows), EXPLAINED)
    print(f"drawn: {count} of {len(base.good_rows)} faces beside their references in {folder}")


def estimate(base: BaseEstimates, corrector: Corrector, arguments: Namespace) -> None:
    """Correct the table of base estimates as the command line says, with intervals and drawings if asked for."""
    if arguments.mode != "bypass":
        correction = correct_table(base, corrector, oracle=arguments.mode == "oracle")
    if arguments.references:
        correct_by_user(base, corrector, arguments)
    elif arguments.interval is not None:
        add_intervals(base, arguments.interval, arguments.weights, arguments.mode)
    if arguments.explain:
        explain(base, correction, corrector, arguments.explain)
        if not (arguments.crops or arguments.manifest):
            draw_photos(base.table, arguments.explain)


def infer(arguments: Namespace, name: str, load: Callable[[], Corrector], refuse: Callable[[Namespace], None]) -> int:
    """Estimate all inputs of a command line and report; returns the exit status.

    `name` is the pipeline's, `load` loads its weights, `refuse` raises DataError for what it cannot do.
    """
    try:
        refuse(arguments)
        manifest = list_inputs(arguments)
        if arguments.processes > 1:
            table = infer_in_shards(arguments, manifest)
        else:
            corrector = load()
            base = estimate_base(manifest, arguments, corrector.pipeline)
            if len(base.good_rows):
                estimate(base, corrector, arguments)
            table = base.table
        if arguments.mode == "oracle":
            print("oracle: references were looked for at the TRUE age; these figures are an upper bound.")
        return report(table, arguments)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
