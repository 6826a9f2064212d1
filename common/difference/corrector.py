"""From a base estimate and a reference bank to a corrected age: what `--mode full` does in every pipeline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from common.base.regressor import AgePredictBasicPipeline
from common.difference.bank import Found, ReferenceBank
from common.difference.heads import (
    DifferenceOutput,
    HeadConfig,
    PooledDifferenceHead,
    Query,
    References,
    on_device,
)  # fmt: skip
from common.difference.weights import load_difference

CORRECT_BATCH = 64  # faces corrected together


class Head(Protocol):
    """A difference head; `config` is the dataclass it was made from."""

    config: Any

    def __call__(self, query: Query, references: References, /) -> DifferenceOutput: ...


class Faces(NamedTuple):
    """Faces to correct: embedding [N, E] float32, estimate [N] float32 years, id [N] str, person [N] str."""

    embedding: np.ndarray
    estimate: np.ndarray
    id: np.ndarray
    person: np.ndarray


class Correction(NamedTuple):
    """What became of N faces.

    age [N] float32 years; index [N, K] rows of the bank and mask [N, K] bool as in Found; weight [N, K]; vote [N, K]
    years: the corrected age if this reference were the only one (NaN where there is none); further [N] each: columns
    of a pipeline's own in the table of its ages.
    """

    age: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # tuple has a method of this name
    mask: np.ndarray
    weight: np.ndarray
    vote: np.ndarray
    further: Mapping[str, np.ndarray] = {}


def joined(parts: Sequence[Correction]) -> Correction:
    """Corrections of several blocks of faces as one."""
    columns = zip(*(part[:5] for part in parts), strict=True)
    age, index, mask, weight, vote = (np.concatenate(list(arrays)) for arrays in columns)
    further = {name: np.concatenate([part.further[name] for part in parts]) for name in parts[0].further}
    return Correction(age, index, mask, weight, vote, further)


class CorrectsAges(Protocol):
    """What a pipeline hands in as its difference regressor."""

    def correct(self, faces: Faces, at_age: np.ndarray | None = None, votes: bool = True) -> Correction: ...


@dataclass(frozen=True)
class Corrector:
    """A base pipeline, a difference head, a bank, and how references are retrieved (`references`, `window` years)."""

    pipeline: AgePredictBasicPipeline
    head: Head
    bank: ReferenceBank
    references: int
    window: float

    def find(self, faces: Faces, at_age: np.ndarray | None = None) -> Found:
        """References of each face, never the face itself or its person; `at_age` [N] retrieves at another age."""
        at_age = faces.estimate if at_age is None else at_age
        return self.bank.query(faces.embedding, at_age, self.references, self.window, faces.id, faces.person)

    @torch.inference_mode()
    def correct(self, faces: Faces, at_age: np.ndarray | None = None, votes: bool = True) -> Correction:
        """Corrected ages of faces, in batches.

        `at_age` [N] (years) is where references are looked for instead of at the estimate (the oracle's true age);
        `votes=False` skips the votes of single references (NaN).
        """
        return joined([self._correct(*part, votes) for part in self._batches(faces, at_age)])

    def _batches(self, faces: Faces, at_age: np.ndarray | None) -> Iterator[tuple[Faces, np.ndarray | None]]:
        for start in range(0, len(faces.estimate), CORRECT_BATCH):
            part = slice(start, start + CORRECT_BATCH)
            yield Faces(*(array[part] for array in faces)), None if at_age is None else at_age[part]

    def _correct(self, faces: Faces, at_age: np.ndarray | None, votes: bool) -> Correction:
        found = self.find(faces, at_age)
        device = self.pipeline.device
        query = on_device(Query(*(torch.from_numpy(array).float() for array in faces[:2])), device)
        references = on_device(self.bank.take(found), device)
        output = self.head(query, references)
        vote = single_votes(self.head, query, references) if votes else torch.full(found.mask.shape, torch.nan)
        return Correction(
            output.age.cpu().numpy(), found.index, found.mask, output.weight.cpu().numpy(), vote.cpu().numpy()
        )


def load_corrector(folder: str | Path, device: str = "auto") -> Corrector:
    """The pooled difference regressor of a folder of weights with its base and bank; raises WeightsError."""
    loaded = load_difference(
        folder, "DiffPipeline6", lambda settings: PooledDifferenceHead(HeadConfig(**settings)), device
    )
    head: Any = loaded.head
    return Corrector(loaded.pipeline, head, loaded.bank, head.config.references, loaded.window)


def single_votes(head: Head, query: Query, references: References) -> torch.Tensor:
    """The age [B, R] (years) a head says with each reference alone; NaN where the mask is False."""
    batch, count = references.mask.shape
    if not count:
        return references.age
    alone = References(*(tensor.reshape(batch * count, 1, *tensor.shape[2:]) for tensor in references))
    repeated = Query(query.embedding.repeat_interleave(count, 0), query.estimate.repeat_interleave(count, 0))
    vote = head(repeated, alone).age.view(batch, count)
    return torch.where(references.mask, vote, torch.nan)
