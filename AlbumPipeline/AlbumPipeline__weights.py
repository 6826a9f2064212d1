"""How a base errs on faces: what AlbumPipeline__main fits, and the file that it is kept in."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import WeightsError
from common.files import WEIGHTS, write_whole

RELEASED = WEIGHTS / "AlbumPipeline"
CONFIG_FILE = "config.json"
LARGEST = 2**16  # bytes of that file

REFERENCE_AGE = 15.0  # years; where the intercept is meant
OLDEST_KNOT = 95.0  # years
N_KNOTS = 9


@dataclass(frozen=True)
class AgeErrors:
    """How the base errs, fitted by AlbumPipeline__main; standard deviations are of h = log(age + knee), no unit.

    Attributes:
        knee: Years added before the logarithm: below it errors are of years, above it of per cent.
        intercept: Expected h of the estimate at REFERENCE_AGE.
        slope: Of h of the estimate on h of the age.
        noise: Scale of the Student-t noise of one face.
        degrees: Its degrees of freedom.
        person: Standard deviation of a person's effect.
        drift: Distance of h over which a person's effect loses all but 37 % of its correlation.
        photo: Standard deviation of a photo's effect.
        session: Correlation of the noise of two photos of one person in one session.
        prior_age: Typical age in an album (years).
        prior_spread: Standard deviation of h around it.
        factor: Intervals are so many times as wide as the posterior's standard deviation says.
        typical: Median size of the deviations in an album like those calibrated on (see AlbumAges.deviation).
        alarm: A face more standard deviations than this from what the others say is a contradiction.
    """

    knee: float = 5.0
    intercept: float = 3.15
    slope: float = 0.88
    noise: float = 0.075
    degrees: float = 5.0
    person: float = 0.11
    drift: float = 0.34
    photo: float = 0.05
    session: float = 0.5
    prior_age: float = 25.0
    prior_spread: float = 1.6
    factor: float = 1.2
    typical: float = 0.75
    alarm: float = 2.0

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} must be a positive number, not {value!r}")

    def log_age(self, age: np.ndarray) -> np.ndarray:
        """h of ages (years), any shape; ages below 0 count as 0."""
        return np.log(np.maximum(age, 0.0) + self.knee)

    def expected(self, age: np.ndarray) -> np.ndarray:
        """Expected h of the base's estimate at true ages (years), any shape."""
        return self.intercept + self.slope * (self.log_age(age) - np.log(REFERENCE_AGE + self.knee))

    def calibrated(self, estimate: np.ndarray) -> np.ndarray:
        """The ages (years), any shape, at which these estimates (years) are expected; never below 0."""
        inverse = (self.log_age(estimate) - self.intercept) / self.slope + np.log(REFERENCE_AGE + self.knee)
        return np.maximum(np.exp(inverse) - self.knee, 0.0)

    @property
    def knots(self) -> np.ndarray:
        """h [N_KNOTS] of the ages between which a person's effect is interpolated."""
        return np.linspace(np.log(self.knee), np.log(OLDEST_KNOT + self.knee), N_KNOTS)

    def effect_weights(self, age: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First knot [F] int of the two around ages [F] (years), and the weight [F] of the second one."""
        knots = self.knots
        place = np.clip((self.log_age(age) - knots[0]) / (knots[1] - knots[0]), 0, N_KNOTS - 1)  # [F]
        first = np.minimum(place.astype(int), N_KNOTS - 2)
        return first, place - first

    def effect_cov(self) -> np.ndarray:
        """Covariance [N_KNOTS, N_KNOTS] of a person's effect at the knots."""
        return self.person**2 * np.exp(-np.abs(self.knots[:, None] - self.knots[None]) / self.drift)


def save_errors(errors: AgeErrors, folder: str | Path, notes: dict[str, Any]) -> Path:
    """Write config.json {"errors": …, "errors_sha256": …, **notes} into a folder; returns it. Raises WeightsError."""
    folder = Path(folder)
    document = {"errors": asdict(errors), "errors_sha256": _digest(asdict(errors)), **notes}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / CONFIG_FILE, json.dumps(document, indent=1) + "\n")
    except OSError as error:
        raise WeightsError(f"The weights {folder} cannot be written ({error.strerror}).") from None
    return folder


def load_errors(folder: str | Path) -> tuple[AgeErrors, dict[str, Any]]:
    """The errors in a folder of weights, and the notes beside them; raises WeightsError unless the digest fits."""
    path = Path(folder) / CONFIG_FILE
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("it is too large")
        document = json.loads(path.read_text(encoding="utf-8"))
        stated, digest = document.pop("errors"), document.pop("errors_sha256")
        if digest != _digest(stated):
            raise ValueError("its numbers are not those that were written")
        return AgeErrors(**stated), document
    except FileNotFoundError:
        raise WeightsError(f"There are no weights of AlbumPipeline in {folder}; check --weights.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} holds no weights of AlbumPipeline ({error}); get them again.") from None


def _digest(stated: Any) -> str:
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()
