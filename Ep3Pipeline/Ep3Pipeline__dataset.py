"""Queries with estimates that are wrong as the base is wrong, and their references: what Ep3Pipeline trains on."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.neighbors import KernelDensity
from torch import Tensor

from common.base.model import BAR
from common.difference.bank import EMPTY, Found, ReferenceBank
from common.difference.embedded import EmbeddedFaces
from common.difference.heads import Query, References, on_device
from common.errors import DataError
from common.figures import BLUE, ORANGE, new_figure, save_figure
from common.training.differences import look_live
from Ep3Pipeline.Ep3Pipeline__config import Ep3PipelineConfig


class Batch(NamedTuple):
    """B queries with their references, and the interval of each query's age, [B] years (equal if exact).

    base_age [B] years: what a base in training says of them (stage 2; None where the base is not trained).
    """

    query: Query
    references: References
    low: Tensor
    high: Tensor
    base_age: Tensor | None = None


class Drawn(NamedTuple):
    """What is drawn for B queries: estimate [B] float32 years, found: references about it, low, high [B] years."""

    estimate: np.ndarray
    found: Found
    low: Tensor
    high: Tensor


class ErrorSampler:
    """Draws errors (age - estimate, years) that are distributed like those of the base.

    `kde` is a Gaussian kernel density with Silverman's bandwidth, `gaussian` and `uniform` have the mean and the
    standard deviation of the errors. All are saturated to ±`largest` years. `errors` is [N], at least two.
    """

    def __init__(self, errors: np.ndarray, kind: str, largest: float):
        self.kind, self.largest = kind, largest
        self.mean, self.deviation = float(errors.mean()), max(float(errors.std()), 1e-6)
        # scikit-learn's Silverman bandwidth is meant for unit variance
        scaled = (errors[:, None] - self.mean) / self.deviation  # [N, 1]
        self.density = KernelDensity(bandwidth="silverman").fit(scaled) if kind == "kde" else None

    def draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Errors [count] float32 (years)."""
        if self.density is not None:
            scaled = self.density.sample(count, random_state=int(random.integers(2**31)))[:, 0]
        elif self.kind == "gaussian":
            scaled = random.normal(size=count)
        else:
            scaled = random.uniform(-np.sqrt(3), np.sqrt(3), count)
        return np.clip(self.mean + self.deviation * scaled, -self.largest, self.largest).astype(np.float32)


def base_errors(queries: EmbeddedFaces) -> np.ndarray:
    """Errors (age - estimate, years) of the base on the exactly labelled ones among queries."""
    return (queries.low - queries.estimates[0])[queries.exact]


def fit_errors(errors: np.ndarray, config: Ep3PipelineConfig) -> ErrorSampler | None:
    """Sampler of errors [N] (years) like these; None if estimates are the base's own.

    Raises DataError for fewer than two errors.
    """
    if config.estimate_errors == "none":
        return None
    if len(errors) < 2:
        raise DataError("Errors of the base need two queries of exact age; use --estimate-errors none.")
    return ErrorSampler(errors, config.estimate_errors, config.largest_error)


@dataclass
class Data:
    """What a run looks at: queries and bank, the faces and crops behind them (stage 2), how estimates are wrong.

    errors is None if the estimates of queries are the base's own.
    """

    queries: EmbeddedFaces
    validation: EmbeddedFaces
    bank: ReferenceBank
    bank_faces: EmbeddedFaces
    crops: list[np.ndarray]
    errors: ErrorSampler | None


def draw_errors(errors: np.ndarray, sampler: ErrorSampler, path: Path) -> None:
    """Draw the errors of estimates [N] (years) beside those that the sampler draws."""
    figure, (axis,) = new_figure(6, 3.4)
    edges = np.arange(-sampler.largest, sampler.largest + 1)
    saturated = np.clip(errors, -sampler.largest, sampler.largest)
    axis.hist(saturated, edges, density=True, color=BLUE, label=f"errors of estimates ({len(errors)})")
    drawn = sampler.draw(100_000, np.random.default_rng(0))
    axis.hist(drawn, edges, density=True, histtype="step", color=ORANGE, label=f"drawn in training ({sampler.kind})")
    axis.set(xlabel="true age - estimate (years)", ylabel="density")
    axis.legend(frameon=False)
    save_figure(figure, path)


def draw_some(found: Found, count: int, random: np.random.Generator) -> Found:
    """Of each query's references `count` drawn at random without repetition, the nearest first."""
    order = np.where(found.mask, random.random(found.mask.shape), 2.0)  # [B, P] missing ones come last
    place = np.sort(np.argsort(order, axis=1)[:, :count], axis=1)  # [B, count]
    mask = np.take_along_axis(found.mask, place, 1)
    return Found(np.where(mask, np.take_along_axis(found.index, place, 1), EMPTY), mask)


def training_estimates(
    queries: EmbeddedFaces,
    numbers: np.ndarray,
    views: np.ndarray,
    sampler: ErrorSampler | None,
    random: np.random.Generator,
) -> np.ndarray:
    """Estimates [B] float32 (years) to train with: age - drawn error where the age is exact, else the base's own."""
    own = queries.estimates[views, numbers]
    if sampler is None:
        return own
    noisy = queries.low[numbers] - sampler.draw(len(numbers), random)
    return np.where(queries.exact[numbers], noisy, own).astype(np.float32)


def draw(
    data: Data, numbers: np.ndarray, views: np.ndarray, config: Ep3PipelineConfig, random: np.random.Generator
) -> Drawn:
    """For the queries with these numbers [B], each in its view [B]: an estimate, references of about that age."""
    queries = data.queries
    estimate = training_estimates(queries, numbers, views, data.errors, random)
    estimate = np.clip(estimate, config.youngest, config.oldest)
    embedding = queries.embeddings[views, numbers].astype(np.float32)  # [B, E]
    near = data.bank.query(
        embedding, estimate, config.pool * config.references, config.reference_window,
        queries.id[numbers], queries.person[numbers],
    )  # fmt: skip
    low, high = (torch.from_numpy(bound[numbers]) for bound in (queries.low, queries.high))
    return Drawn(estimate, draw_some(near, config.references, random), low, high)


def cached_batch(data: Data, numbers: np.ndarray, config: Ep3PipelineConfig, random: np.random.Generator) -> Batch:
    """A batch of cached embeddings: of the queries with these numbers [B] one view each."""
    views = random.integers(0, data.queries.embeddings.shape[0], len(numbers))  # [B]
    drawn = draw(data, numbers, views, config, random)
    embedding = torch.from_numpy(data.queries.embeddings[views, numbers]).float()  # [B, E]
    query = Query(embedding, torch.from_numpy(drawn.estimate))
    return Batch(query, on_device(data.bank.take(drawn.found), "cpu"), drawn.low, drawn.high)


def live_batch(
    data: Data, numbers: np.ndarray, base: BAR, config: Ep3PipelineConfig, random: np.random.Generator
) -> Batch:
    """The same with queries and references looked at by a base in training, from augmented crops.

    Estimates are drawn as ever for exact labels, with the errors that the base made before it was trained on these
    faces; where none are drawn the estimate is what the base predicts now.
    """
    drawn = draw(data, numbers, np.zeros_like(numbers), config, random)
    query, references = look_live(data, numbers, drawn.found, base, config.view_strength, random)
    own, estimate = query.estimate, query.estimate
    if data.errors is not None:
        exact = (drawn.low == drawn.high).to(own.device)  # [B]
        estimate = torch.where(exact, torch.from_numpy(drawn.estimate).to(own.device), own)
    return Batch(Query(query.embedding, estimate), references, drawn.low, drawn.high, own)
