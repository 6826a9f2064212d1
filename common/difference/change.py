"""How many years lie between two photos, or two groups of photos: an interval around the difference of the estimates.

The plain difference of two base estimates is what is measured best (scripts/calibrate_differences.py --report); a
difference head beside it only shrinks it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.base.intervals import LARGEST, N_FEATURES, expected_error, quantile
from common.base.weight_files import CONFIG_FILE, DIFFERENCES_FILE, verified, vouch, writing
from common.errors import WeightsError
from common.files import write_whole

ONE, TWO = "one", "two"  # persons shown
MAKE = "make it with scripts/calibrate_differences.py --data PREPARED_DIR, naming these weights with --weights"


class Side(NamedTuple):
    """What one or several photos of a person at one time say: age (mean estimate) and expected error, in years.

    expected is the root of the mean square over the photos; photos is how many there are.
    """

    age: float
    expected: float
    photos: int


@dataclass(frozen=True)
class ChangeCalibrator:
    """Half-width of the interval of a difference of two estimates.

    fingerprint: SHA-1 of the base's weights; coefficients [F]: of the expected error of one estimate, see
    common/base/intervals.py; sitting, person, people: scores, ascending, of pairs that nothing was trained on, of one
    person within a year, of one person a year or more apart, and of two persons. A score is |error of the difference|
    / root of the sum of both squared expected errors.
    """

    fingerprint: str
    coefficients: list[float]
    sitting: list[float]
    person: list[float]
    people: list[float]

    def side(self, estimate: np.ndarray, spread: np.ndarray) -> Side:
        """Photos of one time, by their base estimates [n] and the spreads of their distributions [n] (years)."""
        expected = expected_error(self.coefficients, np.asarray(estimate), np.asarray(spread))
        return Side(float(np.mean(estimate)), float(np.sqrt(np.mean(expected**2))), len(expected))

    def half_width(self, first: Side, second: Side, persons: str, probability: float) -> float:
        """Half-width (years) for photos of ONE person or of TWO; raises DataError for an impossible probability.

        What differs between photos of one sitting averages out over the photos of a side, the rest does not.
        """
        photo = quantile(np.array(self.sitting), probability)
        whole = quantile(np.array(self.person if persons == ONE else self.people), probability)
        lasting = max(0.0, whole**2 - photo**2)
        return float(np.sqrt(sum(side.expected**2 * (photo**2 / side.photos + lasting) for side in (first, second))))


def save_change(calibrator: ChangeCalibrator, folder: Path) -> Path:
    """Write a calibrator beside the weights it belongs to; returns the file, raises WeightsError."""
    with writing(folder):
        write_whole(folder / DIFFERENCES_FILE, json.dumps(asdict(calibrator)) + "\n")
    if (folder / CONFIG_FILE).is_file():
        vouch(folder, DIFFERENCES_FILE)
    return folder / DIFFERENCES_FILE


def load_change(folder: str | Path, fingerprint: str) -> ChangeCalibrator:
    """The calibrator of a folder of weights whose base has this fingerprint; raises WeightsError."""
    path = Path(folder) / DIFFERENCES_FILE
    if not path.is_file():
        raise WeightsError(f"{folder} has no calibration of differences; {MAKE}.")
    try:
        calibrator = ChangeCalibrator(**json.loads(verified(path, LARGEST)))
        sound = _sound(calibrator)
    except WeightsError:
        raise
    except (OSError, TypeError, ValueError, RecursionError):
        sound = False
    if not sound:
        raise WeightsError(f"{path} is no calibration of differences; {MAKE}.")
    if calibrator.fingerprint != fingerprint:
        raise WeightsError(f"{path} was made with other base weights; {MAKE}.")
    return calibrator


def _sound(calibrator: ChangeCalibrator) -> bool:
    """Whether there are as many finite coefficients as there should be, and scores, ascending from 0."""
    coefficients = np.array(calibrator.coefficients, float)
    lists = [np.array(part, float) for part in (calibrator.sitting, calibrator.person, calibrator.people)]
    ascending = all(
        scores.ndim == 1
        and len(scores)
        and np.isfinite(scores).all()
        and scores[0] >= 0
        and (np.diff(scores) >= 0).all()
        for scores in lists
    )
    return coefficients.shape == (N_FEATURES,) and bool(np.isfinite(coefficients).all()) and bool(ascending)
