"""Photos or crops in, ages out, in a few lines of Python: base ages, and ages corrected by references.

>>> pipeline = AgePipeline.from_weights()                                       # doctest: +SKIP
>>> for face in pipeline.estimate(["a.jpg", "b.jpg"], interval=0.9):            # doctest: +SKIP
...     print(face.photo, face.age, face.low, face.high)
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from common.base.intervals import IntervalCalibrator, bounds, load_calibrator
from common.base.regressor import RELEASED as RELEASED
from common.base.regressor import AgePredictBasicPipeline as AgePredictBasicPipeline
from common.base.regressor import AgePrediction as AgePrediction
from common.base.regressor import pick_device as pick_device
from common.data.predictions import NOT_FINITE
from common.difference.bank import ReferenceBank, concatenate, load_bank
from common.difference.corrector import CorrectsAges, load_corrector
from common.difference.own_references import UserReferences
from common.difference.own_settings import load_settings
from common.errors import DataError, ImageError, WeightsError
from common.faces.alignment import resize_crop
from common.faces.images import SMALLEST_SIDE, decode_image
from common.faces.images import Photo as PhotoFile
from common.faces.photo_files import read_bytes
from common.files import WEIGHTS
from common.inference.estimates import (
    BaseEstimates,
    Estimates,
    Face,
    Request,
    correct,
    estimate_base,
    with_correction,
    with_doubts,
)
from common.inference.estimates import FaceAge as FaceAge
from common.inference.inputs import NO_FACE as NO_FACE
from common.inference.inputs import faces_of
from common.inference.own import correct_by_own, own_votes, unrecognised, who_is_asked

Photo: TypeAlias = str | Path | Image.Image | np.ndarray
Bank: TypeAlias = str | Path | ReferenceBank


class AgePipeline:
    """Photos in, ages out: faces found, aligned, estimated by a base, corrected by references, with intervals.

    `corrector` None leaves the base's ages; `weights` is the folder whose calibration the intervals are of.
    """

    def __init__(self, base: AgePredictBasicPipeline, corrector: CorrectsAges | None, weights: Path):
        self.base, self.corrector, self.weights = base, corrector, weights

    @classmethod
    def from_weights(
        cls,
        weights: str | Path = "DiffPipeline6",
        device: str = "auto",
        precision: str = "float32",
        threads: int | None = None,
    ) -> "AgePipeline":
        """Load a folder of weights, or one of weights/ by its name: of DiffPipeline6, or of a base alone.

        `precision` is float32 or int8 (on a CPU: nearly twice as fast, ages half a year off); `threads` compute on a
        CPU (None: OMP_NUM_THREADS, or all cores). Raises WeightsError.
        """
        if precision not in ("float32", "int8"):
            raise WeightsError(f"precision must be float32 or int8, not '{precision}'.")
        folder = Path(weights)
        if len(folder.parts) == 1 and not (folder / "config.json").is_file() and (WEIGHTS / folder).is_dir():
            folder = WEIGHTS / folder
        if (folder / "bank.npz").is_file():
            corrector = load_corrector(folder, device, threads)
            pipeline = cls(corrector.pipeline, corrector, folder)
        else:
            pipeline = cls(AgePredictBasicPipeline.from_weights(folder, device, threads), None, folder)
        if precision == "int8":
            pipeline.base.use_int8()
        return pipeline

    def bypass(self) -> "AgePipeline":
        """The same without the correction by references: the base's ages, their intervals."""
        return AgePipeline(self.base, None, self.weights)

    def estimate(
        self,
        images: Photo | Iterable[Photo],
        references: Bank | Sequence[Bank] | None = None,
        person: str | None = None,
        interval: float | None = None,
    ) -> list[FaceAge]:
        """Ages of all faces of one or many photos, photo by photo, the largest face of each first.

        Parameters
        ----------
        images : files, PIL images, or arrays [H, W, 3] uint8 RGB (of one size also [N, H, W, 3])
        references : banks of your own (files that build_reference_bank.py wrote, or ReferenceBank objects)
        person : whose own references correct; if the banks hold identities, only the faces recognised as theirs;
            "auto" recognises everybody
        interval : also give low and high, which hold the age with this probability

        Returns
        -------
        At least one FaceAge for each photo; of one that cannot be read, or shows no face, the status says why. Raises
        ImageError for what is no photo, WeightsError for a bad bank, DataError for an unknown person.
        """
        found = (part for number, image in enumerate(_many(images)) for part in self._faces(image, number))
        return self._answer(found, references, person, interval)

    def estimate_crops(
        self,
        crops: Photo | Iterable[Photo],
        references: Bank | Sequence[Bank] | None = None,
        person: str | None = None,
        interval: float | None = None,
    ) -> list[FaceAge]:
        """Ages of aligned face crops of any size, of which an array is [S, S, 3] uint8 RGB; otherwise as `estimate`.

        An image of a bank is never its own reference: it is known by the bytes of its file, an array is not.
        """
        found = (self._crop(crop, number) for number, crop in enumerate(_many(crops)))
        return self._answer(found, references, person, interval)

    def estimate_faces(self, found: Iterable[Face | FaceAge], request: Request = Request()) -> Estimates:  # noqa: B008
        """Ages of faces that were found before, read one by one; an image without a face passes through.

        Raises WeightsError for a bad bank or bad intervals, DataError for an unknown person.
        """
        if request.person and not request.references:
            raise DataError("person names whose references in a bank to use; give the bank as references.")
        own = self._own(request.references) if request.references else None
        calibrator = self._calibrator(request.interval, own is None) if request.interval is not None else None
        looked_at_again = bool(request.person) or request.evidence > 0
        base = estimate_base(found, self.base, request.batch_size, looked_at_again)
        base, notes = with_doubts(base, self.base)
        if not len(base.place):
            return Estimates(base.results, [], base.stopped)
        faces = [base.results[place] for place in base.place]
        if self.corrector is not None:
            votes = request.votes or request.evidence > 0
            correction = correct(base, self.corrector, request.oracle, votes)
            faces = with_correction(base, correction, getattr(self.corrector, "bank", None), request.evidence)
        factor: np.ndarray | float = 1.0
        if own is not None:
            faces, factor, told = _with_own(faces, base, own, request)
            notes += told
        if calibrator is not None and request.interval is not None:
            spreads = np.array([face.spread for face in faces])
            half_width = calibrator.half_width(base.faces.estimate, spreads, request.interval)
            faces = _with_interval(faces, half_width * factor)
        results = list(base.results)
        for place, face in zip(base.place, faces, strict=True):
            results[place] = face if np.isfinite(face.age) else _no_number(face)
        return Estimates(results, notes, base.stopped)

    def _answer(
        self,
        found: Iterable[Face | FaceAge],
        references: Bank | Sequence[Bank] | None,
        person: str | None,
        interval: float | None,
    ) -> list[FaceAge]:
        banks = [references] if isinstance(references, str | Path | ReferenceBank) else list(references or ())
        estimates = self.estimate_faces(found, Request(banks, person, interval=interval))
        if estimates.stopped:
            raise KeyboardInterrupt
        return estimates.faces

    def _crop(self, image: Photo, number: int) -> Face | FaceAge:
        name = str(image) if isinstance(image, str | Path) else str(number)
        try:
            pixels, digest = _pixels(image, f"crop {number}")
            if pixels.shape[0] != pixels.shape[1]:
                raise ImageError(f"{name}: a crop must be square, not {pixels.shape[1]} x {pixels.shape[0]} pixels.")
        except ImageError as error:
            if not isinstance(image, str | Path):
                raise
            return FaceAge(name, status=str(error).removeprefix(f"{name}: "), row=number)
        known = FaceAge(name, 0, id=digest, row=number)
        return Face(known, resize_crop(pixels, self.base.config.crop_size))

    def _faces(self, image: Photo, number: int) -> Sequence[Face | FaceAge]:
        name = str(image) if isinstance(image, str | Path) else str(number)
        try:
            pixels, digest = _photo(image, f"image {number}")
        except ImageError as error:
            if not isinstance(image, str | Path):
                raise
            return [FaceAge(name, status=str(error).removeprefix(f"{name}: "), row=number)]
        return faces_of(pixels, FaceAge(name, id=digest, row=number), self.base)

    def _calibrator(self, probability: float, full: bool) -> IntervalCalibrator:
        """That of the weights; not `full`: that of the base, whose estimates own references correct."""
        if full and self.corrector is not None:
            calibrator = load_calibrator(self.weights, "full", self.base.fingerprint)
        else:
            folder = self.weights if self.corrector is None else self.base.folder
            calibrator = load_calibrator(folder, "bypass", self.base.fingerprint)
        calibrator.half_width(np.zeros(0), np.zeros(0), probability)  # raises DataError for an impossible one
        return calibrator

    def _own(self, banks: Sequence[Bank]) -> UserReferences:
        own = [bank if isinstance(bank, ReferenceBank) else load_bank(bank, self.base.fingerprint) for bank in banks]
        if any(bank.fingerprint != self.base.fingerprint for bank in own):
            raise WeightsError("A reference bank was made with other base weights; build it anew with these.")
        if any(bank.seen.any() for bank in own):
            raise WeightsError(
                "A bank given as your own references is the training bank of some weights; give one that "
                "scripts/build_reference_bank.py made of your photos."
            )
        return UserReferences(concatenate(own), load_settings(self.base.folder))


def _with_own(
    faces: list[FaceAge], base: BaseEstimates, user: UserReferences, request: Request
) -> tuple[list[FaceAge], np.ndarray | float, list[str]]:
    """Faces [M] corrected by own references, the factor [M] of their intervals, and what is to be told."""
    asked = who_is_asked(base.crops, base.faces.id, user.bank, request.person, request.false_match_rate)
    before = np.array([face.age for face in faces])  # [M] years
    own = correct_by_own(base.faces, before, user, asked, request.person, request.interval)
    warned = unrecognised(np.array([face.row for face in faces]), user.bank, request.person)
    corrected = []
    for number, face in enumerate(faces):
        count, evidence = int(own.references[number]), face.evidence
        if evidence is not None and count:
            evidence = replace(evidence, own=own_votes(base.faces, number, user, str(asked[number])))
        corrected.append(
            replace(
                face, age=float(own.age[number]), references=face.references + count, person=str(asked[number]),
                evidence=evidence,
            )
        )  # fmt: skip
    return corrected, 1.0 if own.factor is None else own.factor, warned + own.notes


def _with_interval(faces: list[FaceAge], half_width: np.ndarray) -> list[FaceAge]:
    low, high = bounds(np.array([face.age for face in faces]), half_width)
    ends = zip(faces, low.tolist(), high.tolist(), strict=True)
    return [replace(face, low=least, high=most) for face, least, most in ends]


def _no_number(face: FaceAge) -> FaceAge:
    nan = float("nan")
    return replace(face, base_age=nan, age=nan, low=nan, high=nan, status=NOT_FINITE)


def _many(images: Photo | Iterable[Photo]) -> list[Photo]:
    if isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [images]
    return list(images)


def _photo(image: Photo, name: str) -> tuple[np.ndarray | PhotoFile, str]:
    """A photo to find faces in, and the SHA-1 of its file (of its pixels, where it is none)."""
    if isinstance(image, str | Path):
        data = read_bytes(image, str(image))
        return PhotoFile(data, str(image)), hashlib.sha1(data).hexdigest()
    return _pixels(image, name)


def _pixels(image: Photo, name: str) -> tuple[np.ndarray, str]:
    """A photo as [H, W, 3] uint8 RGB, and the SHA-1 of its file (of its pixels, where it is none)."""
    if isinstance(image, str | Path):
        data = read_bytes(image, str(image))
        return decode_image(data, str(image)), hashlib.sha1(data).hexdigest()
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    pixels = np.ascontiguousarray(_checked(image, name))
    return pixels, hashlib.sha1(pixels.tobytes()).hexdigest()


def _checked(image: np.ndarray, name: str) -> np.ndarray:
    """The image; raises ImageError unless it is [H, W, 3] uint8 and large enough to show a face."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"{name} must be a file, a PIL image or an array, not {type(image).__name__}.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"{name} must be [H, W, 3] uint8 RGB from 0 to 255, not {list(image.shape)} {image.dtype}.")
    if min(image.shape[:2]) < SMALLEST_SIDE:
        raise ImageError(f"{name} is only {image.shape[1]} x {image.shape[0]} pixels; {SMALLEST_SIDE} are needed.")
    return image
