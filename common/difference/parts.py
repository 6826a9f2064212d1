"""What difference heads are made from, take and give: arrays at inference, tensors in training."""

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

ORDINALS = ("condor", "coral")
AGGREGATIONS = ("max", "avg", "fc", "attention")


@dataclass(frozen=True)
class HeadConfig:
    """Everything that decides the shape of a pooled difference head.

    Attributes:
        embedding_size: Width of the BAR's embedding.
        hidden_size: Width of the layers of the head.
        aggregation: How the references are pooled: max, avg, fc (exactly `references` of them) or attention.
        references: References asked for per query; with fc also the width of its layer.
        level_radius: Largest difference the levels can say, in years.
        ordinal: condor or coral levels.
        median_share: Part of the references' median age, beside the base's estimate, in where the levels start from.
        shrinkage: Factor on what is learnt, outside of training: a smaller correction loses less on unlike faces.
        dropout: Probability of dropping a hidden feature in training.
    """

    embedding_size: int = 256
    hidden_size: int = 128
    aggregation: str = "attention"
    references: int = 30
    level_radius: int = 15
    ordinal: str = "condor"
    median_share: float = 0.5
    shrinkage: float = 1.0
    dropout: float = 0.3

    def __post_init__(self):
        for value, allowed, key in (
            (self.aggregation, AGGREGATIONS, "aggregation"),
            (self.ordinal, ORDINALS, "ordinal"),
        ):
            if value not in allowed:
                raise ValueError(f"{key} must be one of {', '.join(allowed)}, not '{value}'.")
        if self.references < 0 or self.level_radius < 1:
            raise ValueError("references must be 0 or more and level_radius 1 or more.")
        for part, key in ((self.median_share, "median_share"), (self.shrinkage, "shrinkage")):
            if not 0 <= part <= 1:
                raise ValueError(f"{key} must be in [0, 1], not {part}.")


class Query(NamedTuple):
    """Faces asked about: embedding [B, E] float, estimate [B] float years."""

    embedding: Any
    estimate: Any


class References(NamedTuple):
    """R references of each query; where mask is False the other entries mean nothing.

    embedding [B, R, E]; age, estimate [B, R] years; seen [B, R] bool: the base trained on it, its residual says
    nothing; mask [B, R] bool.
    """

    embedding: Any
    age: Any
    estimate: Any
    seen: Any
    mask: Any


Part = TypeVar("Part", Query, References)


class DifferenceOutput(NamedTuple):
    """What a head predicts of B queries with R references each.

    levels [B, 2·radius] logits; difference [B] years from the anchor; weight [B, R], sum 1 or 0; age [B] years;
    probabilities [B, 2·radius] that the difference is above each level.
    """

    levels: Any
    difference: Any
    weight: Any
    age: Any
    probabilities: Any
