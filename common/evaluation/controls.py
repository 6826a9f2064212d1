"""What a claim for references has to beat: re-calibrations of the base, simple votes; one table of all of them."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from common.base.weights import CONFIG_FILE
from common.data.predictions import check_out, read_csv, write_table
from common.difference.bank import Found, ReferenceBank
from common.difference.embedded import EmbeddedFaces
from common.errors import DataError, UserError
from common.evaluation.metrics import paired_bootstrap
from common.evaluation.tables import DASH, markdown, or_dash, signed_gain

Calibration = Callable[[np.ndarray], np.ndarray]


class Estimates(NamedTuple):
    """What one variant of a method, trained with one seed, says of faces: ages [N] float years."""

    variant: str
    seed: int
    faces: EmbeddedFaces
    ages: np.ndarray


def control_parser(description: str, weights: Path) -> argparse.ArgumentParser:
    """The command line of every `__controls`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="DIR", help="prepared folders")
    add("--split", choices=("val", "calib", "test"), default="val", help="faces to report on (val)")
    add("--seeds", type=int, default=3, help="trainings of each kind (3)")
    add("--config", type=Path, default=weights / CONFIG_FILE, help="config.json of weights, or of a run")
    add("--limit", type=int, help="use at most this many faces of each split and set")
    add("--runs", default="", help="folder of run folders")
    add("--out", type=Path, default=Path("controls.csv"), metavar="CSV", help="write the predictions here")
    add("--table", type=Path, metavar="CSV", help="only print the table of stored predictions")
    return parser


def stored_settings(arguments: argparse.Namespace, kind: type[Any]) -> dict[str, Any]:
    """The keys of a config `kind` that are stored with weights or a run; raises DataError if there are none."""
    try:
        stored = json.loads(arguments.config.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{arguments.config} cannot be read as settings ({error}); check --config.") from None
    known = {field.name for field in fields(kind)}
    settings = {key: value for key, value in stored.get("training", stored).items() if key in known}
    settings["runs"] = arguments.runs
    return settings if arguments.limit is None else settings | {"limit": arguments.limit}


def run_controls(
    arguments: argparse.Namespace, name: str, estimates: Callable[[], Iterable[Estimates]], best: str = "full"
) -> int:
    """Write the predictions of all variants (exact labels) and print their table; returns the exit status.

    `name` is that of the script, `best` the variant that every other one is compared with.
    """
    try:
        if not arguments.table:
            if not arguments.data:
                raise DataError("Give prepared folders with --data, or stored predictions with --table.")
            check_out(arguments.out, ("true_age", "variant", "seed", "age"))
            table = pd.concat([_face_table(part) for part in estimates()], ignore_index=True)
            table = table.sort_values(
                "variant", key=lambda names: names.map(lambda one: _rank(one, best)), kind="stable"
            )
            write_table(table, arguments.out, 3)
            print(f"predictions: {arguments.out}")
        stored = read_csv(arguments.table or arguments.out, dtype={"id": str, "person": str})
        print("\n".join(control_table(stored, best)))
    except (UserError, FileNotFoundError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0


def _face_table(part: Estimates) -> pd.DataFrame:
    faces = part.faces
    columns = {"id": faces.id, "person": faces.person, "true_age": faces.low, "age": part.ages}
    table = pd.DataFrame({key: value[faces.exact] for key, value in columns.items()})
    return table.assign(variant=part.variant, seed=part.seed)


def _rank(name: str, best: str) -> int:
    return ("base", best).index(name) if name in ("base", best) else 2 + name.startswith("baseline")


def recalibrated(bank: ReferenceBank, faces: EmbeddedFaces) -> list[Estimates]:
    """The base itself, and control (c) fitted on the unseen references of a bank (if there are two)."""
    estimate, unseen = faces.estimates[0], ~bank.seen
    found = [Estimates("base", 0, faces, estimate)]
    if unseen.sum() >= 2:
        calibrations = recalibrations(bank.estimates[unseen], bank.ages[unseen])
        found += [Estimates(f"(c) {name}", 0, faces, curve(estimate)) for name, curve in calibrations.items()]
    return found


def recalibrations(estimate: np.ndarray, age: np.ndarray) -> dict[str, Calibration]:
    """Control (c): offset, straight line and isotonic "true age on estimate", fitted on [N] estimates and ages.

    Each takes and returns estimates [M] in years. Fit them on references that the base has not seen.
    """
    offset = float(np.mean(age - estimate))
    slope, start = np.polyfit(estimate, age, 1)
    curve = IsotonicRegression(out_of_bounds="clip").fit(estimate, age)
    return {
        "offset": lambda values: values + offset,
        "line": lambda values: slope * values + start,
        "isotonic": lambda values: curve.predict(values),
    }


def residual_vote(bank: ReferenceBank, found: Found, estimate: np.ndarray) -> np.ndarray:
    """Baseline: estimates [B] corrected by their unseen references' mean residual, shrunk as if 10 more were 0."""
    index = np.where(found.mask, found.index, 0)
    counted = found.mask & ~bank.seen[index]  # [B, K]
    residual = np.where(counted, bank.ages[index] - bank.estimates[index], 0.0)
    return estimate + residual.sum(axis=1) / (counted.sum(axis=1) + 10)


def neighbour_median(bank: ReferenceBank, found: Found, estimate: np.ndarray) -> np.ndarray:
    """Baseline: the median age [B] of the references, or the estimate where there are none."""
    ages = np.where(found.mask, bank.ages[np.where(found.mask, found.index, 0)], np.nan)
    any_found = found.mask.any(axis=1)
    median = np.array(estimate, float)
    median[any_found] = np.nanmedian(ages[any_found], axis=1)
    return median


def control_table(predictions: pd.DataFrame, best: str = "full") -> list[str]:
    """Markdown table of every variant beside the base and beside the variant `best`, on the same faces.

    `predictions` has the columns id, person, true_age, variant, seed, age (years), with the variants `base` and `best`
    among them. Errors are averaged over seeds per face; intervals are paired bootstrap, 95 %.
    """
    predictions = predictions.assign(error=(predictions["age"] - predictions["true_age"]).abs())
    errors = predictions.pivot_table(index="id", columns="variant", values="error", aggfunc="mean")  # [N, variants]
    person = predictions.drop_duplicates("id").set_index("id")["person"].fillna("").reindex(errors.index).to_numpy(str)
    by_seed = predictions.groupby(["variant", "seed"])["error"].mean()
    rows = []
    for name in dict.fromkeys(predictions["variant"]):
        seeds = by_seed[name]
        cs5 = 100 * (predictions.loc[predictions["variant"] == name, "error"] <= 5).mean()
        gains = [
            DASH if first == second else signed_gain(**paired_bootstrap(errors[first], errors[second], person))
            for first, second in (("base", name), (name, best))
        ]
        spread = or_dash(seeds.std(), ".3f")  # NaN of one seed
        rows.append([name, len(seeds), f"{errors[name].mean():.3f}", spread, f"{cs5:.1f}", *gains])
    headers = ["variant", "seeds", "MAE", "sd over seeds", "CS@5", "gain over base", f"gain of {best} over it"]
    return markdown(headers, rows)
