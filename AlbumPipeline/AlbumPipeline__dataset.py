"""Faces of people with several photos of known age: what the errors are fitted on, and albums made of them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from AlbumPipeline.AlbumPipeline__config import AlbumConfig
from AlbumPipeline.AlbumPipeline__model import Album, Known
from AlbumPipeline.AlbumPipeline__simulate import simulate_people
from AlbumPipeline.AlbumPipeline__weights import AgeErrors
from common.data.dates import decimal_year, parse_date
from common.data.labels import is_group
from common.data.manifest import age_bounds, load_prepared
from common.data.predictions import answered, read_predictions
from common.errors import DataError

TOGETHER = 512  # crops estimated at once
SIMULATED_PEOPLE, SIMULATED_PHOTOS = 20, 12  # where no data are given
FEWEST_PEOPLE, FEWEST_FACES = 8, 60  # with which five numbers can be fitted
YEAR = 2000.0  # when people of known ages but unknown dates are born: only differences count


class DatedFaces(NamedTuple):
    """N faces of known age: person [N] str, estimate [N] and age [N] (years)."""

    person: np.ndarray
    estimate: np.ndarray
    age: np.ndarray

    def of(self, rows: np.ndarray) -> "DatedFaces":
        """Those of these rows, a mask [N] or numbers [M]."""
        return DatedFaces(*(column[rows] for column in self))


def read_faces(config: AlbumConfig, folders: list[str]) -> DatedFaces:
    """The exactly dated faces of named people in prepared folders, with the base's estimates of them.

    Without folders and predictions, simulated ones. Of a set that the base was trained on only what it did not see.
    Raises DataError if there are too few.
    """
    if not config.predictions and not folders:
        return DatedFaces(*simulate_people(SIMULATED_PEOPLE, SIMULATED_PHOTOS, AgeErrors(), config.seed))
    parts = [_of_predictions(Path(config.predictions))] if config.predictions else []
    parts += [] if config.predictions else [_of_prepared(Path(folder), config) for folder in folders]
    faces = DatedFaces(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    people, count = np.unique(faces.person, return_counts=True)
    if (count > 1).sum() < FEWEST_PEOPLE or len(faces.age) < FEWEST_FACES:
        raise DataError(
            f"The data show {(count > 1).sum()} people with several photos of known age, {len(faces.age)} faces; "
            f"{FEWEST_PEOPLE} and {FEWEST_FACES} are needed to fit errors on."
        )
    return faces


def _of_predictions(path: Path) -> DatedFaces:
    table = read_predictions(path)
    good = answered(table) & (table["true_age_min"] == table["true_age_max"]) & (table["person"] != "")
    if "base_age" not in table.columns:
        raise DataError(f"{path} has no column base_age; make it with AgeRegBaseline__infer2.py --manifest.")
    part = table[good]
    return DatedFaces(
        part["person"].to_numpy(str), part["base_age"].to_numpy(float), part["true_age_min"].to_numpy(float)
    )


def _of_prepared(folder: Path, config: AlbumConfig) -> DatedFaces:
    from common.base.weights import trained_on
    from common.pipeline import RELEASED, AgePipeline

    base = Path(config.base_weights) if config.base_weights else RELEASED
    pipeline, prepared = AgePipeline.from_weights(base, config.device), load_prepared(folder)
    manifest = prepared.manifest
    age = _ages(manifest)
    named = np.array([name != "" and not is_group(name) for name in manifest["person"]])
    seen = (manifest["split"] == "base").to_numpy() & (folder.resolve().name in map(_last, trained_on(base) or []))
    rows = np.flatnonzero(np.isfinite(age) & named & ~seen)
    estimate = np.full(len(manifest), np.nan)
    for start in range(0, len(rows), TOGETHER):
        part = rows[start : start + TOGETHER]
        estimate[part] = [face.base_age for face in pipeline.estimate_crops(np.asarray(prepared.crops[part]))]
    rows = rows[np.isfinite(estimate[rows])]
    person = np.array([f"{folder.name}::{name}" for name in manifest["person"]])
    return DatedFaces(person[rows], estimate[rows], age[rows])


def _last(name: str) -> str:
    return Path(name).name


def _ages(manifest: pd.DataFrame) -> np.ndarray:
    """Exact ages [N] (years): from birth to photo where both dates are known, else as labelled; NaN without one."""
    low, high = age_bounds(manifest)
    age = np.where(low == high, low, np.nan)
    if {"born", "photo_date"} <= set(manifest.columns):
        for row, (born, taken) in enumerate(zip(manifest["born"], manifest["photo_date"], strict=True)):
            try:
                between = decimal_year(parse_date(taken)) - decimal_year(parse_date(born))
            except ValueError:
                continue
            age[row] = between if 0 <= between <= 120 else np.nan
    return age


def unknown(count: int) -> Known:
    """Dates [count] of which nothing is known."""
    nothing = np.full(count, np.nan), np.full(count, np.inf), np.full(count, -np.inf), np.full(count, np.inf)
    return Known(*nothing)


def exact(years: np.ndarray, sd: float = 0.003) -> Known:
    """Dates [N] (decimal years) known to the day, or with a standard deviation (years)."""
    years = np.asarray(years, float)
    return unknown(len(years))._replace(mean=years, sd=np.full(len(years), sd))


def dated_album(faces: DatedFaces, error: np.ndarray | float = 0.0) -> Album:
    """One person's album, the birth in YEAR unknown, the dates known up to an `error` (years, [N])."""
    count = len(faces.age)
    noise = float(np.std(error)) if np.ndim(error) else 0.0
    taken = exact(YEAR + faces.age + error, max(noise, 0.003))
    return Album(np.zeros(count, int), np.arange(count), faces.estimate, np.ones(count), unknown(1), taken)


def undated_photo(faces: DatedFaces) -> Album:
    """One undated photo of people [N] of known birth, taken in YEAR."""
    count = len(faces.age)
    born = exact(YEAR - faces.age)
    return Album(np.arange(count), np.zeros(count, int), faces.estimate, np.ones(count), born, unknown(1))


def noise_repeats(person: np.ndarray, session: np.ndarray, copy: np.ndarray, errors: AgeErrors) -> np.ndarray:
    """By how much [F] the noise's variance of each face grows because photos repeat each other.

    person [F] int; session [F] and copy [F] str: faces of one person in one session are correlated, copies of one
    image are one; '' stands alone. With m in a group, its mean has the variance (1 + (m - 1) correlation) / m.
    """
    table = pd.DataFrame({"person": person, "session": session, "copy": copy})
    alone = pd.Series(np.arange(len(table)).astype(str))
    table["session"] = table["session"].where(table["session"] != "", "alone " + alone)
    table["copy"] = table["copy"].where(table["copy"] != "", "alone " + alone)
    copies = table.groupby(["person", "copy"])["session"].transform("size").to_numpy(float)  # [F]
    in_session = table.groupby(["person", "session"])["copy"].transform("nunique").to_numpy(float)  # [F]
    return copies * (1 + (in_session - 1) * errors.session)
