"""Settings of DiffPipeline6: one frozen dataclass, its presets, its command line."""

from collections.abc import Sequence
from dataclasses import dataclass

from jsonargparse import Namespace

from common.difference.heads import HeadConfig
from common.difference.spanning import BINS
from common.training.config import parse_config

DESCRIPTION = """Train the difference regressor: a face beside several references of about its age.
Keys come from --preset, then --config FILE.json, then the command line; '-' and '_' are the same in a key."""

BANKS = ("base+dar", "base", "dar")
TASKS = {"all": (0, 10_000), "0-3": (0, 3), "4-10": (4, 10), "0-10": (0, 10)}

PRESETS = {
    "released": {"per_bin": 4, "references": 32, "median_share": 0.0, "shrinkage": 0.5},
    "original": {"references": 5, "reference_window": 0.5, "aggregation": "max", "level_radius": 10, "task": "4-10"},
}


@dataclass(frozen=True)
class DiffPipeline6Config(HeadConfig):
    """Everything a training run is decided by; the keys of the head itself are HeadConfig's.

    Attributes:
        base_weights: Folder of the base regressor's weights (empty: the released ones).
        bank: Splits that references come from: base+dar, base, or dar (only these residuals are unseen).
        reference_window: References are within this many years of the base's estimate.
        per_bin: So many references of every 5-year bin within 20 years of the estimate, the most similar in each,
            instead of the most similar of the window (0: these; else references is 8 times this number).
        task: Train on differences of 0-3, 4-10, 0-10 years, or all.
        views: Augmented views of each query that are embedded beside the face itself.
        view_strength: Factor on the strength of that augmentation.
        epochs: Passes over the queries (the dar split).
        batch_size: Queries in a step.
        learning_rate: Highest rate of the one-cycle schedule.
        weight_decay: Of AdamW.
        warm_up: Part of the training in which the rate rises.
        age_weight: Weight of the distance between corrected age and label beside the loss of the levels.
        hide_references: Greatest part of a query's references that is hidden from a training step, at random.
        unfreeze_epoch: Epoch (from 0) from which the backbone is trained too (-1: never).
        backbone_learning_rate: Its rate then; the heads keep theirs.
        patience: Epochs without a better validation error before stopping early.
        limit: Use at most this many faces of each split and set (0: all).
        device: auto, cpu or cuda.
        seed: Of initial weights, order, views and hidden references.
        runs: Folder of run folders (empty: runs/ of this repository).
    """

    base_weights: str = ""
    bank: str = "base+dar"
    reference_window: float = 10.0
    per_bin: int = 0
    task: str = "all"
    views: int = 3
    view_strength: float = 0.5
    epochs: int = 15
    batch_size: int = 256
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    warm_up: float = 0.2
    age_weight: float = 5.0
    hide_references: float = 0.5
    unfreeze_epoch: int = -1
    backbone_learning_rate: float = 1e-4
    patience: int = 10
    limit: int = 0
    device: str = "auto"
    seed: int = 0
    runs: str = ""

    def __post_init__(self):
        super().__post_init__()
        for value, allowed, key in ((self.bank, BANKS, "bank"), (self.task, tuple(TASKS), "task")):
            if value not in allowed:
                raise ValueError(f"{key} must be one of {', '.join(allowed)}, not '{value}'.")
        if self.per_bin < 0 or (self.per_bin and self.references != BINS * self.per_bin):
            raise ValueError(
                f"per_bin must be 0 or more, and references {BINS} times it, not {self.references}; "
                "per_bin 0 takes any number of the nearest."
            )
        if not 0 <= self.hide_references <= 1:
            raise ValueError(f"hide_references must be in [0, 1], not {self.hide_references}.")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError("epochs must be at least 1 and batch_size at least 2.")


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[DiffPipeline6Config, Namespace]:
    """Config and run options (`data`, `resume`, `preset`) of a command line."""
    return parse_config(DiffPipeline6Config, PRESETS, DESCRIPTION, argv)
