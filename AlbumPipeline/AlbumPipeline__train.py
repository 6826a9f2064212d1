"""Fit the errors of a base: line and variances by maximum likelihood, intervals and alarms leave-person-out.

Literature: random effects by marginal likelihood, Laird & Ware, "Random-Effects Models for Longitudinal Data",
Biometrics 1982; conformal quantiles over people, Dunn, Wasserman & Ramdas, "Distribution-Free Prediction Sets for
Two-Layer Hierarchical Models", JASA 2023.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from AlbumPipeline.AlbumPipeline__config import AlbumConfig
from AlbumPipeline.AlbumPipeline__dataset import YEAR, DatedFaces, dated_album, read_faces, undated_photo
from AlbumPipeline.AlbumPipeline__model import disagreement, solve_album
from AlbumPipeline.AlbumPipeline__weights import N_KNOTS, REFERENCE_AGE, AgeErrors, save_errors
from common.base.weights import fingerprint, git_commit, settings_of
from common.errors import DataError
from common.pipeline import RELEASED

FITTED = ("noise", "person", "drift")
LOOSE = 0.05  # pull of the fitted logarithms towards their defaults: that of a standard deviation of 3
ROUNDS, REWEIGHTED = 120, 8
SIZES = (1, 2, 4, 8)  # photos of the albums drawn from each held-out person
LOWEST_ALARM = 2.0  # standard deviations; less is nothing to name a photo for
NORMAL_90 = 1.6448536


class Run(NamedTuple):
    """A fit to be done: its settings, its faces, its folder."""

    config: AlbumConfig
    faces: DatedFaces
    folder: Path


class Person(NamedTuple):
    """The faces of one person: h of estimates [n], h of ages [n] from REFERENCE_AGE, weights of the knots [n, K]."""

    y: np.ndarray
    x: np.ndarray
    knots: np.ndarray


def start_run(config: AlbumConfig, folders: list[str], folder: Path, resume: bool) -> Run:
    """Read the faces; a fit takes seconds and is not resumed."""
    if resume:
        raise DataError("A fit of AlbumPipeline takes seconds and is not resumed; start it again.")
    return Run(config, read_faces(config, folders), folder)


def fit(run: Run) -> Path:
    """Fit, calibrate leave-person-out, and write the weights; returns their folder."""
    config, faces = run.config, run.faces
    errors = calibrate(fit_errors(faces, config), faces, config)
    base = Path(config.base_weights) if config.base_weights else RELEASED
    notes = {
        "base": "" if config.predictions else fingerprint(base),
        "people": len(np.unique(faces.person)),
        "faces": len(faces.age),
        "ages": [float(faces.age.min()), float(faces.age.max())],
        "training": settings_of(config) | {"base_weights": "", "predictions": "", "out": "", "runs": ""},
        "commit": git_commit(),
    }
    return save_errors(errors, Path(config.out) if config.out else run.folder / "weights", notes)


def fit_errors(faces: DatedFaces, config: AlbumConfig) -> AgeErrors:
    """The line and the variances that make the estimates [N] likeliest at the ages [N]; factor and alarm default."""
    assumed = ("knee", "degrees", "photo", "session", "prior_age", "prior_spread")
    start = AgeErrors(**{key: getattr(config, key) for key in assumed})
    people = [_person(faces.of(faces.person == name), start) for name in np.unique(faces.person)]
    first = np.log([getattr(start, key) for key in FITTED])

    def objective(values: np.ndarray) -> float:
        pull = LOOSE * ((values - first) ** 2).sum()
        return _likelihood(people, _with(start, values))[0] + pull

    best = minimize(objective, first, method="Nelder-Mead", options={"maxiter": ROUNDS, "xatol": 0.02, "fatol": 0.02})
    errors = _with(start, best.x)
    intercept, slope = _likelihood(people, errors)[1]
    if slope < 0.2:
        raise DataError(f"The estimates do not grow with the ages (slope {slope:.2f}); these are not their ages.")
    return replace(errors, intercept=float(intercept), slope=float(slope))


def _with(errors: AgeErrors, values: np.ndarray) -> AgeErrors:
    bounded = np.exp(np.clip(values, -7, 3)).tolist()
    return replace(errors, **dict(zip(FITTED, bounded, strict=True)))


def _person(faces: DatedFaces, errors: AgeErrors) -> Person:
    first, share = errors.effect_weights(faces.age)
    knots = np.zeros((len(faces.age), N_KNOTS))
    knots[np.arange(len(knots)), first], knots[np.arange(len(knots)), first + 1] = 1 - share, share
    x = errors.log_age(faces.age) - np.log(REFERENCE_AGE + errors.knee)
    return Person(errors.log_age(faces.estimate), x, knots)


def _likelihood(people: list[Person], errors: AgeErrors) -> tuple[float, np.ndarray]:
    """Negative log-likelihood, up to a constant, of whitened residuals as Student-t, and the line [2] that fits best.

    The line is found by iteratively re-weighted least squares.
    """
    effect, parts, size = errors.effect_cov(), [], 0.0
    for y, x, knots in people:
        cov = (errors.noise**2 + errors.photo**2) * np.eye(len(y)) + knots @ effect @ knots.T  # [n, n]
        factor = np.linalg.cholesky(cov)
        size += float(np.log(np.diag(factor)).sum())
        parts.append(np.linalg.solve(factor, np.stack([np.ones(len(y)), x, y], axis=1)))  # [n, 3] whitened
    white = np.concatenate(parts)
    weight = np.ones(len(white))
    for _ in range(REWEIGHTED):
        root = np.sqrt(weight)[:, None]
        line = np.linalg.lstsq(white[:, :2] * root, white[:, 2] * root[:, 0], rcond=None)[0]  # [2]
        square = (white[:, 2] - white[:, :2] @ line) ** 2
        weight = (errors.degrees + 1) / (errors.degrees + square)
    loss = size + 0.5 * (errors.degrees + 1) * np.log1p(square / errors.degrees).sum()
    return float(loss), line


def held_out(faces: DatedFaces, config: AlbumConfig, folds: int) -> Iterator[tuple[AgeErrors, list[DatedFaces]]]:
    """Errors fitted on all people but some, and the faces of each of those; every person is left out once."""
    people = np.unique(faces.person)
    for fold in range(min(folds, len(people))):
        out = people[fold :: min(folds, len(people))]
        errors = fit_errors(faces.of(~np.isin(faces.person, out)), config)
        yield errors, [faces.of(faces.person == name) for name in out]


def calibrate(errors: AgeErrors, faces: DatedFaces, config: AlbumConfig) -> AgeErrors:
    """The same errors with the factor of intervals and the alarm that hold on people left out of a fit."""
    random = np.random.default_rng(config.seed)
    births, dates, sizes, deviations = [], [], [], []
    for fitted, people in held_out(faces, config, config.folds):
        for person in people:
            births.append([_birth_score(part, fitted) for part in drawn_albums(person, random)])
            dates.append([_date_score(person.of([row]), fitted) for row in range(len(person.age))])
            album = dated_album(person)
            ages = solve_album(album, fitted)
            deviations.extend(np.abs(ages.deviation))
            sizes.extend(disagreement(album, ages, fitted))
    factor = max(person_quantile(births, config.coverage), person_quantile(dates, config.coverage)) / NORMAL_90
    alarm = max(float(np.quantile(sizes, 1 - config.false_alarms)), LOWEST_ALARM)
    typical = max(float(np.median(deviations)), 0.1)
    return replace(errors, factor=max(float(factor), 0.1), typical=typical, alarm=alarm)


def drawn_albums(person: DatedFaces, random: np.random.Generator) -> list[DatedFaces]:
    """Albums of one person: all photos, those as an adult, and SIZES of them drawn at random."""
    count = len(person.age)
    rows = [np.arange(count), np.flatnonzero(person.age >= 18)]
    rows += [random.choice(count, size, replace=False) for size in SIZES if size < count]
    return [person.of(part) for part in rows if len(part)]


def person_quantile(scores: list, probability: float) -> float:
    """The quantile of scores [n] of each person, all people weighing the same."""
    parts = [np.asarray(part, float) for part in scores if len(part)]
    if not parts:
        return 1.0
    values = np.concatenate(parts)
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in parts])
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) >= probability * len(parts) * (1 - 1e-9)
    return float(values[order][np.argmax(reached)])


def _birth_score(person: DatedFaces, errors: AgeErrors) -> float:
    ages = solve_album(dated_album(person), errors)
    return abs(ages.born[0] - YEAR) / ages.born_sd[0]


def _date_score(face: DatedFaces, errors: AgeErrors) -> float:
    ages = solve_album(undated_photo(face), errors)
    return abs(ages.taken[0] - YEAR) / ages.taken_sd[0]
