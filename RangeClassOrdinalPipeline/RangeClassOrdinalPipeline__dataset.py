"""What the classifier is given of a face, or of a pair of faces, and which class is true."""

from typing import NamedTuple

import numpy as np
import torch

from common.base.model import BAR
from common.base.prediction import spread
from common.difference.bank import ReferenceBank
from common.difference.corrector import Correction, Corrector, Faces
from common.difference.embedded import EmbeddedFaces
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__config import RangeClassConfig, RangeHeadConfig

ERROR_NUMBERS = (
    "estimate", "correction", "votes apart", "nearest", "similarity", "residual", "residuals apart", "found",
)  # fmt: skip
PAIR_NUMBERS = ("estimate", "apart", "estimates apart", "similarity", "residual")


class Samples(NamedTuple):
    """M samples for the classifier.

    looks [M, 1 or 2, E] float32: embedding of the query (and of its reference); numbers [M, S] float32: see
    `error_samples` and `pair_samples`; value [M] float32 years that the class is of; face [M] int64: which query.
    """

    looks: np.ndarray
    numbers: np.ndarray
    value: np.ndarray
    face: np.ndarray


def range_class(value: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """Class [M] int64 of values [M] (years, not negative): the number of edges below it; an edge belongs to its class.

    Examples
    --------
    >>> range_class(np.array([0.0, 2.0, 2.1, 4.0, 10.5]), (2.0, 4.0, 10.0))
    array([0, 0, 1, 1, 3])
    """
    return np.searchsorted(np.array(edges), value, side="left")


def numbers_wanted(config: RangeHeadConfig) -> int:
    """How many numbers per sample (S) a head of this config takes."""
    return 1 + len(config.edges) + len(ERROR_NUMBERS if config.target == "error" else PAIR_NUMBERS)


@torch.inference_mode()
def base_uncertainty(model: BAR, embedding: np.ndarray, estimate: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """What the base's distribution says of its error, [N, 1 + L]: log of its spread, P(|age - estimate| <= edge).

    The distribution is read again from the embedding [N, E] by the base's own head; estimate [N] in years.
    """
    device = next(model.parameters()).device
    log_probs = model.read(torch.from_numpy(embedding).to(device)).log_probs.cpu().numpy()  # [N, n_ages]
    ages, probabilities = model.ages.cpu().numpy(), np.exp(log_probs)
    apart = np.abs(ages[None, :] - estimate[:, None])  # [N, n_ages]
    within = [(probabilities * (apart <= edge)).sum(axis=1) for edge in edges]
    return np.stack([np.log(spread(log_probs, ages) + 0.5), *within], axis=1).astype(np.float32)


def _mean(values: np.ndarray, taken: np.ndarray) -> np.ndarray:
    return np.where(taken, values, 0.0).sum(axis=1) / np.maximum(taken.sum(axis=1), 1)


def _deviation(values: np.ndarray, taken: np.ndarray) -> np.ndarray:
    return np.sqrt(_mean((values - _mean(values, taken)[:, None]) ** 2, taken))


def error_numbers(corrector: Corrector, faces: Faces, correction: Correction, config: RangeHeadConfig) -> np.ndarray:
    """Numbers [N, S] float32 of faces: the base's doubt, the estimate, and ERROR_NUMBERS of their references.

    Those are: estimate, correction proposed, standard deviation of the single votes, similarity of the nearest and
    mean similarity, mean and standard deviation of the residuals of unseen references, and the share found. No true
    age of a query enters.
    """
    bank, mask = corrector.bank, correction.mask
    index = np.where(mask, correction.index, 0)  # [N, K]
    unit = faces.embedding / np.maximum(np.linalg.norm(faces.embedding, axis=1, keepdims=True), 1e-6)
    similarity = np.stack([bank.unit[rows] @ one for rows, one in zip(index, unit, strict=True)])  # [N, K]
    residual, unseen = bank.ages[index] - bank.estimates[index], mask & ~bank.seen[index]
    parts = (
        faces.estimate / 20, correction.age - faces.estimate, _deviation(np.nan_to_num(correction.vote), mask),
        np.where(mask, similarity, 0.0).max(axis=1, initial=0.0), _mean(similarity, mask),
        _mean(residual, unseen), _deviation(residual, unseen), mask.mean(axis=1),
    )  # fmt: skip
    doubt = base_uncertainty(corrector.pipeline.model, faces.embedding, faces.estimate, config.edges)
    return np.concatenate([doubt, np.stack(parts, axis=1)], axis=1).astype(np.float32)


def faces_of(data: EmbeddedFaces, view: int = 0) -> Faces:
    """Embedded faces in one view as the corrector takes them."""
    return Faces(data.embeddings[view].astype(np.float32), data.estimates[view], data.id, data.person)


def error_samples(
    corrector: Corrector, data: EmbeddedFaces, config: RangeHeadConfig, views: int = 1
) -> tuple[Samples, Correction]:
    """Every face in `views` views with |age - estimate| in that view; and the correction of the last view."""
    parts = []
    for view in range(views):
        faces = faces_of(data, view)
        correction = corrector.correct(faces)
        numbers = error_numbers(corrector, faces, correction, config)
        value = np.abs(data.low - faces.estimate)
        parts.append(Samples(faces.embedding[:, None], numbers, value, np.arange(len(data))))
    return Samples(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))), correction


def draw_pairs(data: EmbeddedFaces, bank: ReferenceBank, config: RangeClassConfig, turn: int) -> np.ndarray:
    """Pairs [P, 2] int64 (face, row of the bank): references drawn within `pair_window` years of each estimate.

    Neither the face itself nor its person is drawn, and no reference twice for a face. Seed and turn decide.
    """
    random = np.random.default_rng([config.seed, turn])
    order = np.argsort(bank.ages, kind="stable")
    ages, estimate = bank.ages[order], data.estimates[0]
    first = np.searchsorted(ages, estimate - config.pair_window, "left")  # [N]
    last = np.searchsorted(ages, estimate + config.pair_window, "right")
    drawn = first[:, None] + (random.random((len(data), config.pairs)) * (last - first)[:, None]).astype(int)
    rows = order[drawn.clip(max=len(order) - 1)].reshape(-1)  # [N·pairs]
    pairs = np.stack([np.repeat(np.arange(len(data)), config.pairs), rows], axis=1)
    pairs = np.unique(pairs[np.repeat(last > first, config.pairs)], axis=0)
    face, row = pairs[:, 0], pairs[:, 1]
    same = (bank.id[row] == data.id[face]) | ((bank.person[row] == data.person[face]) & (data.person[face] != ""))
    return pairs[~same]


def pair_samples(
    model: BAR, data: EmbeddedFaces, bank: ReferenceBank, pairs: np.ndarray, config: RangeHeadConfig
) -> Samples:
    """Samples of pairs [P, 2] (face, row of the bank) with |age - age of the reference|.

    Numbers: the base's doubt about the query, and PAIR_NUMBERS: its estimate, the estimate minus the age of the
    reference, the distance of the two estimates, the similarity, and the residual of the reference (0 if seen).
    """
    face, row = pairs[:, 0], pairs[:, 1]
    query, reference = data.embeddings[0][face].astype(np.float32), bank.embeddings[row].astype(np.float32)  # [P, E]
    estimate, age = data.estimates[0][face], bank.ages[row]
    length = np.maximum(np.linalg.norm(query, axis=1), 1e-6)
    parts = (
        estimate / 20, estimate - age, np.abs(estimate - bank.estimates[row]),
        (query * bank.unit[row]).sum(axis=1) / length, np.where(bank.seen[row], 0.0, age - bank.estimates[row]),
    )  # fmt: skip
    numbers = np.concatenate([base_uncertainty(model, query, estimate, config.edges), np.stack(parts, axis=1)], axis=1)
    value = np.abs(data.low[face] - age)
    return Samples(np.stack([query, reference], axis=1), numbers.astype(np.float32), value, face)
