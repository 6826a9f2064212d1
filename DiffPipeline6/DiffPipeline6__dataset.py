"""Queries, their references and the bank: what a training run of DiffPipeline6 looks at."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.checkpoints import CONFIG_FILE, REPOSITORY
from common.difference_heads import Query, References
from common.embedded import EmbeddedFaces, Views, bank_of, embed_split
from common.errors import DataError
from common.manifest import load_prepared
from common.pipeline import AgePredictBasicPipeline
from common.reference_bank import Found, ReferenceBank
from DiffPipeline6.DiffPipeline6__config import DiffPipeline6Config


class Batch(NamedTuple):
    """B queries with their references, and the interval of each query's age, [B] years (equal if exact)."""

    query: Query
    references: References
    low: Tensor
    high: Tensor


class Origin(NamedTuple):
    """Where faces come from: number of the prepared set [N], row in it [N]."""

    owner: np.ndarray
    row: np.ndarray


class EmbeddedData:
    """The faces of one split over several prepared sets as one, embedded by a base regressor.

    Raises DataError if no labelled face is left.
    """

    def __init__(self, parts: Sequence[EmbeddedFaces]):
        names = {field.name: 1 if field.name in ("embeddings", "estimates") else 0 for field in fields(EmbeddedFaces)}
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts], axis=axis) for name, axis in names.items()
        }
        self.faces = EmbeddedFaces(**joined)
        self.origin = Origin(np.repeat(np.arange(len(parts)), [len(part) for part in parts]), self.faces.row)
        if not len(self.faces):
            raise DataError("There is no labelled face to ask about; check --data and its splits.")

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def exact(self) -> np.ndarray:
        """Mask [N] bool of faces whose age is known exactly."""
        return self.faces.low == self.faces.high

    def find(self, bank: ReferenceBank, config: DiffPipeline6Config, view: int = 0) -> Found:
        """References of every face as seen in one view, at the base's estimate of that view."""
        faces, parts = self.faces, []
        for start in range(0, len(faces), 512):
            part = slice(start, start + 512)
            parts.append(
                bank.query(
                    faces.embeddings[view, part].astype(np.float32), faces.estimates[view, part],
                    config.references, config.reference_window, faces.id[part], faces.person[part],
                )
            )  # fmt: skip
        return Found(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def batch(self, numbers: np.ndarray, views: np.ndarray, found: Found, bank: ReferenceBank) -> Batch:
        """The queries with these numbers [B], each in its view [B]; `found` [B] are their references."""
        query = Query(
            torch.from_numpy(self.faces.embeddings[views, numbers]).float(),
            torch.from_numpy(self.faces.estimates[views, numbers]),
        )
        low, high = (torch.from_numpy(bound[numbers]) for bound in (self.faces.low, self.faces.high))
        return Batch(query, bank.take(found), low, high)


def embed_data(
    config: DiffPipeline6Config, folders: Sequence[str], split: str, views: int, pipeline: AgePredictBasicPipeline
) -> EmbeddedData:
    """All labelled faces of a split in 1 + `views` views, computed once and kept in <runs>/embeddings."""
    how = Views(str(embedding_cache(config)), views, config.view_strength)
    return EmbeddedData([embed_split(pipeline, folder, split, how, config.limit) for folder in folders])


def embedding_cache(config: DiffPipeline6Config) -> Path:
    """Folder of the embeddings that runs share."""
    return (Path(config.runs) if config.runs else REPOSITORY / "runs") / "embeddings"


def build_bank(
    config: DiffPipeline6Config, folders: Sequence[str], pipeline: AgePredictBasicPipeline, weights: Path
) -> tuple[ReferenceBank, Origin]:
    """The training bank and where its faces lie; raises DataError if no reference has an exact age."""
    how = Views(str(embedding_cache(config)))
    trained_on = json.loads((weights / CONFIG_FILE).read_text()).get("data")
    parts, owners, rows = [], [], []
    for split in config.bank.split("+"):
        for number, folder in enumerate(folders):
            if not load_prepared(folder).manifest["age"].notna().any():
                continue  # ages known to an interval only: nothing to refer to
            faces = embed_split(pipeline, folder, split, how, config.limit)
            seen = split == "base" and (trained_on is None or Path(folder).resolve().name in trained_on)
            parts.append((faces, seen))
            exact = faces.low == faces.high
            owners.append(np.full(exact.sum(), number))
            rows.append(faces.row[exact])
    if not sum(map(len, rows)):
        raise DataError("No reference has an exact age; give --data with at least one set of exact ages.")
    return bank_of(parts, pipeline.fingerprint), Origin(np.concatenate(owners), np.concatenate(rows))


def hide_some(found: Found, part: float, random: np.random.Generator) -> Found:
    """The same references with up to `part` of each query's hidden, how many and which at random."""
    share = part * random.random((len(found.mask), 1))  # [B, 1]
    return Found(found.index, found.mask & (random.random(found.mask.shape) >= share))


def permute_references(found: Found, faces: EmbeddedFaces, bank: ReferenceBank, seed: int) -> Found:
    """Control (b): each face gets the references of another one with the same rounded estimate, never itself."""
    random = np.random.default_rng(seed)
    estimate = np.round(faces.estimates[0])
    source = np.arange(len(faces))
    for value in np.unique(estimate):
        rows = random.permutation(np.flatnonzero(estimate == value))
        source[rows] = np.roll(rows, 1)
    index, mask = found.index[source], found.mask[source]
    own = bank.id[index] == faces.id[:, None]  # [N, K]
    own |= (bank.person[index] == faces.person[:, None]) & (faces.person[:, None] != "")
    return Found(index, mask & ~own)


def epoch_numbers(count: int, config: DiffPipeline6Config, epoch: int) -> Iterator[tuple[int, np.ndarray]]:
    """Step and query numbers of every step of an epoch; they depend on nothing but seed and epoch."""
    order = np.random.default_rng([config.seed, epoch]).permutation(count)
    steps = max(1, count // config.batch_size)
    for step in range(steps):
        yield step, order[step * config.batch_size : (step + 1) * config.batch_size]


def load_crops(crops: Sequence[np.ndarray], origin: Origin, numbers: np.ndarray) -> np.ndarray:
    """Crops [B, S, S, 3] uint8 of the faces with these numbers [B]; `crops` are those of each prepared set."""
    return np.stack([crops[origin.owner[number]][origin.row[number]] for number in numbers])
