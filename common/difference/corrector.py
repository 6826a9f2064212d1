"""From a base estimate and a reference bank to a corrected age: what `--mode full` does in every pipeline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from common.base.regressor import AgePredictBasicPipeline
from common.base.weight_files import settings_for
from common.difference.bank import Found, ReferenceBank
from common.difference.onnx_head import OnnxHead, load_graph_head
from common.difference.parts import DifferenceOutput, HeadConfig, Query, References
from common.difference.spanning import query_spanning
from common.difference.weights import load_head, load_weights

CORRECT_BATCH = 64  # faces corrected together


class Head(Protocol):
    """A difference head: a graph, or a module of torch; `config` is the dataclass it was made from."""

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
    """A base pipeline, a difference head, a bank, and how references are retrieved (`references`, `window` years).

    With `per_bin` so many of every 5-year bin around the estimate instead (see common/difference/spanning.py).
    """

    pipeline: AgePredictBasicPipeline
    head: Head
    bank: ReferenceBank
    references: int
    window: float
    per_bin: int = field(default=0, kw_only=True)

    def find(self, faces: Faces, at_age: np.ndarray | None = None) -> Found:
        """References of each face, never the face itself or its person; `at_age` [N] retrieves at another age."""
        at_age = faces.estimate if at_age is None else at_age
        if self.per_bin:
            return query_spanning(self.bank, faces.embedding, at_age, self.per_bin, faces.id, faces.person)
        return self.bank.query(faces.embedding, at_age, self.references, self.window, faces.id, faces.person)

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
        query = Query(faces.embedding.astype(np.float32), faces.estimate.astype(np.float32))
        references = self.bank.take(found)
        output = self.compute(query, references)
        vote = self.single_votes(query, references) if votes else np.full(found.mask.shape, np.nan)
        return Correction(output.age, found.index, found.mask, output.weight, vote)

    def compute(self, query: Query, references: References) -> DifferenceOutput:
        """What the head predicts, all arrays."""
        if isinstance(self.head, OnnxHead):
            return self.head(query, references)
        from common.difference.heads import compute

        return compute(self.head, query, references, self.pipeline.device)

    def single_votes(self, query: Query, references: References) -> np.ndarray:
        """The age [B, R] (years) the head predicts with each reference alone; NaN where the mask is False."""
        batch, count = references.mask.shape
        if not count:
            return references.age
        alone = References(*(array.reshape(batch * count, 1, *array.shape[2:]) for array in references))
        repeated = Query(np.repeat(query.embedding, count, axis=0), np.repeat(query.estimate, count))
        vote = self.compute(repeated, alone).age.reshape(batch, count)
        return np.where(references.mask, vote, np.nan)


def load_corrector(folder: str | Path, device: str = "auto", threads: int | None = None) -> Corrector:
    """The pooled difference regressor of a folder of weights with its base and bank; raises WeightsError.

    On a CPU it is computed by its graph where there is one, without torch, on so many `threads` (None: see
    AgePredictBasicPipeline).
    """
    loaded = load_weights(folder, "DiffPipeline6", device, threads)
    settings_for(HeadConfig, loaded.settings, loaded.folder)
    head: Any = load_graph_head(loaded.folder, loaded.settings, threads) if loaded.pipeline.device == "cpu" else None
    if head is None:
        from common.difference.heads import PooledDifferenceHead

        head = load_head(loaded, lambda settings: PooledDifferenceHead(HeadConfig(**settings)))
    how = (head.config.references, loaded.window)
    return Corrector(loaded.pipeline, head, loaded.bank, *how, per_bin=loaded.per_bin)
