"""The difference of a query from several references of known age: pooled multi-reference ordinal heads."""

from typing import Any

import torch
from torch import Tensor, nn

from common.difference.ordinal import level_probabilities, logistic_logits, soft_difference
from common.difference.parts import AGGREGATIONS as AGGREGATIONS
from common.difference.parts import ORDINALS as ORDINALS
from common.difference.parts import DifferenceOutput as DifferenceOutput
from common.difference.parts import HeadConfig as HeadConfig
from common.difference.parts import Part as Part
from common.difference.parts import Query as Query
from common.difference.parts import References as References

SCALARS = 4  # per reference, see PooledDifferenceHead.relations
YEARS = 10.0  # scalars enter in decades


def anchor_age(query: Query, references: References, weight: Tensor, radius: int) -> Tensor:
    """The age [B] (years) that a difference is added to.

    It is the weighted mean age of the references within `radius` years of the base's estimate, or that estimate
    itself where there is none. `weight` [B, R] is not negative.
    """
    near = references.mask & ((references.age - query.estimate[:, None]).abs() <= radius)  # [B, R]
    weight = torch.where(near, weight, 0.0)
    total = weight.sum(dim=1)  # [B]
    mean = (weight * torch.where(near, references.age, 0.0)).sum(dim=1) / total.clamp(min=1e-9)
    return torch.where(total > 1e-6, mean, query.estimate)


def median_age(query: Query, references: References) -> Tensor:
    """The median age [B] (years) of the references, or the base's estimate where there is none."""
    if not references.age.shape[1]:
        return query.estimate
    ordered = torch.where(references.mask, references.age, 1e6).sort(dim=1).values  # [B, R] what is masked comes last
    count = references.mask.sum(dim=1, keepdim=True)  # [B, 1]
    lower, upper = (count - 1).clamp(min=0) // 2, (count // 2).clamp(max=ordered.shape[1] - 1)
    middle = (ordered.gather(1, lower) + ordered.gather(1, upper))[:, 0] / 2  # [B]
    return torch.where(count[:, 0] > 0, middle, query.estimate)


class PooledDifferenceHead(nn.Module):
    """Compare a query with each of its references, pool the comparisons, and say the difference in levels.

    Any number of references will do, none included (for `fc` at most `config.references`). After the pairwise layers
    of Sandhaus & Keller, "Relative Age Estimation Using Face Images", 2025 (arXiv 2502.04852), with the base's own
    error on every reference as a further input. The levels start from the difference that the base would say, or the
    median age of the references, or something between (`median_share`).
    """

    def __init__(self, config: HeadConfig):
        super().__init__()
        self.config = config
        size, levels = config.hidden_size, 2 * config.level_radius
        self.norm = nn.LayerNorm(config.embedding_size)
        self.of_query = nn.Linear(config.embedding_size + 1, size)
        self.of_reference = nn.Linear(config.embedding_size, size, bias=False)
        self.of_relation = nn.Linear(SCALARS, size)
        self.pair = nn.Sequential(nn.SiLU(), nn.Dropout(config.dropout), nn.Linear(size, size), nn.SiLU())
        if config.aggregation == "fc":
            self.join = nn.Linear(config.references * size, size)
        if config.aggregation == "attention":
            self.score = nn.Linear(size, 1)
        self.out = nn.Sequential(
            nn.Linear(2 * size + 1, size), nn.SiLU(), nn.Dropout(config.dropout), nn.Linear(size, levels)
        )
        for parameter in self.out[-1].parameters():
            nn.init.zeros_(parameter)
        self.sharpness = nn.Parameter(torch.tensor(-0.8))

    def forward(self, query: Query, references: References) -> DifferenceOutput:
        """Correct estimates; see Query, References and DifferenceOutput for shapes and units."""
        references = blank(references)
        own = self.of_query(torch.cat([self.norm(query.embedding), query.estimate[:, None] / YEARS], dim=1))  # [B, H]
        pairs = own[:, None] + self.of_reference(self.norm(references.embedding))  # [B, R, H]
        pairs = self.pair(pairs + self.of_relation(self.relations(query, references)))
        pooled, weight = self.pool(pairs, references.mask)  # [B, H], [B, R]
        anchor = anchor_age(query, references, weight, self.config.level_radius)  # [B]
        start = torch.lerp(query.estimate, median_age(query, references), self.config.median_share)  # [B]
        offset = (start - anchor)[:, None]  # [B, 1] the difference that the levels start from
        levels = self.out(torch.cat([own, pooled, offset / YEARS], dim=1)).float()  # [B, 2·radius]
        levels = levels if self.training else self.config.shrinkage * levels
        sharpness = nn.functional.softplus(self.sharpness)
        levels = levels + logistic_logits(offset[:, 0], sharpness, self.config.level_radius, self.config.ordinal)
        probabilities = level_probabilities(levels, self.config.ordinal)
        difference = soft_difference(probabilities)  # [B]
        return DifferenceOutput(levels, difference, weight, anchor + difference, probabilities)

    def relations(self, query: Query, references: References) -> Tensor:
        """Scalars [B, R, 4] of each pair: age and base estimate beside the query's estimate, residual, seen."""
        estimate = query.estimate[:, None]  # [B, 1]
        residual = torch.where(references.seen, 0.0, references.age - references.estimate)
        scalars = (references.age - estimate, references.estimate - estimate, residual, YEARS * references.seen)
        return torch.stack(scalars, dim=2) / YEARS

    def pool(self, pairs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """One vector [B, H] of pairs [B, R, H], and what each reference counts in it [B, R]."""
        uniform = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)  # [B, R]
        if pairs.shape[1] == 0 and self.config.aggregation != "fc":
            return pairs.new_zeros(len(pairs), pairs.shape[2]), uniform
        if self.config.aggregation == "attention":
            scores = self.score(pairs)[:, :, 0]  # [B, R]
            weight = torch.softmax(scores.masked_fill(~mask, -1e9), dim=1) * mask
            return (weight[:, :, None] * pairs).sum(dim=1), weight
        if self.config.aggregation == "max":
            highest = pairs.masked_fill(~mask[:, :, None], -1e9).amax(dim=1)  # [B, H]
            return torch.where(mask.any(dim=1, keepdim=True), highest, 0.0), uniform
        kept = torch.where(mask[:, :, None], pairs, 0.0)
        if self.config.aggregation == "avg":
            return (uniform[:, :, None] * kept).sum(dim=1), uniform
        return self.join(self._padded(kept).flatten(1)), uniform

    def _padded(self, kept: Tensor) -> Tensor:
        missing = self.config.references - kept.shape[1]
        if missing < 0:
            raise ValueError(f"fc takes {self.config.references} references, not {kept.shape[1]}.")
        return nn.functional.pad(kept, (0, 0, 0, missing))  # [B, references, H]


def blank(references: References) -> References:
    """The same references with zeros wherever the mask is False, so that nothing there can matter (not even NaN)."""
    mask = references.mask
    return References(
        torch.where(mask[:, :, None], references.embedding, 0.0),
        torch.where(mask, references.age, 0.0),
        torch.where(mask, references.estimate, 0.0),
        references.seen & mask,
        mask,
    )


def on_device(part: Part, device: torch.device | str) -> Part:
    """The same arrays or tensors as tensors on a device."""
    return type(part)(*(torch.as_tensor(values).to(device) for values in part))


@torch.inference_mode()
def compute(head: Any, query: Query, references: References, device: torch.device | str) -> DifferenceOutput:
    """What a head predicts of arrays, as arrays."""
    output = head(on_device(query, device), on_device(references, device))
    return type(output)(*(_array(part) for part in output))


def _array(part):
    return part.cpu().numpy() if isinstance(part, Tensor) else part
