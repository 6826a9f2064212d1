"""Photos of a visit, in memory: faces are found once for each content, ages once for each content and setting."""

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from common.data.dates import exif_date_of
from common.difference.bank import ReferenceBank
from common.errors import ImageError
from common.faces.identity import IdentityEncoder
from common.faces.images import Photo
from common.inference.estimates import Estimates, Face, FaceAge, Request
from common.inference.faces_drawn import draw_faces
from common.inference.inputs import faces_of
from common.pipeline import AgePipeline

PROBABILITY = 0.9  # of an interval to hold the age
PICTURE_SIDE = 720  # pixels; the longer side of a photo on the page, at most
FACE_SIDE = 96  # pixels of a face on the page
EXPLAINED = 10  # faces of a photo whose references can be looked at
MOST_KEPT = 400  # results of each kind that a visit remembers
MODES = {"corrected by references": "full", "base estimate alone": "bypass"}


@dataclass(frozen=True)
class Upload:
    """A file of the browser: its name there and its bytes."""

    name: str
    data: bytes

    @cached_property
    def id(self) -> str:
        """The SHA-1 of its bytes."""
        return hashlib.sha1(self.data).hexdigest()

    @cached_property
    def exif(self) -> tuple[str, str]:
        """When it was taken by its EXIF, and a date it is not later than (see `exif_date_of`)."""
        return exif_date_of(self.data), exif_date_of(self.data, trust_edit_date=True)


class Found(NamedTuple):
    """What a photo shows: its faces (or why there are none), itself as JPEG with numbered boxes, its faces as JPEGs."""

    faces: Sequence[Face | FaceAge]
    picture: bytes
    portraits: list[bytes]


class Own(NamedTuple):
    """References of a visitor's own: the bank, and whose of them correct (a name, or auto: whom each face shows)."""

    bank: ReferenceBank
    person: str

    @property
    def key(self) -> Hashable:
        """What tells these references from others."""
        return self.person, tuple(self.bank.id.tolist()), tuple(self.bank.ages.tolist()), tuple(self.bank.person)


class Workshop:
    """The weights, for all visits: at most so many photos are decoded at once, however many visits there are."""

    def __init__(self, pipeline: AgePipeline, at_once: int = 2):
        self.pipeline, self.encoder, self.turns = pipeline, IdentityEncoder(), threading.BoundedSemaphore(at_once)

    def find(self, upload: Upload, drawn: bool = True) -> Found:
        """The faces of a photo; one that cannot be used costs a sentence (the status of its only entry).

        Without `drawn` there are no JPEGs of it.
        """
        known = FaceAge(upload.name, id=upload.id)
        with self.turns:
            try:
                photo = Photo(upload.data, upload.name)
            except ImageError as error:
                return Found([replace(known, status=str(error).removeprefix(f"{upload.name}: "))], b"", [])
            faces = faces_of(photo, known, self.pipeline.base)
        if not drawn:
            return Found(faces, b"", [])
        boxes = [face.known.box for face in faces if isinstance(face, Face)]
        portraits = [jpeg_of(shrunk(face.crop, FACE_SIDE)) for face in faces if isinstance(face, Face)]
        return Found(faces, jpeg_of(numbered(photo, [box for box in boxes if box])), portraits)

    def estimate(
        self,
        found: Sequence[Found],
        mode: str,
        own: Own | None = None,
        evidence: int = 0,
        interval: float = PROBABILITY,
    ) -> Estimates:
        """Ages of the faces of photos, `row` numbering these, as DiffPipeline6__infer2.py gives them.

        `mode` is full or bypass. Own references correct only in the mode full. Raises DataError, WeightsError.
        """
        pipeline = self.pipeline if mode == "full" else self.pipeline.bypass()
        parts = [in_row(part, row) for row, one in enumerate(found) for part in one.faces]
        request = Request(interval=interval, votes=True, evidence=evidence)
        if own is not None and mode == "full":
            request = replace(request, references=[own.bank], person=own.person, evidence=0)
        return pipeline.estimate_faces(parts, request)


def in_row(part: Face | FaceAge, row: int) -> Face | FaceAge:
    """A face, or an image without one, as of this row of the inputs."""
    return replace(part, known=replace(part.known, row=row)) if isinstance(part, Face) else replace(part, row=row)


def numbered(photo: Photo, boxes: Sequence[tuple[float, float, float, float]]) -> np.ndarray:
    """A photo [h, w, 3] uint8, PICTURE_SIDE at most, with a box around each face and its number beside it."""
    image = Image.fromarray(shrunk(photo.draft, PICTURE_SIDE))
    scale = image.width / photo.size[0]
    small = [tuple(edge * scale for edge in box) for box in boxes]
    return np.asarray(draw_faces(image, [(box, str(number + 1)) for number, box in enumerate(small)]))


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """An image [H, W, 3] uint8 whose longer side is `side` pixels at most."""
    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    return np.asarray(picture)


def jpeg_of(image: np.ndarray) -> bytes:
    """The bytes of [H, W, 3] uint8 RGB as a JPEG."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=82)
    return stream.getvalue()


class Memory:
    """What was computed in one visit, by kind and key; of each kind the MOST_KEPT last used ones."""

    def __init__(self) -> None:
        self.kinds: dict[str, OrderedDict[Hashable, Any]] = {}

    def get(self, kind: str, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key, made if it is not there."""
        kept = self.kinds.setdefault(kind, OrderedDict())
        if key not in kept:
            kept[key] = make()
        kept.move_to_end(key)
        while len(kept) > MOST_KEPT:
            kept.popitem(last=False)
        return kept[key]


class Visit:
    """One visitor's photos and what they gave."""

    def __init__(self, workshop: Workshop):
        self.workshop, self.memory = workshop, Memory()
        self.typed: dict[str, Any] = {}  # what was typed, by what it is of

    def found(self, upload: Upload) -> Found:
        """The faces of a photo under the name it has now."""
        found = self.memory.get("found", upload.id, lambda: self.workshop.find(upload))
        return found._replace(faces=[named(part, upload.name) for part in found.faces])

    def ages(self, upload: Upload, mode: str) -> list[FaceAge]:
        """The ages in a photo without own references, and what they were made from; of one photo, row 0."""

        def make() -> list[FaceAge]:
            return self.workshop.estimate([self.found(upload)], mode, evidence=EXPLAINED).faces

        return [replace(face, photo=upload.name) for face in self.memory.get("ages", (upload.id, mode), make)]

    def with_own(self, uploads: Sequence[Upload], mode: str, own: Own) -> Estimates:
        """The ages in all these photos with own references, and what is to be told of them."""
        key = tuple((upload.id, upload.name) for upload in uploads), mode, own.key
        found = [self.found(upload) for upload in uploads]
        return self.memory.get("own", key, lambda: self.workshop.estimate(found, mode, own))


def named(part: Face | FaceAge, name: str) -> Face | FaceAge:
    """A face, or an image without one, of a photo that is called so."""
    return replace(part, known=replace(part.known, photo=name)) if isinstance(part, Face) else replace(part, photo=name)
