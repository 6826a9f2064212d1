"""What was tried: the validation error of heads trained with one setting changed at a time, several seeds each.

    python DiffPipeline6/DiffPipeline6__sweep.py --data data/prepared/utkface data/prepared/fairface --out sweep.csv
    python DiffPipeline6/DiffPipeline6__sweep.py --table sweep.csv

Everything is chosen on `val`; the test split is not touched.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.predictions import check_out, read_csv, write_table
from common.errors import DataError, UserError
from common.evaluation.tables import markdown, or_dash
from common.training.runs import new_run
from DiffPipeline6.DiffPipeline6__config import PRESETS, DiffPipeline6Config
from DiffPipeline6.DiffPipeline6__train import fit, predict, start_run

NEAREST = {"per_bin": 0, "references": 30}  # instead of so many of every 5-year bin
SETTINGS = {
    "released: 4 of each 5 years": {},
    "2 of each 5 years": {"per_bin": 2, "references": 16},
    "8 of each 5 years": {"per_bin": 8, "references": 64},
    "30 nearest": NEAREST,
    "1 nearest (DiffPipeline1-3)": NEAREST | {"references": 1},
    "10 nearest": NEAREST | {"references": 10},
    "100 nearest": NEAREST | {"references": 100},
    "30 nearest, window 3 years": NEAREST | {"reference_window": 3.0},
    "30 nearest, window 20 years": NEAREST | {"reference_window": 20.0},
    "average": {"aggregation": "avg"},
    "maximum": {"aggregation": "max"},
    "fc": {"aggregation": "fc"},
    "levels start halfway to the median age": {"median_share": 0.5},
    "levels start from the median age": {"median_share": 1.0},
    "all that is learnt counts": {"shrinkage": 1.0},
    "CORAL levels": {"ordinal": "coral"},
    "only unseen references (dar)": {"bank": "dar"},
    "no augmented views": {"views": 0},
    "original (R=5, max, exact age, differences 4-10)": PRESETS["original"],
    "no references: control (a)": {"references": 0, "per_bin": 0, "aggregation": "avg"},
}  # fmt: skip


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="DIR", help="prepared folders")
    add("--seeds", type=int, default=3, help="trainings of each setting (3)")
    add("--epochs", type=int, help="epochs of each training")
    add("--base-weights", default="", help="folder of the base's weights (the released ones)")
    add("--runs", default="", help="folder of run folders")
    add("--limit", type=int, default=0, help="use at most this many faces of each split and set")
    add("--out", type=Path, default=Path("sweep.csv"), metavar="CSV", help="write the errors here")
    add("--table", type=Path, metavar="CSV", help="only print the table of stored errors")
    return parser.parse_args(argv)


def sweep(arguments: argparse.Namespace) -> pd.DataFrame:
    """One row per setting and seed: mean absolute error (years) on the exact labels of val, base and corrected."""
    if not arguments.data:
        raise DataError("Give prepared folders with --data, or stored errors with --table.")
    common = {"runs": arguments.runs, "limit": arguments.limit, "base_weights": arguments.base_weights}
    if arguments.epochs:
        common["epochs"] = arguments.epochs
    rows = []
    for name, settings in SETTINGS.items():
        for seed in range(arguments.seeds):
            config = DiffPipeline6Config(**PRESETS["released"] | settings | common, seed=seed)
            run = start_run(config, arguments.data, new_run(config, "DiffPipeline6", arguments.data), resume=False)
            fit(run)
            data = run.data.validation
            truth, exact = data.low, data.exact
            base, full = (float(np.abs(ages - truth)[exact].mean()) for ages in (data.estimates[0], predict(run, data)))
            rows.append({"setting": name, "seed": seed, "base": base, "full": full})
            print(f"{name}, seed {seed}: base {base:.3f}, full {full:.3f}", flush=True)
    return pd.DataFrame(rows)


def table_lines(errors: pd.DataFrame) -> list[str]:
    """Markdown table of a sweep, in the order tried."""
    rows = [
        [name, len(part), *(or_dash(value, ".3f") for value in (*part[["base", "full"]].mean(), part["full"].std()))]
        for name, part in errors.groupby("setting", sort=False)
    ]
    return markdown(["setting", "seeds", "MAE base", "MAE full", "sd over seeds"], rows)


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    arguments = parse_arguments(argv)
    try:
        if not arguments.table:
            check_out(arguments.out, ("setting", "seed", "full"))
            write_table(sweep(arguments), arguments.out, 4)
        print("\n".join(table_lines(read_csv(arguments.table or arguments.out))))
    except (UserError, FileNotFoundError) as error:
        print(f"DiffPipeline6 sweep: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
