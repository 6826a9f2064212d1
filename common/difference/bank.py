"""Reference faces with known ages: embeddings, ages, the base's own estimates of them, and how to find some.

No photo is stored, at most small faces to be shown again. A bank belongs to the BAR weights that made its embeddings
and is refused by others.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from common.data.labels import OLDEST, SET_MARK, is_group, person_key, person_name
from common.difference.age_index import AgeIndex
from common.difference.bank_files import KINDS, read_arrays
from common.difference.parts import References
from common.errors import DataError, WeightsError
from common.files import replacing

EMPTY = -1
LARGE = 500_000  # from so many references on the search is quantised first
FACE_SIDE = 64  # pixels of a face that is kept to be shown
ARRAYS = ("embeddings", "ages", "estimates", "seen", "person", "id")


class Found(NamedTuple):
    """Rows of a bank for each query: index [B, k] int64 (EMPTY where fewer were found), mask [B, k] bool."""

    index: np.ndarray  # type: ignore[assignment]  # tuple has a method of this name
    mask: np.ndarray


@dataclass(frozen=True)
class ReferenceBank:
    """N reference faces.

    embeddings [N, E] float16; ages, estimates [N] float32 years; seen [N] bool (the base trained on it, so its
    residual says nothing); person [N] str ('' unknown; copies of one image share a name); id [N] str (SHA-1 of the
    image); fingerprint: SHA-1 of the BAR weights; identity [N, D] float16: face-recognition embeddings
    (common/faces/identity.py), None where they were not asked for; faces [N, 64, 64, 3] uint8, to be shown (black where
    one is not kept), or None. Raises DataError if N is 0, lengths differ or an age is unknown.
    """

    embeddings: np.ndarray
    ages: np.ndarray
    estimates: np.ndarray
    seen: np.ndarray
    person: np.ndarray
    id: np.ndarray
    fingerprint: str
    identity: np.ndarray | None = None
    faces: np.ndarray | None = None

    def __post_init__(self):
        for name in ARRAYS:
            if len(getattr(self, name)) != len(self.embeddings):
                raise DataError(f"A bank of {len(self.embeddings)} embeddings has {len(getattr(self, name))} {name}.")
        if not len(self.embeddings):
            raise DataError("A bank needs at least one reference.")
        if self.identity is not None and (self.identity.ndim, len(self.identity)) != (2, len(self.embeddings)):
            raise DataError(f"A bank of {len(self.embeddings)} embeddings has other identities: {self.identity.shape}.")
        size = (len(self.embeddings), FACE_SIDE, FACE_SIDE, 3)
        if self.faces is not None and (self.faces.shape != size or self.faces.dtype != np.uint8):
            raise DataError(f"A bank of {len(self.embeddings)} embeddings has other faces: {self.faces.shape}.")
        wrong = [name for name in ARRAYS if getattr(self, name).dtype.kind != KINDS[name][0]]
        if wrong or self.embeddings.ndim != 2:
            raise DataError(f"The {(*wrong, 'embeddings')[0]} of a bank are not what they should be.")
        if not (np.isfinite(self.ages).all() and np.isfinite(self.estimates).all()):
            raise DataError("Every reference needs an age and an estimate.")

    def __len__(self) -> int:
        return len(self.ages)

    @cached_property
    def named(self) -> np.ndarray:
        """Mask [N] bool of the references whose person is known; a group of copies is no person."""
        people = np.unique(self.person)
        return np.isin(self.person, [name for name in people if name and not is_group(str(name))])

    @property
    def people(self) -> list[str]:
        """The names of the people shown, in alphabetical order."""
        return sorted(set(self.person[self.named].tolist()))

    @cached_property
    def unit(self) -> np.ndarray:
        """The embeddings [N, E] float32 scaled to length 1."""
        unit = self.embeddings.astype(np.float32)
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-6)
        return unit

    @cached_property
    def _by_age(self) -> AgeIndex:
        return AgeIndex(self.embeddings, self.ages, quantised=len(self) >= LARGE)

    @cached_property
    def _of_id(self) -> "RowsOfName":
        return RowsOfName(self.id)

    @cached_property
    def _of_person(self) -> "RowsOfName":
        return RowsOfName(self.person)

    @cached_property
    def _of_person_in_a_set(self) -> "RowsOfName":
        """Rows by the name that a person has in the set it came from, for banks joined from several sets."""
        return RowsOfName(np.array([name.partition(SET_MARK)[2] for name in self.person.tolist()], str))

    def rows_of_person(self, name: str) -> np.ndarray:
        """Rows [n] int64 that may show a person, whether the bank, the name, both or neither say the set it is of."""
        alone = name.partition(SET_MARK)[2]
        return np.concatenate([self._of_person[name], self._of_person[alone], self._of_person_in_a_set[name]])

    def query(
        self,
        embedding: np.ndarray,
        estimate: np.ndarray,
        k: int,
        reference_window: float,
        exclude_id: np.ndarray,
        exclude_person: np.ndarray,
    ) -> Found:
        """The k references most similar to each query (cosine), nearest first, equal ones in the bank's order.

        Parameters
        ----------
        embedding : [B, E] float
        estimate : [B] float, years; only references within `reference_window` years of it are taken
        k : references wanted; fewer are found where there are too few
        exclude_id, exclude_person : [B] str; a reference of this id or person is never taken ('' excludes nothing)

        Returns
        -------
        Found, without repeated rows.
        """
        unit = (embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-6)).astype(np.float32)
        excluded = [
            np.concatenate([self._of_id[number], self.rows_of_person(name)])
            for number, name in zip(exclude_id, exclude_person, strict=True)
        ]
        wanted = min(k, len(self))
        values, nearest = self._by_age.nearest(unit, estimate, wanted, reference_window, excluded)  # [B, wanted]
        order = np.lexsort((nearest, -values), axis=1)
        values, nearest = np.take_along_axis(values, order, 1), np.take_along_axis(nearest, order, 1)
        mask = np.pad(np.isfinite(values), ((0, 0), (0, k - wanted)))
        index = np.pad(nearest, ((0, 0), (0, k - wanted)), constant_values=EMPTY)
        return Found(np.where(mask, index, EMPTY), mask)

    def take(self, found: Found) -> References:
        """The references of every query as arrays [B, k, …]: float32, seen and mask bool."""
        index = np.where(found.mask, found.index, 0)  # [B, k]
        arrays = (self.embeddings, self.ages, self.estimates)
        embedding, age, estimate = (array[index].astype(np.float32) for array in arrays)
        return References(embedding, age, estimate, self.seen[index], found.mask)

    def rows(self, keep: np.ndarray) -> "ReferenceBank":
        """The part of the bank where `keep` [N] is True (or that these row numbers name)."""
        parts = {name: getattr(self, name)[keep] for name in ARRAYS}
        identity, faces = (None if part is None else part[keep] for part in (self.identity, self.faces))
        return ReferenceBank(**parts, fingerprint=self.fingerprint, identity=identity, faces=faces)

    def write(self, file: BinaryIO) -> None:
        """Write a compressed .npz (no pickles in it) into an open file."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        np.savez_compressed(file, **{name: part for name, part in parts.items() if part is not None})

    def save(self, path: str | Path) -> None:
        """Write a compressed .npz (no pickles in it), whole or not at all; raises DataError if it cannot be written."""
        try:
            with replacing(path) as whole, open(whole, "wb") as file:  # given a name, numpy would add .npz to it
                self.write(file)
        except OSError as error:
            raise DataError(f"The bank {path} cannot be written ({error.strerror}).") from None


def load_bank(path: str | Path, fingerprint: str, data: bytes | None = None) -> ReferenceBank:
    """Read a bank, its names composed (NFC); raises WeightsError if it is none, or belongs to other BAR weights.

    `fingerprint` names the weights in use; `data` are the file's bytes, if they are at hand. Raises DataError for ages,
    estimates or embeddings that cannot be.
    """
    parts = read_arrays(path, data)
    own = str(parts.pop("fingerprint"))
    if own != fingerprint:
        raise WeightsError(
            f"{path} was made with other base weights ({own[:8]}) than those in use ({fingerprint[:8]}); "
            "build it again."
        )
    for name in ("ages", "estimates"):
        count = int((~((parts[name] >= 0) & (parts[name] <= OLDEST))).sum())  # NaN is not
        if count:
            raise DataError(f"{path} has {count} {name} outside 0 to {OLDEST:g} years; build it again.")
    for name in {"embeddings", "identity"} & set(parts):
        if not np.isfinite(parts[name]).all():
            raise DataError(f"{path} has {name} that are not finite; build it again.")
    parts["person"] = _renamed(parts["person"], person_name)
    return ReferenceBank(**parts, fingerprint=fingerprint)


def _renamed(person: np.ndarray, rename: Callable[[str], str]) -> np.ndarray:
    names, place = np.unique(person, return_inverse=True)
    return np.array([rename(str(name)) for name in names], str)[place]


def one_spelling(bank: ReferenceBank) -> ReferenceBank:
    """The bank with every person's name as it is spelled first ("Zoë", "zoë" and "ZOË" are one person)."""
    first: dict[str, str] = {}
    for name in bank.person.tolist():
        first.setdefault(person_key(name), person_name(name))
    return replace(bank, person=_renamed(bank.person, lambda name: first[person_key(name)]))


def no_faces(count: int) -> np.ndarray:
    """Black images [count, 64, 64, 3]: faces that are not kept."""
    return np.zeros((count, FACE_SIDE, FACE_SIDE, 3), np.uint8)


class RowsOfName:
    """Which of N rows have a name; `rows[name]` [n] int64, ascending, empty for '' and unknown names."""

    def __init__(self, names: np.ndarray):
        self.known, codes, counts = np.unique(names, return_inverse=True, return_counts=True)
        self.order = np.argsort(codes, kind="stable")  # [N] rows, those of one name together
        self.ends = np.cumsum(counts)

    def __getitem__(self, name: str) -> np.ndarray:
        place = np.searchsorted(self.known, name)
        if not name or place == len(self.known) or self.known[place] != name:
            return self.order[:0]
        return self.order[self.ends[place - 1] if place else 0 : self.ends[place]]


def concatenate(banks: list[ReferenceBank]) -> ReferenceBank:
    """One bank of several; an image that is in several enters once, a person by one spelling, identities if all have
    them.

    Raises WeightsError if their weights differ.
    """
    if len({bank.fingerprint for bank in banks}) != 1:
        raise WeightsError("The banks were made with different base weights.")
    parts = {name: np.concatenate([getattr(bank, name) for bank in banks]) for name in ARRAYS}
    first = np.sort(np.unique(parts["id"], return_index=True)[1])
    identities = [bank.identity for bank in banks if bank.identity is not None]
    known = len(identities) == len(banks)
    faces = None
    if any(bank.faces is not None for bank in banks):
        faces = np.concatenate([no_faces(len(bank)) if bank.faces is None else bank.faces for bank in banks])[first]
    return one_spelling(
        ReferenceBank(
            **{name: array[first] for name, array in parts.items()}, fingerprint=banks[0].fingerprint,
            identity=np.concatenate(identities)[first] if known else None, faces=faces,
        )
    )  # fmt: skip
