"""References of every age around an estimate, instead of the most similar ones whatever their age."""

import numpy as np

from common.difference.bank import EMPTY, Found, ReferenceBank

BIN, REACH = 5.0, 20.0  # years
BINS = round(2 * REACH / BIN)


def query_spanning(
    bank: ReferenceBank,
    embedding: np.ndarray,
    estimate: np.ndarray,
    per_bin: int,
    exclude_id: np.ndarray,
    exclude_person: np.ndarray,
) -> Found:
    """The `per_bin` most similar references of each 5-year bin within 20 years of an estimate, most similar first.

    The arrays are those of `ReferenceBank.query`, [B] each, and so is what is excluded. Returns Found [B, 8·per_bin]
    without repeated rows; a bin with too few references leaves places empty.
    """
    middles = np.arange(BINS) * BIN - REACH + BIN / 2  # [8] years from the estimate
    parts = [
        bank.query(embedding, estimate + middle, per_bin, BIN / 2, exclude_id, exclude_person) for middle in middles
    ]
    index, mask = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))  # [B, 8·per_bin]
    for place in range(per_bin, index.shape[1]):  # one on the edge of two bins
        before = index[:, max(0, place - 2 * per_bin) : place] == index[:, [place]]
        mask[:, place] &= ~before.any(axis=1)
    unit = embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-6)
    similarity = np.einsum("bke,be->bk", bank.unit[np.where(mask, index, 0)], unit)
    order = np.argsort(np.where(mask, -similarity, np.inf), axis=1, kind="stable")
    index, mask = np.take_along_axis(index, order, 1), np.take_along_axis(mask, order, 1)
    return Found(np.where(mask, index, EMPTY), mask)
