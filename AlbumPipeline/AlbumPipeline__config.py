"""Settings of AlbumPipeline: one frozen dataclass, its presets, its command line."""

from collections.abc import Sequence
from dataclasses import dataclass

from jsonargparse import Namespace

from common.training.config import parse_config

DESCRIPTION = """Fit how a base errs on the faces of people with several photos of known age: seconds, no GPU.
Keys come from --preset, then --config FILE.json, then the command line; '-' and '_' are the same in a key."""

PRESETS = {"released": {}, "gaussian": {"degrees": 1000.0}}


@dataclass(frozen=True)
class AlbumConfig:
    """Everything a fit is decided by.

    Attributes:
        base_weights: Folder of the base regressor's weights (empty: the released ones).
        predictions: Table of base estimates of the same faces, to use instead of estimating them (empty: none).
        out: Folder that the weights are written to (empty: weights/ of the run folder).
        knee: Years added to an age before the logarithm: below it errors are of years, above it of per cent.
        degrees: Degrees of freedom of the Student-t noise.
        photo: Standard deviation of a photo's effect on log age; assumed, no set with several people a photo is dated.
        session: Correlation of the noise of two photos of one person in one session; assumed.
        prior_age: Typical age in an album, in years; assumed, so that no calibration set's ages are imposed.
        prior_spread: Standard deviation of log age around it; assumed.
        folds: Parts of the people that are held out in turn for intervals and alarms (people, if there are fewer).
        coverage: Probability with which intervals shall hold the truth of held-out people.
        false_alarms: Part of correct faces that may be called contradictions.
        seed: Of the albums drawn from held-out people.
        device: auto, cpu or cuda.
        runs: Folder of run folders (empty: runs/ of this repository).
    """

    base_weights: str = ""
    predictions: str = ""
    out: str = ""
    knee: float = 5.0
    degrees: float = 5.0
    photo: float = 0.05
    session: float = 0.5
    prior_age: float = 25.0
    prior_spread: float = 1.6
    folds: int = 20
    coverage: float = 0.9
    false_alarms: float = 0.05
    seed: int = 0
    device: str = "auto"
    runs: str = ""

    def __post_init__(self):
        for key in ("knee", "degrees", "photo", "prior_age", "prior_spread"):
            if not getattr(self, key) > 0:
                raise ValueError(f"{key} must be positive, not {getattr(self, key)}.")
        for key in ("session", "coverage", "false_alarms"):
            if not 0 < getattr(self, key) < 1:
                raise ValueError(f"{key} must be between 0 and 1, not {getattr(self, key)}.")
        if self.folds < 2:
            raise ValueError(f"folds must be at least 2, not {self.folds}.")


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[AlbumConfig, Namespace]:
    """Config and run options (`data`, `resume`, `preset`) of a command line."""
    return parse_config(AlbumConfig, PRESETS, DESCRIPTION, argv)
