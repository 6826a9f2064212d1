"""Calibrate the prediction intervals of released weights, and report their coverage.

    python scripts/calibrate_intervals.py --data data/prepared/utkface
    python scripts/calibrate_intervals.py --report weights/DiffPipeline6/predictions/utkface_test.csv

The expected error is fitted on the `dar` split (the base was not trained on it), the intervals on `calib` (nothing was
trained or selected on it). Writes intervals.json into both weights folders. --report reads predictions made with
--interval P and prints coverage and mean width by decade of predicted age.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from common.age_distribution import spread
from common.correction import Corrector, Faces
from common.errors import DataError, UserError
from common.intervals import calibrate, fit_coefficients, save_calibrators
from common.manifest import load_prepared
from common.pipeline import RELEASED as BASE_RELEASED
from common.predictions import read_predictions
from DiffPipeline6.DiffPipeline6__model import RELEASED, load_model


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="DIR", help="prepared folders with exact ages")
    add("--base", type=Path, default=BASE_RELEASED, metavar="DIR", help="base weights to write intervals for")
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="DiffPipeline6 weights to write intervals for")
    add("--limit", type=int, default=0, metavar="N", help="use at most this many faces of each split and set")
    add("--report", type=Path, metavar="CSV", help="only report the coverage of stored predictions")
    return parser.parse_args(argv)


def estimate_split(corrector: Corrector, folders: list[str], split: str, limit: int) -> pd.DataFrame:
    """true_age, base, full, spread (years) of the exactly labelled faces of a split."""
    parts = []
    for folder in folders:
        prepared = load_prepared(folder)
        rows = prepared.rows(split)
        rows = rows[prepared.manifest["age"].notna().to_numpy()[rows]]
        rows = rows[:limit] if limit else rows
        if not len(rows):
            continue
        manifest = prepared.manifest.iloc[rows]
        base = corrector.pipeline.predict(prepared.crops[rows])
        names = (manifest[name].to_numpy(str) for name in ("id", "person"))
        full = corrector.correct(Faces(base.embeddings, base.ages, *names), votes=False).age
        columns = {
            "true_age": manifest["age"].to_numpy(float),
            "base": base.ages,
            "full": full,
            "spread": spread(base.log_probs, corrector.pipeline.ages),
        }
        parts.append(pd.DataFrame(columns).astype(float))
    if not parts:
        raise DataError(f"No face in split '{split}' of {', '.join(folders)} has an exact age.")
    return pd.concat(parts, ignore_index=True)


def run(arguments: argparse.Namespace) -> None:
    """Fit, calibrate and write both intervals.json."""
    if not arguments.data:
        raise DataError("Give prepared folders with --data, or stored predictions with --report.")
    corrector = load_model(arguments.weights, "cpu")
    dar, calib = (estimate_split(corrector, arguments.data, split, arguments.limit) for split in ("dar", "calib"))
    error = (dar["base"] - dar["true_age"]).to_numpy()
    coefficients = fit_coefficients(dar["base"].to_numpy(), dar["spread"].to_numpy(), error)
    made = {}
    for mode, column in (("bypass", "base"), ("full", "full")):
        error = (calib[column] - calib["true_age"]).to_numpy()
        made[mode] = calibrate(coefficients, calib["base"].to_numpy(), calib["spread"].to_numpy(), error)
    save_calibrators(arguments.base, {"bypass": made["bypass"]})
    save_calibrators(arguments.weights, made)
    print(f"intervals from {len(dar)} dar and {len(calib)} calib faces: {arguments.base}, {arguments.weights}")


def report(table: pd.DataFrame) -> list[str]:
    """Markdown table of coverage and width, overall and by decade of predicted age; raises DataError without any."""
    good = table[table["interval_low"].notna() & (table["true_age_min"] == table["true_age_max"])]
    if good.empty:
        raise DataError("These predictions hold no intervals beside exact ages; make them with --interval P.")
    inside = (good["true_age_min"] >= good["interval_low"]) & (good["true_age_min"] <= good["interval_high"])
    width = good["interval_high"] - good["interval_low"]
    error = np.sort((good["age"] - good["true_age_min"]).abs())
    constant = 2 * error[min(len(error) - 1, int(np.ceil(inside.mean() * len(error))) - 1)]
    lines = ["| predicted age | faces | coverage (%) | mean width (years) |", "|---|---|---|---|"]
    decade = (good["age"] // 10 * 10).clip(0, 70).astype(int)
    for start in sorted(decade.unique()):
        rows = decade == start
        name = f"{start}–{start + 9}" if start < 70 else "70+"
        lines.append(f"| {name} | {rows.sum()} | {100 * inside[rows].mean():.1f} | {width[rows].mean():.1f} |")
    lines.append(f"| all | {len(good)} | {100 * inside.mean():.1f} | {width.mean():.1f} |")
    lines.append(f"| all, one constant width of the same coverage (hindsight) | {len(good)} | – | {constant:.1f} |")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    arguments = parse_arguments(argv)
    try:
        if arguments.report:
            print("\n".join(report(read_predictions(arguments.report))))
        else:
            run(arguments)
    except UserError as error:
        print(f"calibrate_intervals: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
