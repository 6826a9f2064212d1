"""The difference regressor of this pipeline: pairs in both directions, a weight for each; its loss, its weights."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.base.distribution import expectation, gaussian_log_probs, interval_distance, mean_variance_loss
from common.base.weight_files import MODEL_FILE, settings_for
from common.difference.corrector import Correction, Corrector, Faces
from common.difference.heads import Query, References, blank
from common.difference.ordinal import condor_loss, difference_levels, logistic_logits
from common.difference.weights import load_difference
from common.errors import WeightsError
from common.files import WEIGHTS
from Ep3Pipeline.Ep3Pipeline__config import Ep3PipelineConfig, PairHeadConfig

RELEASED = WEIGHTS / "Ep3Pipeline"
RETIRED = {"retrieval": "nearest", "blind": False}  # keys of older heads, and the values that are still known
SETTLED = 0.05  # years; refinement of a face stops when its age moves by less


class PairScores(NamedTuple):
    """What a pair says in one direction: classes [B, R, 2·radius + 1] and levels [B, R, 2·radius] logits, difference
    [B, R] years."""

    classes: Tensor
    levels: Tensor
    difference: Tensor


class PairOutput(NamedTuple):
    """What a head predicts of B queries with R references each; the first four are those of every difference head.

    levels [B, R, 2·radius] logits of query minus reference; difference [B, R] years, 0 where there is no reference;
    weight [B, R], sum 1 or 0; age [B] years, the mean of forward_age and reverse_age [B] years. forward and reverse
    are the scores of (query, reference) and of (reference, query); with one direction alone reverse is None.
    """

    levels: Tensor
    difference: Tensor
    weight: Tensor
    age: Tensor
    forward_age: Tensor
    reverse_age: Tensor
    forward: PairScores
    reverse: PairScores | None


class Loss(NamedTuple):
    """total: scalar to minimise; terms: its parts before their weights; distance [B]: years between age and label."""

    total: Tensor
    terms: dict[str, Tensor]
    distance: Tensor


class AgeTable(nn.Module):
    """A trained vector for every whole year youngest…oldest (both included), read in between by a straight line.

    It starts as waves of 4 to 240 years, so that neighbouring ages start alike.
    """

    def __init__(self, youngest: int, oldest: int, size: int):
        super().__init__()
        self.youngest, self.oldest = youngest, oldest
        years = torch.arange(youngest, oldest + 1, dtype=torch.float32)  # [oldest - youngest + 1]
        length = torch.logspace(math.log10(4), math.log10(240), size // 2)  # years
        phase = 2 * math.pi * years[:, None] / length  # [ages, size / 2]
        self.rows = nn.Parameter(torch.cat([phase.sin(), phase.cos()], dim=1))  # [ages, size]

    def forward(self, age: Tensor) -> Tensor:
        """Vectors [..., size] of ages [...] (years); ages beyond the ends count as the ends."""
        place = age.clamp(self.youngest, self.oldest) - self.youngest  # [...]
        lower = place.floor().long().clamp(max=self.oldest - self.youngest - 1)
        part = (place - lower)[..., None]  # [..., 1] of the year passed
        return (1 - part) * self.rows[lower] + part * self.rows[lower + 1]


class PairDifferenceHead(nn.Module):
    """Compare a query with each reference in both directions; every reference says an age, a weight decides.

    After Sandhaus & Keller, "Relative Age Estimation Using Face Images", 2025 (arXiv 2502.04852). Any number of
    references will do; without any the age is the estimate. The difference of a pair is bounded around the one that
    the estimate says, (estimate - age of the reference), from which an untrained head does not move.
    """

    def __init__(self, config: PairHeadConfig):
        super().__init__()
        self.config = config
        size, levels = config.hidden_size, 2 * config.level_radius
        face = size + config.age_size
        self.norm = nn.LayerNorm(config.embedding_size)
        self.project = nn.Linear(config.embedding_size, size)
        self.ages = AgeTable(config.youngest, config.oldest, config.age_size)
        self.of_first = nn.Linear(face, size)
        self.of_second = nn.Linear(face, size, bias=False)
        self.pair = nn.Sequential(
            nn.SiLU(), nn.Dropout(config.dropout), nn.Linear(size, size), nn.SiLU(), nn.Dropout(config.dropout)
        )
        self.classes, self.levels, self.regressors = (nn.Linear(size, n) for n in (levels + 1, levels, levels + 1))
        for layer in (self.classes, self.levels, self.regressors):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.score = nn.Linear(size, 1)
        self.sharpness = nn.Parameter(torch.tensor(-0.8))
        years = torch.arange(-config.level_radius, config.level_radius + 1, dtype=torch.float32)
        self.register_buffer("years", years, persistent=False)  # [2·radius + 1] difference that a class stands for

    def forward(self, query: Query, references: References) -> PairOutput:
        """Correct estimates; see Query, References and PairOutput for shapes and units."""
        references = blank(references)
        own = self.face(query.embedding, query.estimate)[:, None]  # [B, 1, H + A]
        others = self.face(references.embedding, references.age)  # [B, R, H + A]
        start = query.estimate[:, None] - references.age  # [B, R] the difference the estimate says
        forward, trunk = self.compare(own, others, start)
        ahead = behind = forward.difference  # [B, R] query minus reference, in each direction
        reverse = None
        if self.config.directions != "forward":
            reverse, other_trunk = self.compare(others, own, -start)
            behind, trunk = -reverse.difference, (trunk + other_trunk) / 2
        both = (ahead + behind) / 2
        if self.config.directions == "antisymmetric":
            ahead = behind = both
        weight = self.weigh(trunk, references.mask)
        ages = [query.estimate + (weight * (said - start)).sum(dim=1) for said in (ahead, behind)]  # [B] each
        difference = torch.where(references.mask, both, 0.0)
        return PairOutput(forward.levels, difference, weight, (ages[0] + ages[1]) / 2, *ages, forward, reverse)

    def face(self, embedding: Tensor, age: Tensor) -> Tensor:
        """A face [..., H + A] from its embedding [..., E] and its age or estimate [...] (years)."""
        return torch.cat([self.project(self.norm(embedding)), self.ages(age)], dim=-1)

    def compare(self, first: Tensor, second: Tensor, start: Tensor) -> tuple[PairScores, Tensor]:
        """Scores of f(first, second), and the features [B, R, H] of the pairs; `start` [B, R] years as in forward.

        The classes start as a bell around `start`. The difference is `start`, plus by how much the classes' mean has
        moved from there, plus what the classes' regressors add (up to a year).
        """
        trunk = self.pair(self.of_first(first) + self.of_second(second))  # [B, R, H]
        radius, shape = self.config.level_radius, start.shape
        center = start.clamp(-radius, radius).reshape(-1)  # [B·R]
        sharpness = F.softplus(self.sharpness)
        bell = gaussian_log_probs(center, self.years, math.pi / (math.sqrt(3) * sharpness))  # [B·R, 2·radius + 1]
        share = 1.0 if self.training else self.config.shrinkage
        classes = bell.unflatten(0, shape) + share * self.classes(trunk)
        probabilities = torch.softmax(classes, dim=2)
        moved = (probabilities * self.years).sum(dim=2) - expectation(bell, self.years).view(shape)  # [B, R]
        within = (probabilities * torch.tanh(share * self.regressors(trunk))).sum(dim=2)  # [B, R]
        levels = logistic_logits(center, sharpness, radius, "condor").unflatten(0, shape) + share * self.levels(trunk)
        return PairScores(classes, levels, start + moved + within), trunk

    def weigh(self, trunk: Tensor, mask: Tensor) -> Tensor:
        """Weights [B, R] of pairs [B, R, H]: a softmax over the references there are."""
        if self.config.weighting == "uniform":
            return mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
        scores = self.score(trunk)[:, :, 0]  # [B, R]
        return torch.softmax(scores.masked_fill(~mask, -1e9), dim=1) * mask


def build_model(config: Ep3PipelineConfig, kind: type[PairDifferenceHead] = PairDifferenceHead) -> PairDifferenceHead:
    """A fresh head; its initial weights depend on the seed alone."""
    torch.manual_seed(config.seed)
    names = [field.name for field in fields(PairHeadConfig)]
    return kind(PairHeadConfig(**{name: getattr(config, name) for name in names}))


def pair_terms(scores: PairScores, truth: Tensor, radius: int, years: Tensor) -> dict[str, Tensor]:
    """Losses of P pairs in one direction, each a mean over them: CONDOR, classes, mean and variance of the classes.

    The entries of `scores` are [P, …]; truth [P] years; years [2·radius + 1] of the classes.
    """
    bounded = truth.clamp(-radius, radius)
    label = (bounded.round() + radius).long()  # [P]
    log_probs = torch.log_softmax(scores.classes, dim=1)
    mean, variance = mean_variance_loss(log_probs, bounded, years)
    condor = condor_loss(scores.levels, difference_levels(truth, radius))
    each = {"condor": condor, "class": F.nll_loss(log_probs, label, reduction="none"), "mean": mean}
    return {name: _mean(values) for name, values in (each | {"variance": variance}).items()}


def compute_loss(
    output: PairOutput, references: References, low: Tensor, high: Tensor, config: Ep3PipelineConfig
) -> Loss:
    """Loss of a batch that may mix exact (low = high) and interval labels, [B] years each.

    Every label: the squared distance of both ages to it. Exact labels: the losses of their differences from the
    references too. Each term is a mean, over both directions where there are two.
    """
    radius = config.level_radius
    years = torch.arange(-radius, radius + 1, dtype=torch.float32, device=low.device)
    taken = references.mask & (low == high)[:, None]  # [B, R]
    truth = (low[:, None] - references.age)[taken]  # [P]
    ages = [interval_distance(age, low, high) ** 2 for age in (output.forward_age, output.reverse_age)]
    directions = [(output.forward, truth)]
    if output.reverse is not None:
        directions.append((output.reverse, -truth))
    parts = []
    for scores, wanted in directions:
        chosen = PairScores(*(values[taken] for values in scores))
        squares = _mean((chosen.difference - wanted) ** 2)
        parts.append({"difference": squares} | pair_terms(chosen, wanted, radius, years))
    if config.directions == "antisymmetric":
        squares = _mean((output.difference[taken] - truth) ** 2)
        parts = [part | {"difference": squares} for part in parts]
    terms = {"age": torch.cat(ages).mean()}
    terms |= {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
    total = sum(getattr(config, f"{name}_weight") * value for name, value in terms.items())
    distance = interval_distance(output.age, low, high)
    return Loss(total, {name: value.detach() for name, value in terms.items()}, distance.detach())


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(len(values), 1)


@dataclass(frozen=True)
class IteratedCorrector(Corrector):
    """A Corrector that feeds its ages back as the next estimates, with new references, up to `iterations` times.

    A face whose age moved by less than SETTLED years keeps its estimate from then on.
    """

    iterations: int = 1

    def correct(self, faces: Faces, at_age: np.ndarray | None = None, votes: bool = True) -> Correction:
        """Corrected ages of faces; references, weights and votes are those of the last iteration."""
        for _ in range(self.iterations - 1):
            age = super().correct(faces, at_age, votes=False).age
            moving = np.abs(age - faces.estimate) >= SETTLED  # [N]
            if not moving.any():
                break
            faces = faces._replace(estimate=np.where(moving, age, faces.estimate))
        return super().correct(faces, at_age, votes)


def head_of(settings: dict[str, Any], folder: str | Path) -> PairDifferenceHead:
    """A fresh head from the stored settings of a folder of weights; older ones may also say that it is no control."""
    known = {key: value for key, value in settings.items() if RETIRED.get(key, ...) != value}
    return PairDifferenceHead(PairHeadConfig(**settings_for(PairHeadConfig, known, folder)))


def load_model(folder: str | Path = RELEASED, device: str = "auto", iterations: int = 1) -> IteratedCorrector:
    """The released difference regressor (or any folder's) with base and bank; raises WeightsError."""
    if Path(folder) == RELEASED and RELEASED.parent.is_dir() and not (RELEASED / MODEL_FILE).is_file():
        raise WeightsError(
            "Ep3Pipeline is released without weights; train some with python Ep3Pipeline/Ep3Pipeline__main.py "
            "--data PREPARED_DIR, and name the folder weights/ of that run with --weights."
        )
    loaded = load_difference(folder, "Ep3Pipeline", lambda settings: head_of(settings, folder), device)
    references = loaded.head.config.references
    return IteratedCorrector(loaded.pipeline, loaded.head, loaded.bank, references, loaded.window, iterations)
