"""What an album is worth: errors of births, dates and ages on people left out of the fit, beside each face alone.

    python AlbumPipeline/AlbumPipeline__infer.py --data data/prepared/fgnet_dev      # leave-person-out
    python AlbumPipeline/AlbumPipeline__infer.py --predictions out/fgnet_dev.csv     # the same, estimated before
    python AlbumPipeline/AlbumPipeline__infer.py --table weights/AlbumPipeline/evaluation.csv   # as it was written
    python AlbumPipeline/AlbumPipeline__infer.py --data data/prepared/new --weights weights/AlbumPipeline   # new people
    python AlbumPipeline/AlbumPipeline__infer.py --data data/prepared/many --limit 200   # some of many people
    python AlbumPipeline/AlbumPipeline__infer.py --data data/prepared/fgnet_dev --album a.csv   # for age-album --faces

Dates are the ages in years (born in year 0), so that an error of a birth is an error of every age in the album. The
control is the same calibration without the album: the age regressed on the estimate of each face alone, in years or in
log age, whichever is better on the people fitted on.

Exit status: 0 done, 2 nothing could be done.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from AlbumPipeline.AlbumPipeline__config import AlbumConfig
from AlbumPipeline.AlbumPipeline__dataset import (
    FEWEST_PEOPLE,
    YEAR,
    DatedFaces,
    dated_album,
    read_faces,
    undated_photo,
    unknown,
)
from AlbumPipeline.AlbumPipeline__folds import HEADERS, Fold, Result, given_fold, make_folds, nothing, row_of
from AlbumPipeline.AlbumPipeline__model import disagreement, solve_album
from AlbumPipeline.AlbumPipeline__train import NORMAL_90
from AlbumPipeline.AlbumPipeline__weights import load_errors
from common.data.predictions import check_out, read_csv, write_table
from common.errors import DataError, UserError
from common.evaluation.tables import markdown
from common.inference.terminal import until_closed

MOST_PHOTOS = 600  # of several people, drawn for one row of the table
REPEATS = 4  # random draws of every person or photo
BORN = 1900  # of all people in a table for age-album
DATE_ERROR = 2.0  # years, uniform
WRONG = 0.1  # part of the photos that show somebody else


def album_error(person: DatedFaces, fold: Fold, date_error: np.ndarray | float = 0.0) -> tuple[float, float]:
    """Error of the birth, and half-width of its interval."""
    ages = solve_album(dated_album(person, date_error), fold.errors)
    return float(ages.born[0] - YEAR), float(ages.born_sd[0] * fold.errors.factor * NORMAL_90)


def whole_albums(folds: list[Fold], youngest: float, rule: str = "album") -> Result:
    """Births from all photos from an age on; `rule` is album, or median or weighted: of what each face says alone."""
    result = nothing()
    for fold in folds:
        for person in fold.people:
            part = person.of(person.age >= youngest)
            if not len(part.age):
                continue
            said = part.age - fold.alone(part.estimate)  # [n] births, each face alone
            weight = (fold.alone(part.estimate) + fold.errors.knee) ** -2
            birth, width = {
                "album": lambda part=part, fold=fold: album_error(part, fold),
                "median": lambda said=said: (float(np.median(said)), np.nan),
                "weighted": lambda said=said, weight=weight: (float(np.average(said, weights=weight)), np.nan),
            }[rule]()
            result.add(said, np.full(len(said), birth), np.full(len(said), width), part.person[0])
    return result


def few_photos(folds: list[Fold], count: int) -> Result:
    """Births from so many photos drawn at random."""
    random, result = np.random.default_rng(count), nothing()
    for fold in folds:
        for person in (part for part in fold.people if len(part.age) >= count):
            for _ in range(REPEATS):
                part = person.of(random.choice(len(person.age), count, replace=False))
                birth, width = album_error(part, fold)
                result.add(
                    part.age - fold.alone(part.estimate), np.full(count, birth), np.full(count, width), part.person[0]
                )
    return result


def group_photos(folds: list[Fold], count: int) -> Result:
    """The year of an undated photo of so many people of known birth; the control is the mean of what each says."""
    random, result = np.random.default_rng(count), nothing()
    for fold in folds:
        drawn = REPEATS * sum(len(part.age) for part in fold.people) // 2
        for _ in range(min(drawn, MOST_PHOTOS // len(folds))):
            chosen = random.choice(len(fold.people), min(count, len(fold.people)), replace=False)
            faces = [fold.people[number].of([random.integers(len(fold.people[number].age))]) for number in chosen]
            photo = DatedFaces(*(np.concatenate(columns) for columns in zip(*faces, strict=True)))
            ages = solve_album(undated_photo(photo), fold.errors)
            width = ages.taken_sd * fold.errors.factor * NORMAL_90
            control = np.array([(fold.alone(photo.estimate) - photo.age).mean()])
            result.add(control, ages.taken - YEAR, width, photo.person[0])
    return result


def half_dated(folds: list[Fold]) -> tuple[Result, Result]:
    """Births unknown and half of the dates unknown: errors of births, and of the dates that were unknown."""
    random, births, dates = np.random.default_rng(0), nothing(), nothing()
    for fold in folds:
        for person in (part for part in fold.people if len(part.age) >= 4):
            for _ in range(REPEATS):
                album, hidden = dated_album(person), random.permutation(len(person.age)) < len(person.age) // 2
                taken = [np.where(hidden, *pair) for pair in zip(unknown(len(hidden)), album.taken, strict=True)]
                ages = solve_album(album._replace(taken=type(album.taken)(*taken)), fold.errors)
                scale = fold.errors.factor * NORMAL_90
                alone = fold.alone(person.estimate)
                error = ages.born - YEAR
                births.add(
                    person.age[~hidden].mean(keepdims=True) - alone[~hidden].mean(),
                    error,
                    ages.born_sd * scale,
                    person.person[0],
                )
                control = np.median(person.age[~hidden] - alone[~hidden]) + alone[hidden] - person.age[hidden]
                error = (ages.taken - YEAR - person.age)[hidden]
                dates.add(control, error, ages.taken_sd[hidden] * scale, person.person[0])
    return births, dates


def wrong_dates(folds: list[Fold]) -> Result:
    """Births from dates that are off by up to DATE_ERROR years, each on its own."""
    random, result = np.random.default_rng(0), nothing()
    for fold in folds:
        for person in fold.people:
            for _ in range(REPEATS):
                error = random.uniform(-DATE_ERROR, DATE_ERROR, len(person.age))
                birth, width = album_error(person, fold, error)
                control = person.age + error - fold.alone(person.estimate)
                result.add(control, np.full(len(error), birth), np.full(len(error), width), person.person[0])
    return result


class Planted(NamedTuple):
    """Births in albums with wrong persons, and how many of the wrong and of the right faces were alarmed at."""

    births: Result
    found: float
    false: float


def wrong_people(folds: list[Fold]) -> Planted:
    """A part WRONG of each album, one photo at least, shows somebody else whose age is off by what can be seen.

    That is 10 years, 5 if one of the two is under 15.
    """
    random, births, wrong, right = np.random.default_rng(0), nothing(), [], []
    for fold in folds:
        for person in fold.people:
            count = len(person.age)
            for _ in range(REPEATS):
                planted = random.choice(count, max(1, round(WRONG * count)), replace=False)
                estimate = person.estimate.copy()
                for row in planted:
                    far = np.where(np.minimum(fold.others.age, person.age[row]) < 15, 5, 10)
                    strangers = np.abs(fold.others.age - person.age[row]) >= far
                    strangers &= fold.others.person != person.person[0]
                    estimate[row] = random.choice(fold.others.estimate[strangers])
                album = dated_album(person._replace(estimate=estimate))
                ages = solve_album(album, fold.errors)
                alarm = disagreement(album, ages, fold.errors) > fold.errors.alarm
                bad = np.isin(np.arange(count), planted)
                wrong.extend(alarm[bad])
                right.extend(alarm[~bad])
                width = np.full(count, ages.born_sd[0] * fold.errors.factor * NORMAL_90)
                births.add(
                    person.age - fold.alone(estimate), np.full(count, ages.born[0] - YEAR), width, person.person[0]
                )
    return Planted(births, float(np.mean(wrong)), float(np.mean(right)))


def evaluate(folds: list[Fold]) -> list[list[str]]:
    """Rows of the table (HEADERS) of all experiments."""
    rows = []
    for name, youngest in (("all ages", 0), ("adults 18+", 18), ("adults 25+", 25)):
        rows += [
            row_of(f"album, {name}: {rule}", whole_albums(folds, youngest, rule))
            for rule in ("median", "weighted", "album")
        ]
    rows += [row_of(f"birth from {count} photos", few_photos(folds, count)) for count in (1, 2, 3, 4, 6, 8)]
    rows += [row_of(f"year of a photo from {count} people", group_photos(folds, count)) for count in (1, 2, 3, 4)]
    births, dates = half_dated(folds)
    planted = wrong_people(folds)
    rows += [row_of("half of the dates unknown: births", births), row_of("half of the dates unknown: dates", dates)]
    rows += [row_of("dates off by up to 2 years: births", wrong_dates(folds))]
    rows += [row_of("10 % wrong people: births", planted.births)]
    found = [f"{100 * planted.found:.0f} %", "–", f"{100 * planted.false:.0f} % false alarms"]
    return [*rows, ["10 % wrong people: found", *rows[-1][1:3], "–", *found]]


def some_people(faces: DatedFaces, limit: int) -> DatedFaces:
    """The faces of at most `limit` people with several photos, drawn at random; always the same ones.

    Raises DataError for fewer than FEWEST_PEOPLE.
    """
    if limit < FEWEST_PEOPLE:
        raise DataError(f"--limit {limit} is too few people to judge on; give {FEWEST_PEOPLE} or more.")
    people, count = np.unique(faces.person, return_counts=True)
    several = np.random.default_rng(0).permutation(people[count > 1])
    return faces.of(np.isin(faces.person, several[:limit]))


def album_table(faces: DatedFaces) -> pd.DataFrame:
    """The faces as a table for age-album --faces: photo, person, estimate (years), photo_date; all are born in BORN."""
    person = [name.rpartition("::")[2] for name in faces.person]
    dates = [str(BORN + int(age)) for age in faces.age]
    photos = [f"{name}-{number}" for number, name in enumerate(person)]
    return pd.DataFrame({"photo": photos, "person": person, "estimate": faces.estimate, "photo_date": dates})


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="DIR", help="prepared folders with people of known age")
    add("--predictions", default="", metavar="CSV", help="a table of base estimates of such faces instead")
    add(
        "--weights",
        type=Path,
        metavar="DIR",
        help="judge these weights on the people, instead of fitting on the others",
    )
    add("--base-weights", default="", metavar="DIR", help="folder of the base regressor's weights (the released ones)")
    add("--limit", type=int, metavar="N", help="judge on N people with several photos, drawn at random")
    add("--folds", type=int, default=5, metavar="N", help="parts of the people that are left out in turn (5)")
    add("--out", type=Path, metavar="CSV", help="write the table here")
    add("--table", type=Path, metavar="CSV", help="only print a table that was written before")
    add("--album", type=Path, metavar="CSV", help=f"only write a table for age-album --faces, everybody born in {BORN}")
    add("--device", default="auto", help="auto, cpu or cuda")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    arguments = parse_arguments(argv)
    config = AlbumConfig(arguments.base_weights, arguments.predictions, device=arguments.device)
    try:
        if arguments.table:
            print("\n".join(markdown(HEADERS, read_csv(arguments.table, dtype=dict.fromkeys(HEADERS, str)).to_numpy())))
            return 0
        if arguments.out:
            check_out(arguments.out, tuple(HEADERS))
        faces = read_faces(config, arguments.data)
        if arguments.album:
            write_table(album_table(faces), arguments.album, 2)
            return 0
        if arguments.limit is not None:
            faces = some_people(faces, arguments.limit)
        if arguments.weights:
            folds = [given_fold(faces, load_errors(arguments.weights)[0])]
        else:
            folds = list(make_folds(faces, config, arguments.folds))
    except UserError as error:
        print(f"AlbumPipeline: {error}", file=sys.stderr)
        return 2
    print(f"{len(faces.age)} faces of {len(set(faces.person))} people; errors in years.\n")
    rows = evaluate(folds)
    if arguments.out:
        write_table(pd.DataFrame(rows, columns=HEADERS), arguments.out, 2)
    print("\n".join(markdown(HEADERS, rows)))
    return 0


if __name__ == "__main__":
    sys.exit(until_closed(main))
