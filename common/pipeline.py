"""Photos or crops in, ages out, in a few lines of Python: base ages, and ages corrected by references.

>>> pipeline = AgePipeline.from_weights()                                       # doctest: +SKIP
>>> for face in pipeline.estimate(["a.jpg", "b.jpg"], interval=0.9):            # doctest: +SKIP
...     print(face.photo, face.age, face.low, face.high)
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from common.base.distribution import spread
from common.base.intervals import SMALLEST_BANK, bounds, load_calibrator
from common.base.regressor import RELEASED as RELEASED
from common.base.regressor import AgePredictBasicPipeline as AgePredictBasicPipeline
from common.base.regressor import AgePrediction as AgePrediction
from common.base.regressor import pick_device as pick_device
from common.data.labels import OLDEST
from common.data.predictions import OK
from common.difference.bank import ReferenceBank, concatenate, load_bank
from common.difference.corrector import CorrectsAges, Faces, load_corrector
from common.difference.own_references import UserReferences, start_of
from common.errors import DataError, ImageError, WeightsError
from common.faces.alignment import resize_crop
from common.faces.images import SMALLEST_SIDE, decode_image
from common.faces.photo_files import read_bytes
from common.files import WEIGHTS
from common.inference.inputs import NO_FACE as NO_FACE
from common.inference.own_table import user_half_width, who_is_asked

NAN = float("nan")

Photo: TypeAlias = str | Path | Image.Image | np.ndarray
Bank: TypeAlias = str | Path | ReferenceBank


@dataclass(frozen=True)
class FaceAge:
    """The age of one face, or why a photo has none.

    photo: the name it was given by, or its number; face: number among the faces of the photo, the largest first (None
    without one); box: left, top, right, bottom in pixels (None for crops); base_age, age, low, high: years (NaN where
    there is none); references: how many corrected the age; status: ok, or what is wrong.
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


class _Found(NamedTuple):
    """A face to estimate: what is known of it, its crop [S, S, 3] uint8 RGB, SHA-1 of its photo."""

    known: FaceAge
    crop: np.ndarray
    id: str


class AgePipeline:
    """Photos in, ages out: faces found, aligned, estimated by a base, corrected by references, with intervals.

    `corrector` None leaves the base's ages; `weights` is the folder whose calibration the intervals are of.
    """

    def __init__(self, base: AgePredictBasicPipeline, corrector: CorrectsAges | None, weights: Path):
        self.base, self.corrector, self.weights = base, corrector, weights

    @classmethod
    def from_weights(
        cls, weights: str | Path = "DiffPipeline6", device: str = "auto", precision: str = "float32"
    ) -> "AgePipeline":
        """Load a folder of weights, or one of weights/ by its name: of DiffPipeline6, or of a base alone.

        `precision` is float32 or int8 (on a CPU: nearly twice as fast, ages half a year off). Raises WeightsError.
        """
        if precision not in ("float32", "int8"):
            raise WeightsError(f"precision must be float32 or int8, not '{precision}'.")
        folder = Path(weights)
        if len(folder.parts) == 1 and not (folder / "config.json").is_file():
            folder = WEIGHTS / folder
        if (folder / "bank.npz").is_file():
            corrector = load_corrector(folder, device)
            pipeline = cls(corrector.pipeline, corrector, folder)
        else:
            pipeline = cls(AgePredictBasicPipeline.from_weights(folder, device), None, folder)
        if precision == "int8":
            pipeline.base.compute_in_8_bits()
        return pipeline

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
        person : whose own references correct every face; "auto" recognises each
        interval : also give low and high, which hold the age with this probability

        Returns
        -------
        At least one FaceAge for each photo; of one that cannot be read, or shows no face, the status says why. Raises
        ImageError for what is no photo, WeightsError for a bad bank, DataError for an unknown person.
        """
        found = [part for number, image in enumerate(_many(images)) for part in self._faces(image, number)]
        return self._estimate(found, references, person, interval)

    def estimate_crops(
        self,
        crops: Photo | Iterable[Photo],
        references: Bank | Sequence[Bank] | None = None,
        person: str | None = None,
        interval: float | None = None,
    ) -> list[FaceAge]:
        """Ages of aligned face crops of any size, of which an array is [S, S, 3] uint8 RGB; otherwise as `estimate`.

        A picture of a bank is never its own reference: it is known by the bytes of its file, an array is not.
        """
        found = [self._crop(crop, number) for number, crop in enumerate(_many(crops))]
        return self._estimate(found, references, person, interval)

    def _crop(self, image: Photo, number: int) -> _Found | FaceAge:
        name = str(image) if isinstance(image, str | Path) else str(number)
        try:
            pixels, digest = _pixels(image, f"crop {number}")
            if pixels.shape[0] != pixels.shape[1]:
                raise ImageError(f"{name}: a crop must be square, not {pixels.shape[1]} x {pixels.shape[0]} pixels.")
        except ImageError as error:
            if not isinstance(image, str | Path):
                raise
            return FaceAge(name, status=str(error).removeprefix(f"{name}: "))
        return _Found(FaceAge(name, 0), resize_crop(pixels, self.base.model.config.crop_size), digest)

    def _faces(self, image: Photo, number: int) -> list[_Found | FaceAge]:
        name = str(image) if isinstance(image, str | Path) else str(number)
        try:
            pixels, digest = _pixels(image, f"image {number}")
        except ImageError as error:
            if not isinstance(image, str | Path):
                raise
            return [FaceAge(name, status=str(error).removeprefix(f"{name}: "))]
        faces = self.base.faces(pixels)
        known = (FaceAge(name, place, face.box) for place, (face, _) in enumerate(faces))
        found = [_Found(face, part.crop, digest) for face, part in zip(known, faces, strict=True)]
        return list(found) or [FaceAge(name, status=NO_FACE)]

    def _estimate(
        self,
        found: Sequence[_Found | FaceAge],
        references: Bank | Sequence[Bank] | None,
        person: str | None,
        interval: float | None,
    ) -> list[FaceAge]:
        faces = [part for part in found if isinstance(part, _Found)]
        if isinstance(references, str | Path | ReferenceBank):
            references = [references]
        if person and not references:
            raise DataError("person names whose references in a bank to use; give the bank as references.")
        ages = iter(self._ages(faces, references or [], person, interval) if faces else [])
        return [next(ages) if isinstance(part, _Found) else part for part in found]

    def _ages(
        self, found: Sequence[_Found], banks: Sequence[Bank], person: str | None, interval: float | None
    ) -> list[FaceAge]:
        base = self.base.predict(np.stack([part.crop for part in found]))
        ids, start = np.array([part.id for part in found]), base.ages.astype(float)  # [N]
        faces = Faces(base.embeddings, base.ages, ids, np.full(len(found), ""))
        age, counts = start, np.zeros(len(found), int)
        if self.corrector is not None:
            correction = self.corrector.correct(faces, votes=False)
            age, counts = correction.age.astype(float), correction.mask.sum(axis=1)
        half_width = np.full(len(found), NAN)
        if banks:
            user = self._own(banks)
            asked = who_is_asked([part.crop for part in found], ids, user.bank, person)
            shifts = user.shifts(faces, age, asked)
            age, counts = np.clip(age + shifts.domain + shifts.personal, 0, OLDEST), counts + shifts.references
            if interval is not None and len(user.bank) >= SMALLEST_BANK:
                half_width = user_half_width(user, asked, interval)
        elif interval is not None:
            calibrator = load_calibrator(self.weights, "bypass" if self.corrector is None else "full")
            half_width = calibrator.half_width(start, spread(base.log_probs, self.base.ages), interval)
        low, high = bounds(age, half_width)
        return [
            replace(part.known, base_age=first, age=last, low=least, high=most, references=count)
            for part, first, last, least, most, count in zip(
                found, start.tolist(), age.tolist(), low.tolist(), high.tolist(), counts.tolist(), strict=True
            )
        ]

    def _own(self, banks: Sequence[Bank]) -> UserReferences:
        own = [bank if isinstance(bank, ReferenceBank) else load_bank(bank, self.base.fingerprint) for bank in banks]
        if any(bank.fingerprint != self.base.fingerprint for bank in own):
            raise WeightsError("A reference bank was made with other base weights; build it anew with these.")
        bank = concatenate(own)
        if self.corrector is None:
            return UserReferences(bank, bank.estimates.astype(float))
        return start_of(self.corrector, bank)


def _many(images: Photo | Iterable[Photo]) -> list[Photo]:
    if isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [images]
    return list(images)


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
