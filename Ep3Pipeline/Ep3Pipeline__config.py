"""Settings of Ep3Pipeline: frozen dataclasses, the presets, the command line."""

from collections.abc import Sequence
from dataclasses import dataclass

from jsonargparse import Namespace

from common.training.config import parse_config

DESCRIPTION = """Train the method of the paper: a face beside single references, each with a weight.
Keys come from --preset, then --config FILE.json, then the command line; '-' and '_' are the same in a key."""

BANKS = ("base+dar", "base", "dar")
DIRECTIONS = ("both", "antisymmetric", "forward")
WEIGHTINGS = ("head", "uniform")
ERRORS = ("kde", "gaussian", "uniform", "none")

PRESETS = {
    "released": {"directions": "forward", "shrinkage": 0.5},
    "original": {"reference_window": 0.5, "age_size": 128, "views": 0, "bank": "base"},
}


@dataclass(frozen=True)
class PairHeadConfig:
    """Everything that decides the shape of the head and what it says.

    Attributes:
        embedding_size: Width of the BAR's embedding.
        hidden_size: Width of the layers of the head.
        age_size: Width of the age embedding.
        youngest: First age of the age table, in years; younger ones count as this one.
        oldest: Last age of the age table, in years (included); older ones count as this one.
        references: References asked for per query.
        level_radius: Largest difference the classes and levels can say, in years.
        directions: both (query-reference and reference-query), antisymmetric (half their difference), or forward.
        weighting: head (a learned weight per reference) or uniform.
        shrinkage: Factor on what is learnt, outside of training: a smaller correction loses less on unlike faces.
        dropout: Probability of dropping a hidden feature in training.
    """

    embedding_size: int = 256
    hidden_size: int = 128
    age_size: int = 32
    youngest: int = 0
    oldest: int = 120
    references: int = 10
    level_radius: int = 20
    directions: str = "both"
    weighting: str = "head"
    shrinkage: float = 1.0
    dropout: float = 0.3

    def __post_init__(self):
        for value, allowed, key in (
            (self.directions, DIRECTIONS, "directions"),
            (self.weighting, WEIGHTINGS, "weighting"),
        ):
            if value not in allowed:
                raise ValueError(f"{key} must be one of {', '.join(allowed)}, not '{value}'.")
        if self.references < 0 or self.level_radius < 1:
            raise ValueError("references must be 0 or more and level_radius 1 or more.")
        if not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage must be in [0, 1], not {self.shrinkage}.")
        if self.youngest >= self.oldest:
            raise ValueError(f"youngest {self.youngest} must be below oldest {self.oldest}.")
        if self.age_size < 2 or self.age_size % 2:
            raise ValueError(f"age_size must be even and at least 2, not {self.age_size}.")


@dataclass(frozen=True)
class Ep3PipelineConfig(PairHeadConfig):
    """Everything a training run is decided by; the keys of the head itself are PairHeadConfig's.

    Attributes:
        base_weights: Folder of the base regressor's weights (empty: the released ones).
        bank: Splits that references come from: base+dar, base, or dar.
        reference_window: References are within this many years of the estimate.
        pool: In training, references are drawn from the `pool` times as many nearest ones.
        estimate_errors: Training estimate = age - error; errors from kde, gaussian, uniform, or none (the base's own).
        largest_error: Errors are saturated to this many years, above and below.
        views: Augmented views of each query that are embedded beside the face itself.
        view_strength: Factor on the strength of that augmentation.
        epochs: Passes over the queries (the dar split).
        batch_size: Queries in a step.
        learning_rate: Highest rate of the one-cycle schedule.
        weight_decay: Of AdamW.
        warm_up: Part of the training in which the rate rises.
        age_weight: Weight of the squared error of the two ages (years squared).
        difference_weight: Weight of the squared error of the differences (years squared).
        condor_weight: Weight of the CONDOR loss of the levels.
        class_weight: Weight of the cross-entropy of the classes.
        mean_weight: Weight of half the squared error of the classes' mean (years squared).
        variance_weight: Weight of the classes' variance (years squared).
        unfreeze_epoch: Epoch (from 0) from which the backbone is trained too (-1: never).
        backbone_learning_rate: Its rate then; the head keeps its own.
        base_weight: Weight of the squared error of the base's own ages then (years squared).
        patience: Epochs without a better validation error before stopping early.
        limit: Use at most this many faces of each split and set (0: all).
        device: auto, cpu or cuda.
        seed: Of initial weights, order, views, drawn errors and drawn references.
        runs: Folder of run folders (empty: runs/ of this repository).
    """

    base_weights: str = ""
    bank: str = "base+dar"
    reference_window: float = 3.0
    pool: int = 3
    estimate_errors: str = "kde"
    largest_error: float = 20.0
    views: int = 3
    view_strength: float = 0.5
    epochs: int = 15
    batch_size: int = 256
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    warm_up: float = 0.2
    age_weight: float = 1.0
    difference_weight: float = 1.0
    condor_weight: float = 1.0
    class_weight: float = 1.0
    mean_weight: float = 0.2
    variance_weight: float = 0.05
    unfreeze_epoch: int = -1
    backbone_learning_rate: float = 1e-4
    base_weight: float = 1.0
    patience: int = 10
    limit: int = 0
    device: str = "auto"
    seed: int = 0
    runs: str = ""

    def __post_init__(self):
        super().__post_init__()
        for value, allowed, key in (
            (self.bank, BANKS, "bank"),
            (self.estimate_errors, ERRORS, "estimate_errors"),
        ):
            if value not in allowed:
                raise ValueError(f"{key} must be one of {', '.join(allowed)}, not '{value}'.")
        if self.pool < 1 or self.largest_error <= 0:
            raise ValueError("pool must be at least 1 and largest_error above 0.")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError("epochs must be at least 1 and batch_size at least 2.")


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[Ep3PipelineConfig, Namespace]:
    """Config and run options (`data`, `resume`, `preset`) of a command line."""
    return parse_config(Ep3PipelineConfig, PRESETS, DESCRIPTION, argv)
