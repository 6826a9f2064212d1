"""Queries beside their references: what a training run of DiffPipeline6 looks at."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.difference.bank import Found, ReferenceBank
from common.difference.embedded import EmbeddedFaces
from common.difference.heads import Query, References, on_device
from common.difference.spanning import query_spanning
from DiffPipeline6.DiffPipeline6__config import DiffPipeline6Config

FIND_BATCH = 512


class Batch(NamedTuple):
    """B queries with their references, and the interval of each query's age, [B] years (equal if exact)."""

    query: Query
    references: References
    low: Tensor
    high: Tensor


def find_references(faces: EmbeddedFaces, bank: ReferenceBank, config: DiffPipeline6Config, view: int = 0) -> Found:
    """References of every face as seen in one view, at the base's estimate of that view."""
    parts = []
    for start in range(0, len(faces), FIND_BATCH):
        part = slice(start, start + FIND_BATCH)
        query = faces.embeddings[view, part].astype(np.float32), faces.estimates[view, part]
        excluded = faces.id[part], faces.person[part]
        if config.per_bin:
            parts.append(query_spanning(bank, *query, config.per_bin, *excluded))
        else:
            parts.append(bank.query(*query, config.references, config.reference_window, *excluded))
    return Found(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def make_batch(
    faces: EmbeddedFaces, numbers: np.ndarray, views: np.ndarray, found: Found, bank: ReferenceBank
) -> Batch:
    """The faces with these numbers [B] as queries, each in its view [B]; `found` [B] are their references."""
    query = Query(
        torch.from_numpy(faces.embeddings[views, numbers]).float(), torch.from_numpy(faces.estimates[views, numbers])
    )
    low, high = (torch.from_numpy(bound[numbers]) for bound in (faces.low, faces.high))
    return Batch(query, on_device(bank.take(found), "cpu"), low, high)


def hide_some(found: Found, part: float, random: np.random.Generator) -> Found:
    """The same references with up to `part` of each query's hidden, how many and which at random."""
    share = part * random.random((len(found.mask), 1))  # [B, 1]
    return Found(found.index, found.mask & (random.random(found.mask.shape) >= share))
