"""Five-part splits that keep a person, and every copy of an image, on one side."""

import hashlib

import cv2
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from common.data.manifest import SPLITS, CropRows, age_bounds
from common.errors import DataError

SHARES = {"base": 0.70, "dar": 0.10, "val": 0.06, "calib": 0.06, "test": 0.08}
DUPLICATE_CORRELATION = 0.985  # of 16 x 16 grey thumbnails
COPY_CORRELATION = (
    0.97  # of those of two sets, which cut an image out differently; one face lost costs less than a copy
)
MAX_AGE_CONFLICT = 2.0  # years between labels of one image


def split_of(key: str) -> str:
    """Name of the split that a key (a person or a duplicate group) belongs to, by SHA-1 of the key."""
    position = int(hashlib.sha1(key.encode()).hexdigest()[:12], 16) / 16**12
    for name, upper in zip(SHARES, np.cumsum(list(SHARES.values())), strict=True):
        if position < upper:
            return name
    return SPLITS[-1]


def thumbnails(crops: np.ndarray | CropRows) -> np.ndarray:
    """Centred grey thumbnails of unit length, [N, 256] float32, from crops [N, S, S, 3] uint8.

    The product of two rows is the correlation of the two images; a uniform image becomes zeros.
    """
    small = np.empty((len(crops), 256), np.float32)
    for row in range(len(crops)):
        grey = cv2.cvtColor(np.ascontiguousarray(crops[row]), cv2.COLOR_RGB2GRAY)  # [S, S]
        small[row] = cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA).reshape(-1)  # [256]
    small -= small.mean(axis=1, keepdims=True)
    length = np.linalg.norm(small, axis=1, keepdims=True)
    return np.divide(small, length, out=np.zeros_like(small), where=length > 1e-3)


def duplicate_pairs(crops: np.ndarray | CropRows, block: int = 2048) -> np.ndarray:
    """Pairs of rows [P, 2] int64 that show the same image (thumbnail correlation > 0.985)."""
    small = thumbnails(crops)
    pairs = [np.empty((0, 2), np.int64)]
    for start in range(0, len(small), block):
        similarity = small[start : start + block] @ small[start:].T  # [block, N - start]
        left, right = np.nonzero(similarity > DUPLICATE_CORRELATION)
        pairs.append(np.stack([left, right], axis=1)[left < right] + start)
    return np.concatenate(pairs)


def shown_by(crops: np.ndarray | CropRows, others: np.ndarray | CropRows, block: int = 2048) -> np.ndarray:
    """Mask [N] bool of the crops that one of the `others` [M, S, S, 3] shows too (thumbnail correlation > 0.97)."""
    small, other = thumbnails(crops), thumbnails(others)
    found = [np.empty(0, bool)]
    for start in range(0, len(small), block):
        found.append((small[start : start + block] @ other.T > COPY_CORRELATION).any(axis=1))  # of [block, M]
    return np.concatenate(found)


def components(count: int, pairs: np.ndarray) -> np.ndarray:
    """Component number [count] int of each row, rows being joined by pairs [P, 2]."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def equal_pairs(labels: pd.Series) -> np.ndarray:
    """Pairs [P, 2] that chain all rows with the same non-empty label."""
    groups = [rows for label, rows in labels.groupby(labels.to_numpy()).indices.items() if label != ""]
    chains = [np.stack([rows[:-1], rows[1:]], axis=1) for rows in groups]
    return np.concatenate([np.empty((0, 2), np.int64), *chains])


def conflicting(manifest: pd.DataFrame, group: np.ndarray) -> np.ndarray:
    """Mask [N] bool of rows whose duplicate group holds labels more than 2 years apart."""
    low, high = age_bounds(manifest)
    table = pd.DataFrame({"group": group, "low": low, "high": high}).groupby("group")
    return (table["low"].transform("max") - table["high"].transform("min") > MAX_AGE_CONFLICT).to_numpy()


def assign_splits(manifest: pd.DataFrame, pairs: np.ndarray, published: dict[str, str]) -> pd.Series:
    """Split of every row: rows that share a person or an image share their split.

    Parameters
    ----------
    manifest : rows with `path`, `id`, `person`
    pairs : [P, 2] rows showing the same image
    published : split by path or file name; it rules its whole group, the most held-out name winning

    Raises DataError for a published name that is no split.
    """
    unknown = sorted(set(published.values()) - set(SPLITS))
    if unknown:
        raise DataError(f"'{unknown[0]}' is not a split; use {', '.join(SPLITS)}.")
    joined = np.concatenate([pairs, equal_pairs(manifest["person"]), equal_pairs(manifest["id"])])
    group = components(len(manifest), joined)
    own = manifest["person"].where(manifest["person"] != "", manifest["id"])
    key = own.groupby(group).transform("min")
    split = key.map(split_of)
    names = manifest["path"].map(lambda path: published.get(path, published.get(path.rsplit("/", 1)[-1], "")))
    rank = names.map({"": -1} | {name: number for number, name in enumerate(SPLITS)})
    ruling = rank.groupby(group).transform("max")
    return split.where(ruling < 0, ruling.map(dict(enumerate(SPLITS))))
