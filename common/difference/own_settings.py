"""Constants of the correction by own references, the scale they are meant on, and the file beside the weights."""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from common.base.weight_files import CONFIG_FILE, SETTINGS_FILE, fingerprint, verified, vouch, writing
from common.data.labels import OLDEST
from common.errors import WeightsError
from common.files import write_whole

LARGEST = 2**16  # bytes of that file
MADE_BY = "make it with scripts/release/fit_own_references.py"
KNEE, FLAT = 5.0, 35.0  # years
N_KNOTS = 9
CENTRE = 3.5  # of the scale, where an offset is meant: 28 years
# Quantiles of |t| with 5 degrees of freedom in steps of 1/20, 0.99 at last: assumed of weights without a fit.
STUDENT = (
    0.0, 0.0659, 0.1322, 0.1991, 0.2672, 0.3367, 0.4082, 0.4822, 0.5594, 0.6406, 0.7267, 0.8191, 0.9195, 1.0305,
    1.1558, 1.3009, 1.4759, 1.6994, 2.0150, 2.5706, 4.0321,
)  # fmt: skip


@dataclass(frozen=True)
class EffectSettings:
    """Standard deviations on the scale t; `noise` to `lasting` and `scores` are fitted, the others are assumed.

    Attributes:
        noise: Scale of the noise of one photo.
        session: Standard deviation of what a person's photos of one age share beside (camera, day, a wrong date).
        person: Standard deviation of a person's effect.
        drift: Distance on the scale over which its drifting part keeps 37 % of its correlation.
        lasting: Part of its variance that lasts for life, 0 to 1.
        offset: Standard deviation of a domain's offset.
        slope: The same of its change over one unit of the scale (from 10 to 35 years).
        bend: The same of local departures from that line.
        bend_width: Length on the scale over which these vary.
        degrees: Degrees of freedom of the Student-t noise.
        calibration: The calibration's scores count as so many references of a bank.
        scores: Quantiles, equally spaced from 0 to 1, of |error| over its expected size in the base's own domain.
    """

    noise: float = 0.09
    session: float = 0.1
    person: float = 0.1
    drift: float = 0.38
    lasting: float = 0.5
    offset: float = 0.12
    slope: float = 0.08
    bend: float = 0.04
    bend_width: float = 0.6
    degrees: float = 5.0
    calibration: float = 50.0
    scores: tuple[float, ...] = STUDENT

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            for number in value if isinstance(value, list | tuple) else (value,):
                if not (isinstance(number, int | float) and math.isfinite(number) and number >= 0):
                    raise ValueError(f"{field.name} must be positive, not {number!r}")
        if min(self.noise, self.person, self.drift, self.bend_width, self.degrees) <= 0 or self.lasting > 1:
            raise ValueError("noise, person, drift, bend_width and degrees must exceed 0, lasting not 1")
        if len(self.scores) < 2 or sorted(self.scores) != list(self.scores):
            raise ValueError("scores must ascend")

    @property
    def single(self) -> float:
        """Standard deviation, on the scale, of the noise of a photo that shares its session with no other."""
        return math.hypot(self.noise, self.session)

    @property
    def usual(self) -> float:
        """Expected size, on the scale, of the base's error in its own domain."""
        return math.hypot(self.single, self.person)

    def person_cov(self) -> np.ndarray:
        """Covariance [K, K] of a person's effect at the knots."""
        drifting = (1 - self.lasting) * np.exp(-np.abs(KNOTS[:, None] - KNOTS[None]) / self.drift)
        return self.person**2 * (self.lasting + drifting)

    def domain_covs(self) -> tuple[np.ndarray, np.ndarray]:
        """Covariances [K, K] of a domain's effect at the knots: of one like the base's own, and of another one."""
        at = KNOTS - CENTRE
        bend = self.bend**2 * np.exp(-0.5 * ((at[:, None] - at[None]) / self.bend_width) ** 2)
        other = self.offset**2 + self.slope**2 * np.outer(at, at) + bend + 1e-8 * np.eye(N_KNOTS)
        return 0.01 * other, other


def to_scale(age: np.ndarray) -> np.ndarray:
    """t of ages (years), any shape."""
    age = np.clip(age, 0.0, OLDEST)
    young = np.log(np.minimum(age, FLAT) + KNEE)
    return young + np.maximum(age - FLAT, 0) / (FLAT + KNEE)


def from_scale(scaled: np.ndarray) -> np.ndarray:
    """Ages (years, from 0 to OLDEST) of values t, any shape."""
    end = math.log(FLAT + KNEE)
    old = (FLAT + KNEE) * np.maximum(scaled - end, 0)
    return np.clip(np.exp(np.minimum(scaled, end)) - KNEE + old, 0.0, OLDEST)


def years_per_unit(age: np.ndarray) -> np.ndarray:
    """Years that one unit of the scale is worth at ages (years), any shape."""
    return np.minimum(age, FLAT) + KNEE


KNOTS = np.linspace(math.log(KNEE), math.log(FLAT + KNEE) + (100.0 - FLAT) / (FLAT + KNEE), N_KNOTS)  # 0 to 100 years


def knot_weights(scaled: np.ndarray) -> np.ndarray:
    """Weights [N, K] of the knots by which effects are interpolated at values [N] of the scale."""
    place = np.clip((scaled - KNOTS[0]) / (KNOTS[1] - KNOTS[0]), 0, N_KNOTS - 1)  # [N]
    return np.maximum(1 - np.abs(place[:, None] - np.arange(N_KNOTS)[None]), 0)


def load_settings(folder: str | Path) -> EffectSettings:
    """The constants in a folder of base weights (those of EffectSettings where it has none).

    Raises WeightsError for a file that is broken or was fitted to other weights.
    """
    path = Path(folder) / SETTINGS_FILE
    if not path.exists():
        return EffectSettings()
    try:
        said = json.loads(verified(path, LARGEST))
        stated, base = said["settings"], str(said["base"])
        settings = EffectSettings(**stated | {"scores": tuple(stated["scores"])})
        if base != fingerprint(folder):
            raise WeightsError(f"{path} was fitted to another base ({base[:8]}); {MADE_BY}.")
        return settings
    except WeightsError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} holds no constants of own references ({error}); {MADE_BY}.") from None


def save_settings(folder: Path, settings: EffectSettings, notes: dict) -> None:
    """Write the constants, the fingerprint of the base beside them, and notes on what they were fitted to."""
    said = {"settings": asdict(settings), "base": fingerprint(folder), **notes}
    with writing(folder):
        write_whole(folder / SETTINGS_FILE, json.dumps(said, indent=1) + "\n")
    if (folder / CONFIG_FILE).is_file():
        vouch(folder, SETTINGS_FILE)
