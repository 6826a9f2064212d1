"""Simulated albums, numbers only: people, photos and estimates drawn from the model. Writes data/demo_album.csv.

python AlbumPipeline/AlbumPipeline__simulate.py --out data/demo_album.csv
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from AlbumPipeline.AlbumPipeline__weights import N_KNOTS, AgeErrors
from common.data.predictions import check_out, write_text
from common.errors import UserError
from common.files import REPOSITORY

NAMES = ("Ada", "Bruno", "Clara", "Dora", "Emil", "Frieda")
BORN = (1921.4, 1918.7, 1946.2, 1949.9, 1975.3, 1979.6)
FIRST, LAST = 1935.0, 1999.0  # years of the photos
DEMO_PHOTOS, DEMO_SEED = 48, 52
OLDEST_ESTIMATE = 95.0  # years
SCANNED = "2004-03-14"  # what a scanner wrote into one photo


class Simulated(NamedTuple):
    """The truth of an album: born [P], taken [D] (decimal years); person, photo [F] int; estimate [F] (years)."""

    born: np.ndarray
    taken: np.ndarray
    person: np.ndarray
    photo: np.ndarray
    estimate: np.ndarray


def simulate(
    born: np.ndarray, taken: np.ndarray, errors: AgeErrors, random: np.random.Generator, most: int = 3
) -> Simulated:
    """Photos [D] of 1 to `most` of the people [P] alive then (at most 90 years old), estimated as `errors` says."""
    faces = []
    for photo, year in enumerate(taken):
        alive = np.flatnonzero((born < year) & (year < born + 90))
        shown = random.permutation(alive)[: random.integers(1, most + 1)]
        faces += [(person, photo) for person in sorted(shown)]
    person, photo = np.array(faces, int).reshape(-1, 2).T
    age = taken[photo] - born[person]
    effects = random.multivariate_normal(np.zeros(N_KNOTS), errors.effect_cov(), len(born))  # [P, N_KNOTS]
    first, share = errors.effect_weights(age)
    effect = effects[person, first] * (1 - share) + effects[person, first + 1] * share
    noise = errors.photo * random.normal(size=len(taken))[photo]
    noise += errors.noise * random.standard_t(errors.degrees, len(age))
    estimate = np.clip(np.exp(errors.expected(age) + effect + noise) - errors.knee, 0.0, OLDEST_ESTIMATE)
    return Simulated(np.asarray(born, float), np.asarray(taken, float), person, photo, estimate)


def simulate_people(
    people: int, photos: int, errors: AgeErrors, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Persons [N] str, estimates [N] and ages [N] (years, 1 to 70) of so many photos of each of so many people."""
    random, parts = np.random.default_rng(seed), []
    for number in range(people):
        one = simulate(np.zeros(1), random.uniform(1, 70, photos), errors, random, most=1)
        parts.append((np.full(photos, f"person {number:03d}"), one.estimate, one.taken))
    person, estimate, age = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return person, estimate, age


def demo_table() -> pd.DataFrame:
    """The demo: six people, photos of which half are dated, one by its scanner, and one face under a wrong name."""
    random = np.random.default_rng(DEMO_SEED)
    album = simulate(np.array(BORN), np.sort(random.uniform(FIRST, LAST, DEMO_PHOTOS)), AgeErrors(), random)
    years = album.taken.astype(int)
    stated = {number: str(years[number]) for number in range(0, DEMO_PHOTOS, 2)}
    stated |= {number: f"{years[number] // 10}0s" for number in range(3, DEMO_PHOTOS, 8)}
    stated |= {5: f"ABT {years[5]}", 13: f"BET {years[13] - 2} AND {years[13] + 3}", 21: "before 1990", 24: SCANNED}
    person = [NAMES[number] for number in album.person]
    (wrong,) = np.flatnonzero((album.photo == 40) & (album.person == album.person[album.photo == 40].max()))
    person[wrong] = "Ada"
    births = {"Ada": "1921-05-27", "Emil": "1975"}
    return pd.DataFrame(
        {
            "photo": [f"box/{number:03d}.jpg" for number in album.photo],
            "person": person,
            "estimate": album.estimate.round(1),
            "photo_date": [stated.get(number, "") for number in album.photo],
            "born": [births.get(name, "") for name in person],
        }
    )


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "data" / "demo_album.csv", metavar="CSV")
    out = parser.parse_args(argv).out
    try:
        check_out(out, ("photo", "person", "estimate"))
        write_text(demo_table().to_csv(index=False), out)
    except UserError as error:
        print(f"AlbumPipeline: {error}", file=sys.stderr)
        return 2
    print(f"simulated album: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
