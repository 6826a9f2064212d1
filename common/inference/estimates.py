"""Ages of faces, one object for each: the base's estimates, the correction, own references, intervals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.base.intervals import INTERVALS_FILE, load_calibrator
from common.base.prediction import spread
from common.base.regressor import AgePredictBasicPipeline
from common.data.predictions import DOUBTFUL, NOT_FINITE, OK
from common.difference.bank import ReferenceBank
from common.difference.corrector import CORRECT_BATCH, Correction, CorrectsAges, Faces, joined
from common.errors import WeightsError

NAN = float("nan")


@dataclass(frozen=True)
class Evidence:
    """What an age was made from, to be drawn: the crop [S, S, 3] uint8 and its references [R].

    reference_ages [R] years; votes [R]: the age (years) each alone gives; weights [R]; corrected: the age (years) by
    these references, before own references and gates; own: the user's references that did most (see OwnVote).
    """

    crop: np.ndarray
    reference_ages: np.ndarray
    votes: np.ndarray
    weights: np.ndarray
    corrected: float
    own: tuple = ()


@dataclass(frozen=True)
class FaceAge:
    """The age of one face, or why an image has none.

    photo: the name it was given by, or its number; face: number among the faces of the photo, the largest first (None
    without one); box: left, top, right, bottom in pixels (None for crops); base_age, age, low, high: years (NaN where
    there is none); references: how many corrected the age; status: ok, what is wrong, or "doubtful: " and why the age
    should not be trusted; person: whom the face is recognised as; turned: degrees by which the photo was turned
    counter-clockwise to stand upright.

    Not printed: id, SHA-1 of the image's bytes; row, number of the image among those given; spread,
    standard deviation (years) of the predicted distribution; reference_ids and reference_spread (years), which
    references, and the standard deviation of what they say; further columns of a pipeline; evidence, where asked for.
    """

    photo: str
    face: int | None = None
    box: tuple[float, float, float, float] | None = None
    base_age: float = NAN
    age: float = NAN
    low: float = NAN
    high: float = NAN
    references: int = 0
    status: str = OK
    person: str = ""
    turned: int = 0
    id: str = field(default="", repr=False)
    row: int = field(default=0, repr=False)
    spread: float = field(default=NAN, repr=False)
    reference_ids: tuple[str, ...] = field(default=(), repr=False)
    reference_spread: float = field(default=NAN, repr=False, compare=False)
    further: Mapping[str, float | str] = field(default_factory=dict, repr=False)
    evidence: Evidence | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Face:
    """A face to estimate: what is known of it (photo, face, box, id, row), and its crop [S, S, 3] uint8 RGB.

    Nobody named `person` is its reference. `true_age` (years) is read by an oracle alone.
    """

    known: FaceAge
    crop: np.ndarray
    person: str = ""
    true_age: float = NAN

    @property
    def row(self) -> int:
        """Number of its image among those given."""
        return self.known.row


@dataclass(frozen=True)
class Request:
    """What is asked of a pipeline about faces beside their base ages.

    references: own banks; person: whose of them to use (`auto`: recognise each face; a stranger is taken for somebody
    with probability `false_match_rate`); interval: probability that low to high shall hold the age; oracle:
    retrieve at the true age; votes: also what single references say; evidence: how many faces keep what is to be
    drawn; batch_size: crops estimated at once.
    """

    references: Sequence[str | Path | ReferenceBank] = ()
    person: str | None = None
    false_match_rate: float = 0.01
    interval: float | None = None
    oracle: bool = False
    votes: bool = False
    evidence: int = 0
    batch_size: int = 64


class Estimates(NamedTuple):
    """Faces in the order of their images, sentences to tell the user, and whether Ctrl-C ended it early."""

    faces: list[FaceAge]
    notes: list[str]
    stopped: bool


class BaseEstimates(NamedTuple):
    """What the base predicts of M faces, in their order among all results.

    results: one for each face and each image without one; place [M]: theirs in it; faces [M]; true_age [M] years;
    crops: [S, S, 3] uint8 each, where they were asked for; stopped: whether Ctrl-C ended it.
    """

    results: list[FaceAge]
    place: np.ndarray
    faces: Faces
    true_age: np.ndarray
    crops: list[np.ndarray]
    stopped: bool


def estimate_base(
    found: Iterable[Face | FaceAge], base: AgePredictBasicPipeline, batch_size: int, keep_crops: bool
) -> BaseEstimates:
    """Estimate faces by the base regressor in batches, reading them one by one; images without a face pass through.

    A batch is of the same rows whatever failed before (see common/inference/shards.py). Ctrl-C ends it with the
    batches that are done.
    """
    done: list[_Batch] = []
    waiting: list[Face | FaceAge] = []
    stopped = False
    try:
        for part in found:
            begins = bool(waiting) and part.row != waiting[-1].row and part.row % batch_size == 0
            if len(waiting) >= batch_size or begins:
                done.append(_Batch.of(waiting, base, keep_crops))
                waiting = []
            waiting.append(part)
        if waiting:
            done.append(_Batch.of(waiting, base, keep_crops))
    except KeyboardInterrupt:
        stopped = True
    return _joined(done, base.config.embedding_size, stopped)


class _Batch(NamedTuple):
    """Results of some images; of those with an age also embeddings [B, E], person, true_age and crop."""

    results: list[FaceAge]
    embeddings: np.ndarray
    faces: list[tuple[str, float, np.ndarray | None]]

    @classmethod
    def of(cls, parts: Sequence[Face | FaceAge], base: AgePredictBasicPipeline, keep_crops: bool) -> "_Batch":
        faces = [part for part in parts if isinstance(part, Face)]
        if not faces:
            return cls([part for part in parts if isinstance(part, FaceAge)], np.empty((0, 0), np.float32), [])
        prediction = base.predict(np.stack([face.crop for face in faces]), max(len(faces), 1))
        spreads = spread(prediction.log_probs, base.ages)
        ages = iter(zip(prediction.ages.tolist(), spreads.tolist(), strict=True))
        results = [_estimated(part.known, *next(ages)) if isinstance(part, Face) else part for part in parts]
        fine = np.isfinite(prediction.ages) & np.isfinite(spreads)
        kept = [(face.person, face.true_age, face.crop if keep_crops else None) for face in faces]
        return cls(results, prediction.embeddings[fine], [one for one, good in zip(kept, fine, strict=True) if good])


def _estimated(known: FaceAge, age: float, spread: float) -> FaceAge:
    if not np.isfinite([age, spread]).all():
        return replace(known, status=NOT_FINITE)
    return replace(known, base_age=age, age=age, spread=spread)


def _joined(done: Sequence[_Batch], width: int, stopped: bool) -> BaseEstimates:
    results = [result for batch in done for result in batch.results]
    place = np.flatnonzero([np.isfinite(result.base_age) for result in results])
    kept = [face for batch in done for face in batch.faces]
    embeddings = [batch.embeddings for batch in done if len(batch.embeddings)]
    good = [results[number] for number in place]
    faces = Faces(
        np.concatenate([np.empty((0, width), np.float32), *embeddings]),
        np.array([one.base_age for one in good], np.float32),
        np.array([one.id for one in good], str),
        np.array([person for person, _, _ in kept], str),
    )
    crops = [crop for _, _, crop in kept if crop is not None]
    true_age = np.array([age for _, age, _ in kept], float)
    return BaseEstimates(results, place, faces, true_age, crops, stopped)


def with_doubts(found: BaseEstimates, base: AgePredictBasicPipeline) -> tuple[BaseEstimates, list[str]]:
    """The same, faces that this base can hardly read being doubtful, and a sentence if that cannot be said.

    Of a base whose intervals were never calibrated no face is doubtful by its estimate.
    """
    if not len(found.place) or not (base.folder / INTERVALS_FILE).is_file():
        return found, []
    try:
        calibrator = load_calibrator(base.folder, "bypass", base.fingerprint)
    except WeightsError as error:
        return found, [f"Faces that the base can hardly read are not named: {error}"]
    spreads = np.array([found.results[place].spread for place in found.place])
    results = list(found.results)
    for place, reason in zip(found.place, calibrator.doubts(found.faces.estimate, spreads), strict=True):
        if reason and results[place].status == OK:
            results[place] = replace(results[place], status=f"{DOUBTFUL}{reason}")
    return found._replace(results=results), []


def correct(base: BaseEstimates, corrector: CorrectsAges, oracle: bool = False, votes: bool = True) -> Correction:
    """The correction of all estimated faces; `oracle` retrieves at the true age, an upper bound, never an estimate."""
    rows = np.array([base.results[place].row for place in base.place], int)
    blocks = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows // CORRECT_BATCH)) + 1)
    parts = [
        corrector.correct(
            Faces(*(array[block] for array in base.faces)),
            base.true_age[block].astype(np.float32) if oracle else None,
            votes,
        )
        for block in blocks  # of the same rows, whatever failed before (see common/inference/shards.py)
    ]
    return joined(parts)


def with_correction(
    base: BaseEstimates, correction: Correction, bank: ReferenceBank | None, evidence: int
) -> list[FaceAge]:
    """The estimated faces [M] with their corrected ages; the first `evidence` of them with what is to be drawn."""
    faces = []
    for number, place in enumerate(base.place):
        rows = correction.index[number][correction.mask[number]]  # [R]
        votes = correction.vote[number][correction.mask[number]]
        age = float(correction.age[number])
        face = replace(
            base.results[place],
            age=age,
            references=len(rows),
            reference_ids=() if bank is None else tuple(name[:8] for name in bank.id[rows].tolist()),
            reference_spread=float(votes.std()) if len(rows) > 1 else NAN,
            further={name: values[number].item() for name, values in correction.further.items()},
        )
        if number < evidence and bank is not None:
            weights = correction.weight[number][correction.mask[number]]
            face = replace(face, evidence=Evidence(base.crops[number], bank.ages[rows], votes, weights, age))
        faces.append(face)
    return faces
