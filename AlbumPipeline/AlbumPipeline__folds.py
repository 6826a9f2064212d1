"""Who is left out of a fit, the control beside an album, and errors as rows of a table."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from AlbumPipeline.AlbumPipeline__config import AlbumConfig
from AlbumPipeline.AlbumPipeline__dataset import DatedFaces
from AlbumPipeline.AlbumPipeline__train import calibrate, fit_errors
from AlbumPipeline.AlbumPipeline__weights import AgeErrors
from common.evaluation.metrics import paired_bootstrap
from common.evaluation.tables import signed_gain

INNER_FOLDS = 5
HEADERS = ["what", "n", "people", "each alone", "album", "gain (95 %)", "90 % interval holds"]
RESAMPLES = 2000


class Fold(NamedTuple):
    """People [list] that the errors and the control (age from an estimate alone) were not fitted on."""

    errors: AgeErrors
    alone: Callable[[np.ndarray], np.ndarray]
    people: list[DatedFaces]
    others: DatedFaces


class Result(NamedTuple):
    """Absolute errors (years) of M truths by the control and by the album, whether its interval held each; person."""

    control: list[float]
    album: list[float]
    held: list[bool]
    person: list[str]

    def add(self, control: np.ndarray, album: np.ndarray, width: np.ndarray, person: str) -> None:
        """Note errors [m], of which those of the album have intervals of these half-widths [m]."""
        self.control.extend(np.abs(control).tolist())
        self.album.extend(np.abs(album).tolist())
        self.held.extend((np.abs(album) <= width).tolist())
        self.person.extend([person] * len(control))


def nothing() -> Result:
    """A result to be filled."""
    return Result([], [], [], [])


def fit_alone(faces: DatedFaces, errors: AgeErrors) -> Callable[[np.ndarray], np.ndarray]:
    """The control: age on estimate, a straight line in years or in log age, whichever errs less on these faces."""
    years = np.polyfit(faces.estimate, faces.age, 1)
    logs = np.polyfit(errors.log_age(faces.estimate), errors.log_age(faces.age), 1)

    def in_years(estimate: np.ndarray) -> np.ndarray:
        return np.maximum(np.polyval(years, estimate), 0)

    def in_logs(estimate: np.ndarray) -> np.ndarray:
        return np.maximum(np.exp(np.polyval(logs, errors.log_age(estimate))) - errors.knee, 0)

    return min((in_years, in_logs), key=lambda curve: np.abs(curve(faces.estimate) - faces.age).mean())


def make_folds(faces: DatedFaces, config: AlbumConfig, folds: int) -> Iterator[Fold]:
    """Everything fitted on some people, intervals and alarms too (on inner folds), for the others."""
    people = np.unique(faces.person)
    inner = replace(config, folds=INNER_FOLDS)
    for fold in range(min(folds, len(people))):
        out = np.isin(faces.person, people[fold :: min(folds, len(people))])
        rest = faces.of(~out)
        errors = calibrate(fit_errors(rest, inner), rest, inner)
        parts = [faces.of(faces.person == name) for name in np.unique(faces.person[out])]
        yield Fold(errors, fit_alone(rest, errors), parts, faces)


def given_fold(faces: DatedFaces, errors: AgeErrors) -> Fold:
    """All people at once, by weights that were fitted on others; the control inverts their line."""
    parts = [faces.of(faces.person == name) for name in np.unique(faces.person)]
    return Fold(errors, errors.calibrated, parts, faces)


def row_of(name: str, result: Result) -> list[str]:
    """A row of the table: errors of the control and of the album, the gain, the coverage of the 90 % intervals."""
    control, album, person = np.array(result.control), np.array(result.album), np.array(result.person)
    gain = paired_bootstrap(control, album, person, RESAMPLES)
    held = np.array(result.held, float)
    low, high = _coverage_interval(held, person)
    said = f"{100 * held.mean():.0f} % ({low:.0f}–{high:.0f})" if held.any() else "–"
    count = [str(len(control)), str(len(set(result.person)))]
    return [name, *count, f"{control.mean():.2f}", f"{album.mean():.2f}", signed_gain(**gain, digits=2), said]


def _coverage_interval(held: np.ndarray, person: np.ndarray) -> tuple[float, float]:
    """Percentages between which 95 % of the coverages lie when people are drawn again."""
    names, index = np.unique(person, return_inverse=True)
    sums, counts = np.bincount(index, weights=held), np.bincount(index)
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(names), (RESAMPLES, len(names)))
    low, high = np.percentile(100 * sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)
