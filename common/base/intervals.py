"""Prediction intervals that hold the true age with a stated probability (split-conformal, normalised, Mondrian)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from common.base.weight_files import CONFIG_FILE, fingerprint, verified, vouch, writing
from common.data.labels import OLDEST
from common.errors import DataError, WeightsError
from common.files import write_whole

INTERVALS_FILE = "intervals.json"
N_FEATURES = 5  # of `features`
EDGES = (10, 20, 30, 40, 50, 60, 70)  # years, between the bins of the base's estimate
LEVELS = np.arange(1, 100) / 100  # probabilities whose quantiles are stored
LEAST = 30  # faces of a set by which it counts in a bin
LARGEST = 2**24  # bytes of a file of intervals
DOUBTFUL_ERROR = 15.0  # years; a face of which a larger error is to be expected is doubtful, as noise is


@dataclass(frozen=True)
class IntervalCalibrator:
    """Half-width of an interval = expected error of the face · a quantile of the scores of faces of about its estimate.

    coefficients [F]: of the logarithm of the expected error (years), see `features`; quantiles [bins, levels] of the
    score |error| / expected error, by bin of the base's estimate (EDGES) and probability (LEVELS), of faces that
    neither the base nor the head was trained or selected on. References: Lei et al., "Distribution-Free Predictive
    Inference for Regression", JASA 2018; Mondrian bins: Boström et al., "Mondrian conformal regressors", COPA 2020.
    """

    coefficients: list[float]
    quantiles: list[list[float]]

    def half_width(self, estimate: np.ndarray, spread: np.ndarray, probability: float) -> np.ndarray:
        """Half-widths [N] (years) for base estimates [N] and distribution spreads [N] (years).

        A probability between two LEVELS takes the upper one. Raises DataError for one that is not in (0, 1) or that
        so few calibration faces cannot give.
        """
        level = level_of(probability, len(self.quantiles[0]))
        factors = np.array([values[level] for values in self.quantiles])
        return expected_error(self.coefficients, estimate, spread) * factors[bins_of(estimate)]

    def doubts(self, estimate: np.ndarray, spread: np.ndarray) -> list[str]:
        """Why each base estimate [N] of this spread [N] (years) is doubtful; '' for nearly all faces."""
        expected = expected_error(self.coefficients, estimate, spread)  # [N]
        return [f"an error of {error:.0f} years is expected" if error > DOUBTFUL_ERROR else "" for error in expected]


def level_of(probability: float, count: int) -> int:
    """The first of so many LEVELS that is at least a probability; raises DataError if there is none."""
    if not 0 < probability < 1:
        raise DataError(f"--interval takes a probability between 0 and 1, not {probability}.")
    level = int(np.searchsorted(LEVELS, probability - 1e-9))
    if level >= count:
        raise DataError(f"The calibration faces are too few for intervals of probability {probability}.")
    return level


def bins_of(estimate: np.ndarray) -> np.ndarray:
    """Number [N] int of the bin of each base estimate [N] (years), 0 … len(EDGES).

    Examples
    --------
    >>> bins_of(np.array([3.0, 10.0, 99.0]))
    array([0, 1, 7])
    """
    return np.digitize(estimate, EDGES)


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
    coefficients: list[float], estimate: np.ndarray, spread: np.ndarray, error: np.ndarray, sets: np.ndarray
) -> IntervalCalibrator:
    """A calibrator from the errors [N] (years) of calibration faces of the sets named in `sets` [N].

    In a bin of estimates every set with LEAST faces weighs alike; where none has so many, neighbouring bins are taken
    in. Levels that the faces of a bin are too few for come from all faces, but no lower than the bin's largest score.
    Raises DataError for fewer than LEAST faces.
    """
    if len(error) < LEAST:
        raise DataError(f"{len(error)} calibration faces are too few; {LEAST} are needed.")
    scores, bins = np.abs(error) / expected_error(coefficients, estimate, spread), bins_of(estimate)
    of_all = level_quantiles(scores, _even_weights(sets))
    quantiles = []
    for number in range(len(EDGES) + 1):
        chosen = _faces_for(number, bins, sets)
        own = level_quantiles(scores[chosen], _even_weights(sets[chosen]))
        beyond = np.maximum(of_all, scores[chosen].max())
        quantiles.append(np.where(np.isnan(own), beyond, own))
    reached = int(np.isfinite(of_all).sum())
    return IntervalCalibrator(coefficients, [[round(float(q), 4) for q in values[:reached]] for values in quantiles])


def _faces_for(number: int, bins: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Mask [N] bool of the faces that calibrate a bin: of sets with LEAST in it, or in it and its nearest bins."""
    for reach in range(len(EDGES) + 1):
        near = np.abs(bins - number) <= reach
        names, counts = np.unique(sets[near], return_counts=True)
        if (counts >= LEAST).any():
            return near & np.isin(sets, names[counts >= LEAST])
    return np.ones(len(bins), bool)  # no set is so large


def _even_weights(sets: np.ndarray) -> np.ndarray:
    """Weights [N] of faces with which every set weighs alike, 1 in all."""
    _, number, counts = np.unique(sets, return_inverse=True, return_counts=True)
    return 1 / (counts[number] * len(counts))


def level_quantiles(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Conformal quantiles [levels] at LEVELS of scores [n] with weights [n]; NaN where these faces are too few.

    A new face weighs as much as the heaviest of these and may have any score. Reference: Tibshirani et al.,
    "Conformal Prediction Under Covariate Shift", NeurIPS 2019.

    Examples
    --------
    >>> level_quantiles(np.arange(1.0, 10.0), np.ones(9))[[49, 89]]
    array([5., 9.])
    """
    order = np.argsort(scores)
    reached = np.cumsum(weights[order]) / (weights.sum() + weights.max())
    place = np.searchsorted(reached, LEVELS - 1e-9)
    return np.append(scores[order], np.nan)[place]


def save_calibrators(folder: Path, calibrators: dict[str, IntervalCalibrator], base: str) -> None:
    """Write calibrators by mode (bypass, full) beside the weights they belong to; `base`: fingerprint of their base."""
    modes = {mode: asdict(calibrator) for mode, calibrator in calibrators.items()}
    with writing(folder):
        document = {"weights": fingerprint(folder), "base": base, "modes": modes}
        write_whole(folder / INTERVALS_FILE, json.dumps(document) + "\n")
    if (folder / CONFIG_FILE).is_file():
        vouch(folder, INTERVALS_FILE)


def load_calibrator(folder: str | Path, mode: str, base: str) -> IntervalCalibrator:
    """The calibrator of a mode for these weights on a base of this fingerprint; raises WeightsError without one."""
    folder = Path(folder)
    make = (
        "make them with scripts/calibrate_intervals.py --data PREPARED_DIR, naming these weights with --weights "
        "(those of a base with --base-weights)."
    )
    try:
        stored = json.loads(verified(folder / INTERVALS_FILE, LARGEST))
        calibrator = IntervalCalibrator(**stored["modes"][mode]) if "weights" in stored else None
    except WeightsError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        raise WeightsError(f"{folder} has no intervals for mode {mode}; {make}") from None
    if calibrator is None or (stored["weights"], stored.get("base")) != (fingerprint(folder), base):
        raise WeightsError(f"The intervals in {folder} are of other weights or an older kind; {make}")
    if not _sound(calibrator):
        raise WeightsError(f"{folder / INTERVALS_FILE} is no calibration of intervals; {make}")
    return calibrator


def _sound(calibrator: IntervalCalibrator) -> bool:
    """Whether coefficients and quantiles are finite numbers, as many as there should be, ascending from 0."""
    try:
        coefficients, quantiles = (np.array(part, float) for part in (calibrator.coefficients, calibrator.quantiles))
    except (TypeError, ValueError):
        return False
    sized = coefficients.shape == (N_FEATURES,) and quantiles.ndim == 2 and len(quantiles) == len(EDGES) + 1
    if not sized or not 0 < quantiles.shape[1] <= len(LEVELS):
        return False
    numbers = bool(np.isfinite(coefficients).all() and np.isfinite(quantiles).all())
    return numbers and bool((quantiles >= 0).all() and (np.diff(quantiles, axis=1) >= 0).all())


def bounds(age: np.ndarray, half_width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end [N] (years) of intervals around ages [N], within 0 and the oldest age."""
    return np.clip(age - half_width, 0, OLDEST), np.clip(age + half_width, 0, OLDEST)
