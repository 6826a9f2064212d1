"""Nearest neighbours among faces of about an age: the search inside a reference bank."""

import numpy as np
import torch
from torch import Tensor

BLOCK = 16384  # references compared at once


class AgeIndex:
    """N embeddings [N, E] float16 in order of their ages [N] (years), searched block by block.

    A query is compared with the blocks that its ages reach and no others, by one matrix product each. The answer is
    exact: products of bytes or half floats are faster, but embeddings of a base are so alike (cosines above 0.98) that
    they find other neighbours.
    """

    def __init__(self, embeddings: np.ndarray, ages: np.ndarray):
        self.rows = np.argsort(ages, kind="stable")  # [N] row of the bank at each place
        self.ages = ages[self.rows].astype(float)  # [N] ascending
        self.places = np.empty_like(self.rows)  # [N] place of each row of the bank
        self.places[self.rows] = np.arange(len(self.rows))
        self.unit = torch.empty(embeddings.shape)  # [N, E] float32 in order of age, of length 1
        for start in range(0, len(ages), BLOCK):
            part = torch.from_numpy(embeddings[self.rows[start : start + BLOCK]]).float()
            self.unit[start : start + BLOCK] = part / part.norm(dim=1, keepdim=True).clamp(min=1e-6)

    def nearest(
        self, unit: np.ndarray, estimate: np.ndarray, k: int, window: float, excluded: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cosine similarity [B, k] float32 (-inf where there are fewer) and rows [B, k] int64 of the k most similar.

        `unit` [B, E] float32 are queries of length 1; a reference counts if its age is within `window` years of
        `estimate` [B] and its row is not among `excluded` (B arrays of rows).
        """
        order = np.argsort(estimate, kind="stable")  # so that a block is reached by neighbouring queries
        middle = estimate[order].astype(float)
        first = np.searchsorted(self.ages, middle - window, "left")  # [B] ascending: places that a query reaches
        last = np.searchsorted(self.ages, middle + window, "right")
        hidden = [np.sort(self.places[excluded[query]]) for query in order]
        queries = torch.from_numpy(unit[order])  # [B, E]
        values = torch.full((len(unit), k), -torch.inf)
        places = torch.zeros((len(unit), k), dtype=torch.int64)
        for start in range(first.min(initial=len(self.rows)), last.max(initial=0), BLOCK):
            stop = min(start + BLOCK, len(self.rows))
            low, high = np.searchsorted(last, start, "right"), np.searchsorted(first, stop, "left")
            if low == high:
                continue
            similarity = queries[low:high] @ self.unit[start:stop].T  # [b, block]
            for query, row in enumerate(similarity, low):
                row[: max(first[query] - start, 0)] = -torch.inf
                row[max(last[query] - start, 0) :] = -torch.inf
                here = hidden[query][slice(*np.searchsorted(hidden[query], (start, stop)))]
                row[torch.from_numpy(here - start)] = -torch.inf
            keep_best(values[low:high], places[low:high], similarity, start)
        back = np.argsort(order)
        return values.numpy()[back], self.rows[places.numpy()[back]]


def keep_best(values: Tensor, places: Tensor, similarity: Tensor, start: int) -> None:
    """Let the best of a block [b, block], whose first place is `start`, into the best so far [b, k], in place."""
    new, place = similarity.topk(min(values.shape[1], similarity.shape[1]), dim=1)
    best, kept = torch.cat([values, new], dim=1).topk(values.shape[1], dim=1)
    values.copy_(best)
    places.copy_(torch.cat([places, place + start], dim=1).gather(1, kept))
