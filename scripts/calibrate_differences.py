"""Calibrate the interval of the difference between two photos, and report how well it is measured.

    python scripts/calibrate_differences.py --data data/prepared/publicfigures
    python scripts/calibrate_differences.py --report data/prepared/fgnet_dev
    python scripts/calibrate_differences.py --report data/prepared/publicfigures --split val

Calibrates on the named persons of the splits `dar` and `calib`, whom the base was not trained on, and writes
differences.json into a folder of DiffPipeline6 weights. --report prints, for pairs of photos of one person and of two,
the mean error of the difference of the base's estimates, of the corrected ages, and of the head with the other photo
as its one reference (both ways, averaged); then the interval's coverage and width; then those of groups of photos.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.base.intervals import expected_error, load_calibrator
from common.data import SPLITS
from common.data.manifest import load_prepared
from common.difference.change import ONE, TWO, ChangeCalibrator, load_change, save_change
from common.difference.corrector import Corrector, load_corrector
from common.difference.parts import Query, References
from common.errors import DataError, UserError
from common.evaluation.tables import markdown
from common.files import WEIGHTS
from common.inference.estimates import correct, estimate_base
from common.pipeline import AgePipeline
from scripts.calibrate_intervals import faces_in

CALIBRATED_ON = ("dar", "calib")
MOST_PAIRS = 20  # of one person and of one kind, so that nobody decides alone
TWO_PAIRS = 2000  # of two persons
APART = 1.0  # years from which on photos of a person are not of one sitting
GAPS = (0, 1, 5, 10, 20, 120)  # years
SIZES = (2, 3, 5)  # photos of a group


@dataclass(frozen=True)
class Faces:
    """N faces of named persons of exact age: table (person, age, base, spread, full; years), embedding [N, E]."""

    table: pd.DataFrame
    embedding: np.ndarray

    def column(self, name: str) -> np.ndarray:
        """A column [N] of numbers."""
        return self.table[name].to_numpy(float)


def load_faces(corrector: Corrector, folders: list[str], splits: tuple[str, ...]) -> Faces:
    """The faces of these splits of prepared folders; raises DataError without two of a person."""
    pipeline = AgePipeline(corrector.pipeline, corrector, Path())
    tables, embeddings = [], []
    for number, folder in enumerate(folders):
        prepared = load_prepared(folder)
        known = prepared.manifest["age"].notna() & (prepared.manifest["person"] != "")
        rows = np.flatnonzero(known & prepared.manifest["split"].isin(splits))
        estimates = estimate_base(faces_in(prepared, rows, pipeline), corrector.pipeline, 64, keep_crops=False)
        part = prepared.manifest.iloc[rows][["person", "age"]].assign(set=number).reset_index(drop=True)
        part["base"], part["full"] = estimates.faces.estimate, correct(estimates, corrector, votes=False).age
        part["spread"] = [estimates.results[place].spread for place in estimates.place]
        part["person"] = f"{number} " + part["person"]
        tables.append(part)
        embeddings.append(estimates.faces.embedding)
    table = pd.concat(tables, ignore_index=True)
    if not table["person"].duplicated().any():
        raise DataError(f"No two faces of one person in the splits {', '.join(splits)} of {', '.join(folders)}.")
    return Faces(table, np.concatenate(embeddings))


def one_person(faces: Faces, most: int, seed: int = 0) -> np.ndarray:
    """Pairs [P, 2] of rows of one person each, in random order; `most` of a person within a year, and as many apart."""
    random, age, found = np.random.default_rng(seed), faces.column("age"), []
    for rows in faces.table.groupby("person").indices.values():
        pairs = rows[np.stack(np.triu_indices(len(rows), 1), axis=1)]  # [p, 2]
        apart = np.abs(age[pairs[:, 0]] - age[pairs[:, 1]]) >= APART
        for part in (pairs[apart], pairs[~apart]):
            found.append(random.permuted(random.permutation(part)[:most], axis=1))
    return np.concatenate(found)


def two_persons(faces: Faces, count: int, seed: int = 0) -> np.ndarray:
    """`count` pairs [P, 2] of rows of two persons, drawn at random; none if there is one person only."""
    random, person = np.random.default_rng(seed), faces.table["person"].to_numpy(str)
    pairs = random.integers(0, len(person), (4 * count, 2))
    return pairs[person[pairs[:, 0]] != person[pairs[:, 1]]][:count]


def change(values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Differences [P] (second minus first) of values [N]."""
    return values[pairs[:, 1]] - values[pairs[:, 0]]


def calibrate(faces: Faces, coefficients: list[float], fingerprint: str) -> ChangeCalibrator:
    """The calibrator from these faces; raises DataError where a kind of pairs is missing."""
    expected = expected_error(coefficients, faces.column("base"), faces.column("spread"))

    def scores(pairs: np.ndarray, kind: str) -> list[float]:
        if not len(pairs):
            raise DataError(f"There are no pairs of {kind} to calibrate on.")
        error = np.abs(change(faces.column("base"), pairs) - change(faces.column("age"), pairs))
        return [round(float(score), 4) for score in np.sort(error / np.hypot(*expected[pairs].T))]

    one = one_person(faces, MOST_PAIRS)
    apart = np.abs(change(faces.column("age"), one)) >= APART
    return ChangeCalibrator(
        fingerprint, coefficients, scores(one[~apart], "one person within a year"),
        scores(one[apart], "one person a year or more apart"), scores(two_persons(faces, TWO_PAIRS), "two persons"),
    )  # fmt: skip


def head_difference(corrector: Corrector, faces: Faces, pairs: np.ndarray) -> np.ndarray:
    """Differences [P] by the head, each face beside the other as its one reference, at the base's estimate of it."""
    estimate = faces.column("base").astype(np.float32)

    def one_way(query: np.ndarray, reference: np.ndarray) -> np.ndarray:
        age = estimate[reference][:, None]  # [P, 1]
        alone = References(faces.embedding[reference][:, None], age, age, age < 0, age >= 0)
        return corrector.compute(Query(faces.embedding[query], estimate[query]), alone).age - age[:, 0]

    first, second = pairs.T
    return (one_way(second, first) - one_way(first, second)) / 2


def report(faces: Faces, corrector: Corrector, calibrator: ChangeCalibrator, probability: float) -> list[str]:
    """Markdown table of the errors of the three differences, and of the interval's coverage and width."""
    rows, people = [], faces.table["person"].to_numpy(str)
    for persons, pairs in ((ONE, one_person(faces, MOST_PAIRS)), (TWO, two_persons(faces, TWO_PAIRS))):
        truth = change(faces.column("age"), pairs)
        ways = [change(faces.column(name), pairs) for name in ("base", "full")]
        errors = [np.abs(way - truth) for way in (*ways, head_difference(corrector, faces, pairs))]
        base, spread = faces.column("base"), faces.column("spread")
        sides = [calibrator.side(base[[row]], spread[[row]]) for row in range(len(base))]
        half = np.array([calibrator.half_width(sides[a], sides[b], persons, probability) for a, b in pairs])
        bands = [
            ("all", 0, GAPS[-1]),
            *((f"{low} to {high}", low, high) for low, high in zip(GAPS, GAPS[1:], strict=False)),
        ]
        for name, low, high in bands:
            part = (np.abs(truth) >= low) & (np.abs(truth) < high)
            if part.any():
                row: list[object] = [persons, name, part.sum(), len(np.unique(people[pairs[part]]))]
                row += [f"{error[part].mean():.2f}" for error in errors]
                rows.append([*row, f"{100 * (errors[0] <= half)[part].mean():.1f}", f"{2 * half[part].mean():.1f}"])
    headers = ["persons", "years apart", "pairs", "people", "MAE base", "MAE corrected", "MAE head"]
    return markdown([*headers, f"coverage of {100 * probability:g} % (%)", "mean width (years)"], rows)


def group_report(faces: Faces, calibrator: ChangeCalibrator, probability: float) -> list[str]:
    """The same of groups: a person's photos in the order of age, so many beside the next ones."""
    rows = []
    base, spread, age = (faces.column(name) for name in ("base", "spread", "age"))
    for size in SIZES:
        errors, halves = [], []
        for found in faces.table.groupby("person").indices.values():
            order = found[np.argsort(age[found], kind="stable")]
            groups = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
            for first, second in zip(groups, groups[1:], strict=False):
                sides = [calibrator.side(base[group], spread[group]) for group in (first, second)]
                errors.append(sides[1].age - sides[0].age - (age[second].mean() - age[first].mean()))
                halves.append(calibrator.half_width(*sides, ONE, probability))
        if errors:
            error, half = np.abs(errors), np.array(halves)
            inside = f"{100 * (error <= half).mean():.1f}"
            rows.append([size, len(error), f"{error.mean():.2f}", inside, f"{half.mean():.1f}"])
    headers = ["photos of each time", "pairs of groups", "MAE base", f"coverage of {100 * probability:g} % (%)"]
    return markdown([*headers, "smallest change shown (years)"], rows)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="DIR", help="prepared folders of named persons to calibrate on")
    add("--report", nargs="+", default=[], metavar="DIR", help="prepared folders of named persons to measure on")
    add("--split", choices=SPLITS, help="with --report: only this split")
    add("--interval", type=float, default=0.9, metavar="P", help="with --report: probability of the interval (0.9)")
    add("--weights", type=Path, default=WEIGHTS / "DiffPipeline6", metavar="DIR", help="weights to write it into")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Calibrate, or report; raises UserError."""
    if bool(arguments.data) == bool(arguments.report):
        raise DataError("Give prepared folders with --data to calibrate on, or with --report to measure on.")
    corrector = load_corrector(arguments.weights, "cpu")
    base = corrector.pipeline
    if arguments.data:
        faces = load_faces(corrector, arguments.data, CALIBRATED_ON)
        made = calibrate(faces, load_calibrator(base.folder, "bypass", base.fingerprint).coefficients, base.fingerprint)
        parts = (len(made.sitting), len(made.person), len(made.people))
        print(
            f"{save_change(made, arguments.weights)}: pairs within a year {parts[0]}, apart {parts[1]}, two {parts[2]}"
        )
        return
    calibrator = load_change(arguments.weights, base.fingerprint)
    faces = load_faces(corrector, arguments.report, (arguments.split,) if arguments.split else SPLITS)
    lines = report(faces, corrector, calibrator, arguments.interval)
    print("\n".join([*lines, "", *group_report(faces, calibrator, arguments.interval)]))


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    try:
        run(parse_arguments(argv))
    except UserError as error:
        print(f"calibrate_differences: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
