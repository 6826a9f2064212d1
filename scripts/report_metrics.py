"""Metrics of stored predictions as a Markdown table, and as JSON.

    python scripts/report_metrics.py UTKFace-test=weights/AgeRegBaseline/predictions/utkface_test.csv.gz \\
        --out weights/AgeRegBaseline/metrics.json
    python scripts/report_metrics.py weights/AgeRegBaseline         # all predictions that are stored beside the weights

Reads predictions tables only (see common/data/predictions.py); no image is opened and nothing is estimated.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.data.labels import kind_of_ages
from common.data.predictions import read_predictions
from common.data.protocols import read_split_file, split_hash
from common.errors import DataError, UserError
from common.evaluation.metrics import distance_to_interval, estimated, not_finite_words, paired_bootstrap, summarise
from common.evaluation.tables import markdown, or_dash, signed_gain
from common.inference.terminal import until_closed


def table_lines(results: dict[str, dict[str, Any]]) -> list[str]:
    """Markdown tables of summaries by set name: exact labels, then interval labels."""
    lines = []
    exact = {name: result["exact"] for name, result in results.items() if "exact" in result}
    if exact:
        rows = []
        for name, part in exact.items():
            ages = part["by_age"]
            rows.append(_row(name, kind_of_ages(name), part["all"]))
            rows += [
                _row(f"– {band} years", kind_of_ages(name), ages[band])
                for band in ("0-12", "13-17", "18-29", "21-60", "65+")
                if band in ages
            ]
        heads = ["set", "faces", "MAE", "balanced MAE", "RMSE", "bias", "CS@3", "CS@5", "CS@10", "ages"]
        width = len(heads) if any(map(kind_of_ages, exact)) else len(heads) - 1
        lines += markdown(heads[:width], [row[:width] for row in rows])
    interval = {name: result["interval"] for name, result in results.items() if "interval" in result}
    if interval:
        rows = []
        for name, part in interval.items():
            parts = {name: part["all"]} | {f"– {group}": row for group, row in part.get("by_group", {}).items()}
            rows += [[key, row["n"], f"{row['hit_rate']:.1f}", f"{row['distance']:.2f}"] for key, row in parts.items()]
        lines += ["", *markdown(["set", "faces", "inside the interval (%)", "distance to it (years)"], rows)]
    return lines + failure_lines(results)


def failure_lines(results: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each set with estimates that are no finite ages; these miss in CS@k and hit rate."""
    failed = {name: row["not_finite"] for name, row in results.items() if "not_finite" in row}
    return [
        f"\n{name}: {not_finite_words(count, count + results[name]['faces'])}; they count as misses."
        for name, count in failed.items()
    ]


def gain_lines(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Markdown table of the base's and the corrected error of predictions by set name, none if nothing is corrected.

    The error (years) is the absolute one of exact labels, the distance of interval labels; 95 % of a paired bootstrap.
    """
    cells = []
    for name, table in tables.items():
        base_age = pd.to_numeric(table["base_age"], errors="coerce").to_numpy(float)
        good = table[estimated(table) & np.isfinite(base_age) & table["true_age_min"].notna().to_numpy()]
        low, high = (good[key].to_numpy(float) for key in ("true_age_min", "true_age_max"))
        exact = low == high
        base, age = (
            np.where(exact, np.abs(ages - low), distance_to_interval(ages, low, high))
            for ages in (good["base_age"].to_numpy(float), good["age"].to_numpy(float))
        )
        for kind, rows in ((", MAE", exact), (", distance to the interval", ~exact)):
            if rows.any() and not np.array_equal(base[rows], age[rows]):
                gain = paired_bootstrap(base[rows], age[rows], good["person"].to_numpy(str)[rows])
                means = [f"{error[rows].mean():.3f}" for error in (base, age)]
                cells.append([name + kind, rows.sum(), *means, signed_gain(**gain)])
    return ["", *markdown(["set", "faces", "base", "corrected", "gain (95 % interval)"], cells)] if cells else []


def _row(name: str, kind: str, row: dict[str, float]) -> list[object]:
    shares = [f"{row[key]:.1f}" for key in ("cs3", "cs5", "cs10")]
    means = [f"{row['mae']:.2f}", or_dash(row.get("balanced_mae"), ".2f"), f"{row['rmse']:.2f}"]
    return [name, row["n"], *means, f"{row['bias']:+.2f}", *shares, kind]


def named(argument: str) -> dict[str, Path]:
    """Files of predictions by name, of NAME=CSV or of a folder of weights; raises DataError if it is neither."""
    name, equals, path = argument.partition("=")
    if equals:
        return {name: Path(path)}
    stored = sorted((Path(argument) / "predictions").glob("*.csv.gz"))
    if not stored:
        raise DataError(
            f"'{argument}' must look like NAME=predictions.csv, or be a folder of weights with predictions."
        )
    return {path.name.removesuffix(".csv.gz"): path for path in stored}


def report(arguments: argparse.Namespace) -> None:
    """Print the tables, write the JSON; raises DataError for an argument that names no predictions."""
    tables = {name: read_predictions(path) for pair in arguments.predictions for name, path in named(pair).items()}
    results = {name: summarise(table) for name, table in tables.items()}
    print("\n".join(table_lines(results) + gain_lines(tables)))
    document: dict[str, Any] = {"sets": results}
    if arguments.split_file:
        split = read_split_file(arguments.split_file)
        document["split_file"] = {"file": arguments.split_file.name, "hash": split_hash(split)}
    if arguments.out:
        arguments.out.write_text(json.dumps(document, indent=1) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", nargs="+", metavar="NAME=CSV|DIR", help="a predictions table, or weights")
    parser.add_argument("--out", "--json", type=Path, metavar="FILE", help="write all metrics here")
    parser.add_argument(
        "--split-file", type=Path, metavar="CSV", help="name the splits used, with their hash, in --json"
    )
    try:
        report(parser.parse_args(argv))
    except UserError as error:
        print(f"report_metrics: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(until_closed(main))
