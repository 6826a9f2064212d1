"""Calibrate the prediction intervals of released weights, and report their coverage.

    python scripts/calibrate_intervals.py --data data/prepared/utkface data/prepared/publicfigures
    python scripts/calibrate_intervals.py --report weights/DiffPipeline6/predictions/{utkface,publicfigures}_test.csv.gz

The expected error is fitted on the `dar` split (the base was not trained on it), the intervals on `calib` (nothing was
trained or selected on it), by decade of the base's estimate; every set weighs alike. Writes intervals.json into the
weights folders of the base, of DiffPipeline6, and of the other pipelines that are named, and prints the coverage on
`val`. --report reads predictions made with --interval P. Coverage is by decade of predicted age, with 95 % Wilson
intervals, beside the mean width.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from common.base.intervals import (
    DOUBTFUL_ERROR,
    IntervalCalibrator,
    bounds,
    calibrate,
    fit_coefficients,
    save_calibrators,
)
from common.data.manifest import PreparedSet, drawn, load_prepared
from common.errors import DataError, UserError
from common.evaluation.tables import DASH, markdown, with_interval
from common.faces.alignment import resize_crop
from common.files import plain_name
from common.inference.estimates import Face
from common.pipeline import RELEASED as BASE_RELEASED
from common.pipeline import AgePipeline, FaceAge
from DiffPipeline6.DiffPipeline6__model import RELEASED, load_model
from Ep3Pipeline.Ep3Pipeline__model import load_model as load_ep3
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__model import load_model as load_ranges
from scripts.report.numbers import coverage, exact_rows, load_predictions

PROBABILITY = 0.9  # whose coverage on val is printed


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="DIR", help="prepared folders with exact ages")
    add(
        "--base-weights",
        "--base",
        type=Path,
        default=BASE_RELEASED,
        metavar="DIR",
        help="base weights to write intervals for",
    )
    add(
        "--weights", type=Path, metavar="DIR",
        help="DiffPipeline6 weights to write intervals for (the released ones; with another --base none)",
    )  # fmt: skip
    add("--ep3", type=Path, metavar="DIR", help="Ep3Pipeline weights to write intervals for")
    add("--ranges", type=Path, metavar="DIR", help="RangeClassOrdinalPipeline weights to write intervals for")
    add("--limit", type=int, default=0, metavar="N", help="use at most this many faces of each split and set")
    add("--report", nargs="+", type=Path, metavar="CSV", help="only report the coverage of stored predictions")
    arguments = parser.parse_args(argv)
    if arguments.weights is None and arguments.base_weights == BASE_RELEASED:
        arguments.weights = RELEASED
    return arguments


def pipelines(arguments: argparse.Namespace) -> dict[Path, AgePipeline]:
    """The pipelines whose `--mode full` gets intervals, by their weights folder: none for a base alone."""
    if arguments.weights is None:
        return {}
    corrector = load_model(arguments.weights, "cpu")
    found = {arguments.weights: AgePipeline(corrector.pipeline, corrector, arguments.weights)}
    if arguments.ep3:
        found[arguments.ep3] = AgePipeline(corrector.pipeline, load_ep3(arguments.ep3, "cpu"), arguments.ep3)
    if arguments.ranges:
        gated = load_ranges(arguments.ranges, "cpu", arguments.weights)
        found[arguments.ranges] = AgePipeline(corrector.pipeline, gated, arguments.ranges)
    return found


def estimate_split(ways: dict[str, AgePipeline], folders: list[str], split: str, limit: int) -> pd.DataFrame:
    """true_age, base, spread (years), the age by each way, and the set, of the exactly labelled faces of a split."""
    parts = []
    for folder in folders:
        prepared = load_prepared(folder)
        rows = prepared.rows(split)
        rows = drawn(rows[prepared.manifest["age"].notna().to_numpy()[rows]], limit, 0)
        if not len(rows):
            continue
        truth = prepared.manifest["age"].to_numpy(float)[rows]
        found = {
            name: pipeline.estimate_faces(faces_in(prepared, rows, pipeline)).faces for name, pipeline in ways.items()
        }
        ages = {name: [face.age for face in faces] for name, faces in found.items()}
        some = next(iter(found.values()))
        base, spread = [face.base_age for face in some], [face.spread for face in some]
        part = pd.DataFrame({"true_age": truth, "base": base, "spread": spread} | ages).astype(float)
        parts.append(part.assign(set=prepared.folder.name))
    if not parts:
        raise DataError(f"No face in split '{split}' of {', '.join(folders)} has an exact age.")
    return pd.concat(parts, ignore_index=True)


def faces_in(prepared: PreparedSet, rows: np.ndarray, pipeline: AgePipeline) -> Iterator[Face]:
    """The faces in these rows of a prepared set, one by one."""
    size = pipeline.base.config.crop_size
    for row in rows:
        record = prepared.manifest.iloc[row]
        known = FaceAge(record["path"], 0, id=record["id"], row=int(row))
        yield Face(known, resize_crop(np.array(prepared.crops[row]), size), record["person"])


def run(arguments: argparse.Namespace) -> None:
    """Fit, calibrate and write every intervals.json; print the coverage of each on val."""
    if not arguments.data:
        raise DataError("Give prepared folders with --data, or stored predictions with --report.")
    ways = {str(folder): pipeline for folder, pipeline in pipelines(arguments).items()}
    whole = next(iter(ways.values())) if ways else AgePipeline.from_weights(arguments.base_weights, "cpu")
    base, alone = whole.base, {"base": whole.bypass()}
    dar = estimate_split(alone, arguments.data, "dar", arguments.limit)
    calib, val = (estimate_split(ways or alone, arguments.data, split, arguments.limit) for split in ("calib", "val"))
    coefficients = fit_coefficients(
        *(dar[name].to_numpy() for name in ("base", "spread")), dar["base"] - dar["true_age"]
    )
    made = {way: calibrated(coefficients, calib, way) for way in ("base", *ways)}
    save_calibrators(arguments.base_weights, {"bypass": made["base"]}, base.fingerprint)
    for folder in ways:
        save_calibrators(Path(folder), {"bypass": made["base"], "full": made[folder]}, base.fingerprint)
    folders = ", ".join(map(str, (arguments.base_weights, *ways)))
    print(f"intervals from {len(dar)} dar and {len(calib)} calib faces: {folders}")
    doubts = made["base"].doubts(val["base"].to_numpy(), val["spread"].to_numpy())
    doubtful = sum(map(bool, doubts))
    print(f"doubtful, as an error over {DOUBTFUL_ERROR:.0f} years is expected: {doubtful} of {len(val)} val faces")
    for way, calibrator in made.items():
        name = arguments.base_weights.name if way == "base" else Path(way).name
        print(f"\n{name}, val, {PROBABILITY:.0%} intervals:\n\n" + "\n".join(report(covered(calibrator, val, way))))


def calibrated(coefficients: list[float], faces: pd.DataFrame, way: str) -> IntervalCalibrator:
    """The calibrator of the ages by one way."""
    truth, estimate, spread, age = (faces[name].to_numpy(float) for name in ("true_age", "base", "spread", way))
    return calibrate(coefficients, estimate, spread, age - truth, faces["set"].to_numpy(str))


def covered(calibrator: IntervalCalibrator, faces: pd.DataFrame, way: str) -> dict[str, pd.DataFrame]:
    """By set: truth, age, interval_low and interval_high (years) of the ages by one way."""
    half = calibrator.half_width(faces["base"].to_numpy(), faces["spread"].to_numpy(), PROBABILITY)
    low, high = bounds(faces[way].to_numpy(), half)
    table = pd.DataFrame({"truth": faces["true_age"], "age": faces[way], "interval_low": low, "interval_high": high})
    return {str(name): table[faces["set"] == name] for name in faces["set"].unique()}


def report(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Markdown table of coverage and width by set, overall and by decade of predicted age; raises DataError.

    The tables hold truth, age, interval_low and interval_high (years).
    """
    rows: list[list[object]] = []
    for name, faces in tables.items():
        parts = coverage(faces)
        if parts.empty:
            raise DataError(f"{name}: no intervals beside exact ages; make the predictions with --interval P.")
        rows += [
            [name, part.part, part.faces, with_interval(part.coverage, part.low, part.high, ".1f"), f"{part.width:.1f}"]
            for part in parts.itertuples()
        ]
        rows.append([name, "all, one constant width of the same coverage (hindsight)", *constant_width(faces)])
    return markdown(["set", "predicted age", "faces", "coverage (%)", "mean width (years)"], rows)


def constant_width(faces: pd.DataFrame) -> list[object]:
    """Cells of the row of intervals of one width: faces, a dash, the width that covers as many as theirs."""
    faces = faces[faces["interval_low"].notna()]
    inside = (faces["truth"] >= faces["interval_low"]) & (faces["truth"] <= faces["interval_high"])
    error = np.sort((faces["age"] - faces["truth"]).abs())
    constant = 2 * error[min(len(error) - 1, int(np.ceil(inside.mean() * len(error))) - 1)]
    return [len(faces), DASH, f"{constant:.1f}"]


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    arguments = parse_arguments(argv)
    try:
        if arguments.report:
            tables = {plain_name(path).stem: exact_rows(load_predictions(path)) for path in arguments.report}
            print("\n".join(report(tables)))
        else:
            run(arguments)
    except UserError as error:
        print(f"calibrate_intervals: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
