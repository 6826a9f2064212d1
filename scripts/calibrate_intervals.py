"""Calibrate the prediction intervals of released weights, and report their coverage.

    python scripts/calibrate_intervals.py --data data/prepared/utkface
    python scripts/calibrate_intervals.py --report weights/DiffPipeline6/predictions/utkface_test.csv.gz

The expected error is fitted on the `dar` split (the base was not trained on it), the intervals on `calib` (nothing was
trained or selected on it). Writes intervals.json into the weights folders of the base, of DiffPipeline6, and of the
other pipelines that are named. --report reads predictions made with --interval P and prints coverage and mean width by
decade of predicted age.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from common.base.intervals import calibrate, fit_coefficients, save_calibrators
from common.data.manifest import PreparedSet, drawn, load_prepared
from common.data.predictions import read_predictions
from common.errors import DataError, UserError
from common.evaluation.tables import DASH, markdown
from common.faces.alignment import resize_crop
from common.inference.estimates import Face
from common.pipeline import RELEASED as BASE_RELEASED
from common.pipeline import AgePipeline, FaceAge
from DiffPipeline6.DiffPipeline6__model import RELEASED, load_model
from Ep3Pipeline.Ep3Pipeline__model import load_model as load_ep3
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__model import load_model as load_ranges


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
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="DiffPipeline6 weights to write intervals for")
    add("--ep3", type=Path, metavar="DIR", help="Ep3Pipeline weights to write intervals for")
    add("--ranges", type=Path, metavar="DIR", help="RangeClassOrdinalPipeline weights to write intervals for")
    add("--limit", type=int, default=0, metavar="N", help="use at most this many faces of each split and set")
    add("--report", type=Path, metavar="CSV", help="only report the coverage of stored predictions")
    return parser.parse_args(argv)


def pipelines(arguments: argparse.Namespace) -> dict[Path, AgePipeline]:
    """The pipelines whose `--mode full` gets intervals, by their weights folder; the first is DiffPipeline6."""
    corrector = load_model(arguments.weights, "cpu")
    found = {arguments.weights: AgePipeline(corrector.pipeline, corrector, arguments.weights)}
    if arguments.ep3:
        found[arguments.ep3] = AgePipeline(corrector.pipeline, load_ep3(arguments.ep3, "cpu"), arguments.ep3)
    if arguments.ranges:
        gated = load_ranges(arguments.ranges, "cpu", arguments.weights)
        found[arguments.ranges] = AgePipeline(corrector.pipeline, gated, arguments.ranges)
    return found


def estimate_split(ways: dict[str, AgePipeline], folders: list[str], split: str, limit: int) -> pd.DataFrame:
    """true_age, base, spread (years) and the age by each way for the exactly labelled faces of a split."""
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
        parts.append(pd.DataFrame({"true_age": truth, "base": base, "spread": spread} | ages).astype(float))
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
    """Fit, calibrate and write every intervals.json."""
    if not arguments.data:
        raise DataError("Give prepared folders with --data, or stored predictions with --report.")
    ways = {str(folder): pipeline for folder, pipeline in pipelines(arguments).items()}
    base = next(iter(ways.values())).bypass()
    dar = estimate_split({"bypass": base}, arguments.data, "dar", arguments.limit)
    calib = estimate_split(ways, arguments.data, "calib", arguments.limit)
    truth, estimate, spread = (calib[name].to_numpy() for name in ("true_age", "base", "spread"))
    coefficients = fit_coefficients(
        *(dar[name].to_numpy() for name in ("base", "spread")), dar["base"] - dar["true_age"]
    )
    bypass = calibrate(coefficients, estimate, spread, estimate - truth)
    save_calibrators(arguments.base_weights, {"bypass": bypass})
    for folder in ways:
        full = calibrate(coefficients, estimate, spread, calib[folder].to_numpy() - truth)
        save_calibrators(Path(folder), {"bypass": bypass, "full": full})
    folders = ", ".join(map(str, (arguments.base_weights, *ways)))
    print(f"intervals from {len(dar)} dar and {len(calib)} calib faces: {folders}")


def report(table: pd.DataFrame) -> list[str]:
    """Markdown table of coverage and width, overall and by decade of predicted age; raises DataError without any."""
    good = table[table["interval_low"].notna() & (table["true_age_min"] == table["true_age_max"])]
    if good.empty:
        raise DataError("These predictions hold no intervals beside exact ages; make them with --interval P.")
    inside = (good["true_age_min"] >= good["interval_low"]) & (good["true_age_min"] <= good["interval_high"])
    width = good["interval_high"] - good["interval_low"]
    error = np.sort((good["age"] - good["true_age_min"]).abs())
    constant = 2 * error[min(len(error) - 1, int(np.ceil(inside.mean() * len(error))) - 1)]
    decade = (good["age"] // 10 * 10).clip(0, 70).astype(int)
    parts = {f"{start}–{start + 9}" if start < 70 else "70+": decade == start for start in sorted(decade.unique())}
    rows = [
        [name, part.sum(), f"{100 * inside[part].mean():.1f}", f"{width[part].mean():.1f}"]
        for name, part in (parts | {"all": decade >= 0}).items()
    ]
    rows.append(["all, one constant width of the same coverage (hindsight)", len(good), DASH, f"{constant:.1f}"])
    return markdown(["predicted age", "faces", "coverage (%)", "mean width (years)"], rows)


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
