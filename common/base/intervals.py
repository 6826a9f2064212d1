"""Prediction intervals that hold the true age with a stated probability (split-conformal, normalised)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from common.base.weight_files import CONFIG_FILE, verified, vouch, writing
from common.data.labels import OLDEST
from common.errors import DataError, WeightsError
from common.files import write_whole

INTERVALS_FILE = "intervals.json"
N_FEATURES = 5  # of `features`
LARGEST = 2**24  # bytes of a file of intervals


@dataclass(frozen=True)
class IntervalCalibrator:
    """Half-width of an interval = expected error of the face · a quantile of the scores of calibration faces.

    coefficients [F]: of the logarithm of the expected error (years), see `features`; scores [n], ascending:
    |error| / expected error of faces that neither the base nor the head was trained or selected on. Reference:
    Lei et al., "Distribution-Free Predictive Inference for Regression", JASA 2018.
    """

    coefficients: list[float]
    scores: list[float]

    def half_width(self, estimate: np.ndarray, spread: np.ndarray, probability: float) -> np.ndarray:
        """Half-widths [N] (years) for base estimates [N] and distribution spreads [N] (years).

        Raises DataError for a probability that is not in (0, 1) or that so few calibration faces cannot give.
        """
        return expected_error(self.coefficients, estimate, spread) * quantile(np.array(self.scores), probability)


def features(estimate: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """What the expected error depends on, [N, 5]: the base's estimate and the spread of its distribution (years)."""
    decades = estimate / 10
    return np.stack([np.ones_like(decades), decades, decades**2, decades**3 / 10, np.log(spread + 0.5)], axis=1)


def expected_error(coefficients: list[float], estimate: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Expected absolute error [N] (years)."""
    return np.exp(np.clip(features(estimate, spread) @ np.array(coefficients), -2, 4))


def fit_coefficients(estimate: np.ndarray, spread: np.ndarray, error: np.ndarray) -> list[float]:
    """Coefficients of `expected_error` by Poisson-like regression of |error| [N] (years) on the features."""
    from sklearn.linear_model import PoissonRegressor

    model = PoissonRegressor(alpha=1e-3, fit_intercept=False, max_iter=2000)
    model.fit(features(estimate, spread), np.abs(error))
    return [float(value) for value in model.coef_]


def quantile(scores: np.ndarray, probability: float) -> float:
    """The conformal quantile of n scores: the ceil((n + 1) · probability)-th smallest.

    Examples
    --------
    >>> quantile(np.arange(1.0, 10.0), 0.9)
    9.0
    """
    if not 0 < probability < 1:
        raise DataError(f"--interval takes a probability between 0 and 1, not {probability}.")
    place = int(np.ceil((len(scores) + 1) * probability))
    if place > len(scores):
        raise DataError(f"{len(scores)} calibration faces are too few for intervals of probability {probability}.")
    return float(np.sort(scores)[place - 1])


def calibrate(
    coefficients: list[float], estimate: np.ndarray, spread: np.ndarray, error: np.ndarray
) -> IntervalCalibrator:
    """A calibrator from the errors [N] (years) of calibration faces."""
    scores = np.sort(np.abs(error) / expected_error(coefficients, estimate, spread))
    return IntervalCalibrator(coefficients, [round(float(score), 4) for score in scores])


def save_calibrators(folder: Path, calibrators: dict[str, IntervalCalibrator]) -> None:
    """Write calibrators by mode (bypass, full) beside the weights they belong to."""
    document = {mode: asdict(calibrator) for mode, calibrator in calibrators.items()}
    with writing(folder):
        write_whole(folder / INTERVALS_FILE, json.dumps(document) + "\n")
    if (folder / CONFIG_FILE).is_file():
        vouch(folder, INTERVALS_FILE)


def load_calibrator(folder: str | Path, mode: str) -> IntervalCalibrator:
    """The calibrator of a mode; raises WeightsError if these weights have none."""
    path = Path(folder) / INTERVALS_FILE
    try:
        calibrator = IntervalCalibrator(**json.loads(verified(path, LARGEST))[mode])
    except WeightsError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        raise WeightsError(
            f"{folder} has no intervals for mode {mode}; make them with scripts/calibrate_intervals.py"
            " --data PREPARED_DIR, naming these weights and their base with --weights and --base."
        ) from None
    if not _sound(calibrator):
        raise WeightsError(f"{path} is no calibration of intervals; make it with scripts/calibrate_intervals.py.")
    return calibrator


def _sound(calibrator: IntervalCalibrator) -> bool:
    """Whether coefficients and scores are finite numbers, as many as there should be, the scores ascending from 0."""
    try:
        coefficients, scores = (np.array(part, float) for part in (calibrator.coefficients, calibrator.scores))
    except (TypeError, ValueError):
        return False
    sized = coefficients.shape == (N_FEATURES,) and scores.ndim == 1 and len(scores) > 0
    numbers = bool(np.isfinite(coefficients).all() and np.isfinite(scores).all())
    return sized and numbers and scores[0] >= 0 and bool((np.diff(scores) >= 0).all())


def bounds(age: np.ndarray, half_width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end [N] (years) of intervals around ages [N], within 0 and the oldest age."""
    return np.clip(age - half_width, 0, OLDEST), np.clip(age + half_width, 0, OLDEST)
