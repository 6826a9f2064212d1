"""Faces of prepared sets, in batches whose order depends on nothing but the seed and the epoch."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig
from common.data.manifest import PreparedSet, age_bounds, drawn, load_prepared
from common.errors import DataError


class Batch(NamedTuple):
    """crops [B, S, S, 3] uint8 RGB; low, high [B] float32: the interval of each age in years (equal if exact).

    taught [B, 101] float32: a teacher's distribution, zeros for a face it says nothing of; None without a teacher.
    """

    crops: Tensor
    low: Tensor
    high: Tensor
    taught: Tensor | None = None


class FaceSet:
    """The labelled rows of one split over several prepared sets, addressed by one running number.

    `limit` of each set are drawn at random by `seed` (0: all). `teacher` is a folder of soft labels (see
    scripts/release/make_teacher.py). Raises DataError if a folder is no prepared set
    or has no soft labels, if the crops differ in size, or if no row is left.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        split: str,
        crop_size: int,
        limit: int = 0,
        teacher: str = "",
        seed: int = 0,
    ):
        self.crops: list[np.ndarray] = []
        self.soft = [soft_labels(Path(teacher), load_prepared(folder)) for folder in folders] if teacher else []
        owners, rows, lows, highs, self.manifests = [], [], [], [], []
        for number, folder in enumerate(folders):
            prepared = load_prepared(folder)
            if prepared.crops.shape[1] != crop_size:
                raise DataError(
                    f"{folder} holds crops of {prepared.crops.shape[1]} px, the model takes {crop_size}; "
                    f"prepare it with --size {crop_size} or train with --crop-size {prepared.crops.shape[1]}."
                )
            low, high = age_bounds(prepared.manifest)
            chosen = prepared.rows(split)
            chosen = chosen[~np.isnan(low[chosen])]
            chosen = drawn(chosen, limit, seed)
            self.crops.append(prepared.crops)
            self.manifests.append(prepared.manifest.iloc[chosen])
            owners.append(np.full(len(chosen), number))
            rows.append(chosen)
            lows.append(low[chosen])
            highs.append(high[chosen])
        self.owner, self.row = np.concatenate(owners), np.concatenate(rows)  # [N], [N]
        self.low, self.high = np.concatenate(lows), np.concatenate(highs)  # [N], [N] years
        if not len(self.row):
            names = ", ".join(map(str, folders))
            raise DataError(f"There is no labelled face in split '{split}' of {names}; prepare more faces or people.")

    def __len__(self) -> int:
        return len(self.row)

    @property
    def exact(self) -> np.ndarray:
        """Mask [N] bool of faces whose age is known exactly."""
        return self.low == self.high

    def take(self, numbers: np.ndarray) -> Batch:
        """The batch of the faces with these numbers [B] int64."""
        places = [(self.owner[number], self.row[number]) for number in numbers]
        crops = np.stack([self.crops[owner][row] for owner, row in places])  # [B, S, S, 3]
        low, high = (torch.from_numpy(bound[numbers]).float() for bound in (self.low, self.high))
        taught = np.stack([self.soft[owner][row] for owner, row in places]) if self.soft else None  # [B, 101]
        return Batch(torch.from_numpy(crops), low, high, None if taught is None else torch.from_numpy(taught).float())


def soft_labels(folder: Path, prepared: PreparedSet) -> np.ndarray:
    """A teacher's distributions [N, 101] float16 for the N faces of a prepared set; raises DataError."""
    path = folder / f"{prepared.folder.name}.npy"
    if not path.is_file():
        raise DataError(f"There are no soft labels at {path}; make them with scripts/release/make_teacher.py.")
    labels = np.load(path, mmap_mode="r")
    if labels.shape != (len(prepared.manifest), 101):
        raise DataError(f"{path} is not of {prepared.folder}, or of another state of it; make it anew.")
    return labels


def frequencies(low: np.ndarray, high: np.ndarray, balance: float) -> np.ndarray:
    """How often each face [N] is shown, 1 on average: (faces of about its age) ** -balance.

    About its age means the same interval, or within 2 years of an exact age.
    """
    exact = low == high
    counts = np.empty(len(low))
    years = np.sort(low[exact])
    counts[exact] = np.searchsorted(years, low[exact] + 2, "right") - np.searchsorted(years, low[exact] - 2, "left")
    _, inverse, number = np.unique(low[~exact], return_inverse=True, return_counts=True)
    counts[~exact] = number[inverse]
    wanted = counts**-balance
    return wanted / wanted.mean()


def set_frequencies(faces: FaceSet, group: np.ndarray, balance: float, set_balance: float) -> np.ndarray:
    """How often each face of a group [N] is shown, 1 on average: as `frequencies` within its set, sets by their size.

    Rare ages are rare within their set: pooled, a set's few young would drown among the many of another. Each face of
    a set of n has the factor n ** -set_balance.
    """
    wanted = np.empty(len(group))
    owner = faces.owner[group]
    for number in np.unique(owner):
        rows = group[owner == number]
        times = frequencies(faces.low[rows], faces.high[rows], balance)
        wanted[owner == number] = times * float(len(rows)) ** -set_balance
    return wanted / wanted.mean()


class TrainingOrder:
    """Which faces form step 0, 1, 2 … of an epoch: exact ones, and a share of interval ones beside them."""

    def __init__(self, faces: FaceSet, config: AgeRegBaselineConfig):
        exact, interval = np.flatnonzero(faces.exact), np.flatnonzero(~faces.exact)
        mixed = len(exact) > 0 and len(interval) > 0
        self.main = exact if len(exact) else interval
        self.beside = interval if mixed else np.empty(0, int)
        self.from_beside = round(config.batch_size * config.interval_fraction) if mixed else 0
        self.from_main = config.batch_size - self.from_beside
        self.steps = max(1, len(self.main) // self.from_main)
        self.batch = min(self.from_main, len(self.main)) + self.from_beside  # B, the same in every step
        self.seed = config.seed
        self.frequency = np.ones(len(faces))
        for group in (self.main, self.beside):
            if len(group):
                self.frequency[group] = set_frequencies(faces, group, config.balance, config.set_balance)

    def check(self, processes: int) -> None:
        """Raise DataError if a batch has fewer than two faces for each of so many processes."""
        if self.batch < 2 * processes:
            raise DataError(
                f"A batch of {self.batch} faces is too small for {processes} processes, each of which needs two; give "
                "a greater --batch-size (it counts the faces of all processes) or start fewer processes."
            )

    def epoch(self, epoch: int, start: int = 0) -> Iterator[np.ndarray]:
        """Face numbers [B] of every step of an epoch from step `start` on."""
        main = self._shuffled(self.main, 0, epoch)
        for step in range(start, self.steps):
            numbers = main[step * self.from_main : (step + 1) * self.from_main]
            if self.from_beside:
                numbers = np.concatenate([numbers, self._beside(epoch * self.steps + step)])
            yield numbers

    def _beside(self, step: int) -> np.ndarray:
        first = step * self.from_beside
        places = np.arange(first, first + self.from_beside)  # [F] running place in an endless shuffled list
        rounds, within = np.divmod(places, len(self.beside))
        orders = {number: self._shuffled(self.beside, 1, int(number)) for number in np.unique(rounds)}
        return np.array([orders[number][place] for number, place in zip(rounds, within, strict=True)])

    def _shuffled(self, faces: np.ndarray, kind: int, turn: int) -> np.ndarray:
        """As many faces as there are, each as often as its frequency says (rounded up or down), shuffled."""
        random = np.random.default_rng([self.seed, turn, kind])
        ends = np.cumsum(self.frequency[faces])  # systematic sampling: one pointer a unit, one random offset
        drawn = np.searchsorted(ends, np.arange(len(faces)) + random.random() * (1 - 1e-9), side="right")
        return random.permutation(faces[np.minimum(drawn, len(faces) - 1)])


def evaluation_batches(faces: FaceSet, batch_size: int) -> Iterator[Batch]:
    """All faces in order, the last batch being as short as it is."""
    for start in range(0, len(faces), batch_size):
        yield faces.take(np.arange(start, min(start + batch_size, len(faces))))
