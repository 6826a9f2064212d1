"""Reference faces with known ages: embeddings, ages, the base's own estimates of them, and how to find some.

No picture is stored. A bank belongs to the BAR weights that made its embeddings and is refused by others.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch

from common.difference_heads import References
from common.errors import DataError, WeightsError

EMPTY = -1
ARRAYS = ("embeddings", "ages", "estimates", "seen", "person", "id")


class Found(NamedTuple):
    """Rows of a bank for each query: index [B, k] int64 (EMPTY where fewer were found), mask [B, k] bool."""

    index: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class ReferenceBank:
    """N reference faces.

    embeddings [N, E] float16; ages, estimates [N] float32 years; seen [N] bool (the base trained on it, so its
    residual says nothing); person [N] str ('' unknown; copies of one picture share a name); id [N] str (SHA-1 of the
    picture); fingerprint: SHA-1 of the BAR weights. Raises DataError if N is 0, lengths differ or an age is unknown.
    """

    embeddings: np.ndarray
    ages: np.ndarray
    estimates: np.ndarray
    seen: np.ndarray
    person: np.ndarray
    id: np.ndarray
    fingerprint: str

    def __post_init__(self):
        for name in ARRAYS:
            if len(getattr(self, name)) != len(self.embeddings):
                raise DataError(f"A bank of {len(self.embeddings)} embeddings has {len(getattr(self, name))} {name}.")
        if not len(self.embeddings):
            raise DataError("A bank needs at least one reference.")
        if not (np.isfinite(self.ages).all() and np.isfinite(self.estimates).all()):
            raise DataError("Every reference needs an age and an estimate.")
        unit = self.embeddings.astype(np.float32)
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-6)
        object.__setattr__(self, "unit", unit)  # [N, E] float32 embeddings of length 1
        object.__setattr__(self, "_ids", _index(self.id))
        object.__setattr__(self, "_persons", _index(self.person))

    def __len__(self) -> int:
        return len(self.ages)

    def query(
        self,
        embedding: np.ndarray,
        estimate: np.ndarray,
        k: int,
        reference_window: float,
        exclude_id: np.ndarray,
        exclude_person: np.ndarray,
        person: np.ndarray | None = None,
    ) -> Found:
        """The k references most similar to each query (cosine), nearest first, equal ones in the bank's order.

        Parameters
        ----------
        embedding : [B, E] float
        estimate : [B] float, years; only references within `reference_window` years of it are taken
        k : references wanted; fewer are found where there are too few
        exclude_id, exclude_person : [B] str; a reference of this id or person is never taken ('' excludes nothing)
        person : [B] str; take references of this person only

        Returns
        -------
        Found, without repeated rows.
        """
        unit = embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-6)
        similarity = unit.astype(np.float32) @ self.unit.T  # [B, N]
        allowed = np.abs(self.ages[None, :] - estimate[:, None]) <= reference_window  # [B, N]
        allowed &= ~_same(self._ids, np.asarray(exclude_id))
        allowed &= ~_same(self._persons, np.asarray(exclude_person))
        if person is not None:
            allowed &= _same(self._persons, np.asarray(person))
        similarity[~allowed] = -np.inf
        wanted = min(k, len(self))
        values, nearest = (t.numpy() for t in torch.topk(torch.from_numpy(similarity), wanted, dim=1))  # [B, wanted]
        order = np.lexsort((nearest, -values), axis=1)
        values, nearest = np.take_along_axis(values, order, 1), np.take_along_axis(nearest, order, 1)
        mask = np.pad(np.isfinite(values), ((0, 0), (0, k - wanted)))
        index = np.pad(nearest, ((0, 0), (0, k - wanted)), constant_values=EMPTY)
        return Found(np.where(mask, index, EMPTY), mask)

    def take(self, found: Found) -> References:
        """The references of every query as tensors [B, k, …] for a head."""
        index = np.where(found.mask, found.index, 0)  # [B, k]
        arrays = (self.embeddings, self.ages, self.estimates, self.seen)
        embedding, age, estimate, seen = (torch.from_numpy(array[index]) for array in arrays)
        return References(embedding.float(), age.float(), estimate.float(), seen, torch.from_numpy(found.mask))

    def rows(self, keep: np.ndarray) -> "ReferenceBank":
        """The part of the bank where `keep` [N] is True (or that these row numbers name)."""
        parts = {
            name: getattr(self, name)[keep] for name in ("embeddings", "ages", "estimates", "seen", "person", "id")
        }
        return ReferenceBank(**parts, fingerprint=self.fingerprint)

    def save(self, path: str | Path) -> None:
        """Write a compressed .npz (no pickles in it)."""
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})


def load_bank(path: str | Path, fingerprint: str) -> ReferenceBank:
    """Read a bank; raises WeightsError if it is none, or belongs to other BAR weights than `fingerprint` names."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            parts = {field.name: stored[field.name] for field in fields(ReferenceBank)}
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise WeightsError(f"{path} cannot be read as a reference bank ({error}).") from None
    parts["fingerprint"] = str(parts["fingerprint"])
    if parts["fingerprint"] != fingerprint:
        raise WeightsError(
            f"{path} was made with other base weights ({parts['fingerprint'][:8]}) than those in use "
            f"({fingerprint[:8]}); build it again."
        )
    return ReferenceBank(**parts)


def _index(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different names in order, and the place of each row's name among them [N]."""
    return np.unique(names, return_inverse=True)


def _same(index: tuple[np.ndarray, np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """Mask [B, N] bool of rows with the wanted name [B] of each query; '' is the name of nobody."""
    known, codes = index
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    hit = (known[place] == wanted) & (wanted != "")
    return np.where(hit, place, EMPTY)[:, None] == codes[None, :]


def concatenate(banks: list[ReferenceBank]) -> ReferenceBank:
    """One bank of several; a picture that is in several enters once. Raises WeightsError if their weights differ."""
    if len({bank.fingerprint for bank in banks}) != 1:
        raise WeightsError("The banks were made with different base weights.")
    parts = {name: np.concatenate([getattr(bank, name) for bank in banks]) for name in ARRAYS}
    first = np.sort(np.unique(parts["id"], return_index=True)[1])
    return ReferenceBank(**{name: array[first] for name, array in parts.items()}, fingerprint=banks[0].fingerprint)
