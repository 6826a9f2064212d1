"""Faces in a photo: where they are, where their eyes, nose and mouth are, and their aligned crops."""

from typing import NamedTuple

import numpy as np

from common.faces.alignment import align_face
from common.faces.doubt import doubt
from common.faces.images import Photo
from common.faces.looks import look_twice
from common.faces.scrfd import Candidates, Scrfd
from common.faces.search import SIDE, SMALL_FACE, longer_sides, scaled, search, search_finely, turn_boxes, turn_points

CROP = 128  # pixels of the crop by which doubt is judged
WHOLE_BELOW = 118.0  # pixels of a box in the draft of a photo below which such a crop would be enlarged


class Face(NamedTuple):
    """A face in a photo as it is displayed.

    box: left, top, right, bottom in pixels; landmarks [5, 2] float32 pixels x, y; score in 0..1; turned: degrees (0,
    90, 180 or 270) by which the photo must be turned counter-clockwise for its faces to stand upright; doubtful: why
    its age should not be trusted, or ''.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float
    turned: int = 0
    doubtful: str = ""


class FaceCrop(NamedTuple):
    """A face and its aligned crop [S, S, 3] uint8 RGB."""

    face: Face
    crop: np.ndarray


class FaceDetector:
    """SCRFD at several sizes and in four turns, then a second look at every face; threads may share one."""

    def __init__(self, network: Scrfd | None = None):
        self.network = network or Scrfd()

    def detect(self, image: np.ndarray | Photo) -> list[Face]:
        """Faces of an image [H, W, 3] uint8 RGB or a Photo, the largest first; an empty list if there is none.

        Raises WeightsError if the network is missing, ImageError if the whole of a Photo cannot be decoded.
        """
        return [found.face for found in self.crops(image, CROP)]

    def crops(self, image: np.ndarray | Photo, size: int) -> list[FaceCrop]:
        """Every face of an image with its aligned crop [size, size, 3] uint8, the largest face first; as `detect`."""
        upright, found, turns, ratio = self._search(image)
        if not len(found.boxes):
            return []
        height, width = upright.shape[:2]
        seen, moved = look_twice(self.network, upright, found.boxes)
        boxes = turn_boxes(seen.boxes, -turns, width, height) * ratio
        landmarks = turn_points(seen.landmarks, -turns, width, height) * ratio
        faces = []
        for row in np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable").tolist():
            crop = align_face(upright, seen.landmarks[row], CROP)
            reason = doubt(float(np.ptp(seen.boxes[row, ::2])) * ratio, float(seen.scores[row]), moved[row], crop)
            left, top, right, bottom = boxes[row].tolist()
            face = Face((left, top, right, bottom), landmarks[row], float(seen.scores[row]), turns * 90, reason)
            crop = crop if size == CROP else align_face(upright, seen.landmarks[row], size)
            faces.append(FaceCrop(face, crop))
        return faces

    def _search(self, image: np.ndarray | Photo) -> tuple[np.ndarray, Candidates, int, float]:
        """An image [H, W, 3] turned upright, candidates in it, quarter turns, and the photo's pixels in one of it.

        The whole of a Photo is decoded only if a face is small or none is found.
        """
        picture = image.draft if isinstance(image, Photo) else image
        longer = max(picture.shape[:2])
        found, turns = search(self.network, picture)
        smallest = longer_sides(found).min(initial=np.inf) if len(found.boxes) else 0.0
        if isinstance(image, Photo) and smallest < WHOLE_BELOW:
            found = scaled(found, max(image.whole.shape[:2]) / longer)
            picture = image.whole
        upright = np.rot90(picture, turns)
        if max(picture.shape[:2]) > SIDE and smallest < SMALL_FACE * max(1.0, longer / SIDE):
            found = search_finely(self.network, upright, found)
        size = image.size if isinstance(image, Photo) else picture.shape[1::-1]
        return upright, found, turns, max(size) / max(picture.shape[:2])
