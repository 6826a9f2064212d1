"""Nearest neighbours among faces of about an age: the search inside a reference bank."""

import numpy as np

BLOCK = 16384  # references compared at once
CHUNK = 32  # of them, whose greatest similarity is looked at first
OVERFETCH = 4  # so many times as many as wanted are compared exactly after a quantised search


class AgeIndex:
    """N embeddings [N, E] float16 in order of their ages [N] (years), searched block by block.

    A query is compared with the blocks that its ages reach and no others, by one matrix product each. The answer is
    exact, unless the search is quantised (`quantised`): then INT8 are compared first, and exactly only the best of
    these. That takes a quarter of the time and memory and hardly ever changes the answer (`scripts/benchmark.py`
    measures the recall).
    """

    def __init__(self, embeddings: np.ndarray, ages: np.ndarray, quantised: bool = False):
        self.rows = np.argsort(ages, kind="stable")  # [N] row of the bank at each place
        self.ages = ages[self.rows].astype(float)  # [N] ascending
        self.places = np.empty_like(self.rows)  # [N] place of each row of the bank
        self.places[self.rows] = np.arange(len(self.rows))
        self.embeddings = embeddings
        self.quantised = quantised
        self.unit = np.empty(embeddings.shape, np.int8 if self.quantised else np.float32)  # by age
        self.scale = np.ones(len(ages), np.float32)  # [N] what the whole numbers stand for
        for start in range(0, len(ages), BLOCK):
            part = unit_length(embeddings[self.rows[start : start + BLOCK]])
            if self.quantised:
                part, self.scale[start : start + BLOCK] = to_int8(part)
            self.unit[start : start + BLOCK] = part

    def nearest(
        self, unit: np.ndarray, estimate: np.ndarray, k: int, window: float, excluded: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cosine similarity [B, k] float32 (-inf where there are fewer) and rows [B, k] int64 of the k most similar.

        `unit` [B, E] float32 are queries of length 1; a reference counts if its age is within `window` years of
        `estimate` [B] and its row is not among `excluded` (B arrays of rows).
        """
        if not self.quantised:
            return self._best(unit, estimate, k, window, excluded)
        values, rows = self._best(unit, estimate, min(OVERFETCH * k, len(self.rows)), window, excluded)  # [B, spare]
        exact = np.einsum("be,bse->bs", unit, unit_length(self.embeddings[rows]))
        exact[np.isneginf(values)] = -np.inf
        best, place = greatest(exact, k)
        return best, np.take_along_axis(rows, place, 1)

    def _best(
        self, unit: np.ndarray, estimate: np.ndarray, k: int, window: float, excluded: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `nearest`; by the INT8 similarities where the index is quantised."""
        order = np.argsort(estimate, kind="stable")  # so that a block is reached by neighbouring queries
        middle = estimate[order].astype(float)
        first = np.searchsorted(self.ages, middle - window, "left")  # [B] ascending: places that a query reaches
        last = np.searchsorted(self.ages, middle + window, "right")
        hidden = self._hidden([excluded[query] for query in order])
        queries = unit[order]  # [B, E]
        queries = to_int8(queries)[0] if self.quantised else queries
        values = np.full((len(unit), k), -np.inf, np.float32)
        places = np.zeros((len(unit), k), np.int64)
        for start in range(first.min(initial=len(self.rows)), last.max(initial=0), BLOCK):
            stop = min(start + BLOCK, len(self.rows))
            low, high = np.searchsorted(last, start, "right"), np.searchsorted(first, stop, "left")
            if low == high:
                continue
            similarity = self._similarity(queries[low:high], start, stop)  # [b, block]
            for query in low + np.flatnonzero((first[low:high] > start) | (last[low:high] < stop)):
                row = similarity[query - low]
                row[: max(first[query] - start, 0)] = -np.inf
                row[max(last[query] - start, 0) :] = -np.inf
            here = hidden[:, slice(*np.searchsorted(hidden[0], (start, stop)))]  # [2, excluded in this block]
            place, query = here[:, (here[1] >= low) & (here[1] < high)]
            similarity[query - low, place - start] = -np.inf
            keep_best(values[low:high], places[low:high], similarity, start)
        back = np.argsort(order)
        return values[back], self.rows[places[back]]

    def _similarity(self, queries: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Similarity [b, n] float32 of queries with the references from place `start` to `stop` (for ranking only)."""
        if not self.quantised:
            return queries @ self.unit[start:stop].T
        return int8_product(queries, self.unit[start:stop]) * self.scale[start:stop]

    def _hidden(self, excluded: list[np.ndarray]) -> np.ndarray:
        """Places that are excluded, ascending, and the query that each is excluded from: [2, X] int64."""
        places = self.places[np.concatenate([np.empty(0, np.int64), *excluded])]
        queries = np.repeat(np.arange(len(excluded)), [len(rows) for rows in excluded])
        ascending = np.argsort(places, kind="stable")
        return np.stack([places[ascending], queries[ascending]])


def unit_length(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [..., E] as float32 of length 1."""
    part = embeddings.astype(np.float32)
    return part / np.maximum(np.linalg.norm(part, axis=-1, keepdims=True), 1e-6)


def to_int8(unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [N, E] float32 as whole numbers [N, E] int8 times a scale [N] float32."""
    scale = np.maximum(np.abs(unit).max(axis=1), 1e-12) / 127  # [N]
    return np.round(unit / scale[:, None]).astype(np.int8), scale


def int8_product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Products [b, n] float32, exact, of whole numbers [b, E] and [n, E] int8 with E up to 1024."""
    return first.astype(np.float32) @ second.astype(np.float32).T


def keep_best(values: np.ndarray, places: np.ndarray, similarity: np.ndarray, start: int) -> None:
    """Let the best of a block [b, block], whose first place is `start`, into the best so far [b, k], in place."""
    new, place = best_of(similarity, min(values.shape[1], similarity.shape[1]))
    best, kept = greatest(np.concatenate([values, new], axis=1), values.shape[1])
    values[:] = best
    places[:] = np.take_along_axis(np.concatenate([places, place + start], axis=1), kept, 1)


def best_of(similarity: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k greatest of each row [b, n] and their places [b, k], sooner where chunks can be left aside.

    The k greatest lie in the k chunks of the greatest maxima.
    """
    batch, count = similarity.shape
    if count % CHUNK or count < 2 * k * CHUNK:
        return greatest(similarity, k)
    chunks = similarity.reshape(batch, -1, CHUNK)  # [b, n / CHUNK, CHUNK]
    chosen = greatest(chunks.max(axis=2), k)[1]  # [b, k]
    candidates = np.take_along_axis(chunks, chosen[:, :, None], 1).reshape(batch, -1)  # [b, k * CHUNK]
    values, place = greatest(candidates, k)
    return values, np.take_along_axis(chosen, place // CHUNK, 1) * CHUNK + place % CHUNK


def greatest(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k greatest of each row [b, n], the greatest first, and their places [b, k]."""
    if not values.shape[1]:
        return values, np.zeros(values.shape, int)
    place = np.argpartition(-values, min(k, values.shape[1] - 1), axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(values, place, 1), axis=1, kind="stable")
    place = np.take_along_axis(place, order, 1)
    return np.take_along_axis(values, place, 1), place
