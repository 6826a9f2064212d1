"""Settings of RangeClassOrdinalPipeline: frozen dataclasses, the preset, the command line."""

from collections.abc import Sequence
from dataclasses import dataclass

from jsonargparse import Namespace

from common.training.config import parse_config

DESCRIPTION = """Train a classifier of how far off: of the base's own error, or of the difference between two faces.
Keys come from --preset, then --config FILE.json, then the command line; '-' and '_' are the same in a key."""

TARGETS = ("error", "difference")

PRESETS = {"released": {}, "original": {"target": "difference", "edges": (2.0, 4.0)}}


@dataclass(frozen=True)
class RangeHeadConfig:
    """Everything that decides the shape of the head and what its classes are.

    Attributes:
        target: error (the class of |age - base estimate| of a face) or difference (of |age - age of a reference|).
        edges: Years at which a class ends (included in it); the last class is all beyond.
        embedding_size: Width of the BAR's embedding.
        hidden_size: Width of the layers of the head.
        dropout: Probability of dropping a hidden feature in training.
    """

    target: str = "error"
    edges: tuple[float, ...] = (2.0, 4.0, 10.0)
    embedding_size: int = 256
    hidden_size: int = 32
    dropout: float = 0.4

    def __post_init__(self):
        object.__setattr__(self, "edges", tuple(float(edge) for edge in self.edges))  # JSON has lists
        if self.target not in TARGETS:
            raise ValueError(f"target must be one of {', '.join(TARGETS)}, not '{self.target}'.")
        if not self.edges or self.edges[0] <= 0 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges must rise from above 0, not {list(self.edges)}.")


@dataclass(frozen=True)
class RangeClassConfig(RangeHeadConfig):
    """Everything a training run is decided by; the keys of the head itself are RangeHeadConfig's.

    Attributes:
        corrector_weights: Folder of DiffPipeline6 weights, whose base, bank and corrections are used (empty: released).
        pair_window: With target difference: references are within this many years of the query's estimate.
        pairs: With target difference: references drawn for each query in an epoch.
        views: Augmented views of each training face that are embedded beside the face itself.
        view_strength: Factor on the strength of that augmentation.
        epochs: Passes over the training samples.
        batch_size: Samples in a step.
        learning_rate: Highest rate of the one-cycle schedule.
        weight_decay: Of AdamW.
        warm_up: Part of the training in which the rate rises.
        patience: Epochs without a better validation score before stopping early.
        limit: Use at most this many faces of each split and set (0: all).
        device: auto, cpu or cuda.
        seed: Of initial weights, order, views and drawn pairs.
        runs: Folder of run folders (empty: runs/ of this repository).
    """

    corrector_weights: str = ""
    pair_window: float = 15.0
    pairs: int = 8
    views: int = 3
    view_strength: float = 0.5
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warm_up: float = 0.2
    patience: int = 10
    limit: int = 0
    device: str = "auto"
    seed: int = 0
    runs: str = ""

    def __post_init__(self):
        super().__post_init__()
        if self.pairs < 1 or self.pair_window <= 0:
            raise ValueError("pairs must be at least 1 and pair_window above 0.")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError("epochs must be at least 1 and batch_size at least 2.")


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[RangeClassConfig, Namespace]:
    """Config and run options (`data`, `resume`, `preset`) of a command line."""
    return parse_config(RangeClassConfig, PRESETS, DESCRIPTION, argv)
