"""Faces in a photo: where they are, where their eyes, nose and mouth are, and their aligned crops."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from common.faces.alignment import align_face
from common.files import packaged

FIRST_SIDE = 640  # pixels of the longer side searched first: four times faster than 1300 and enough for portraits
SECOND_SIDE = 1600  # searched only if the first search found nothing: small faces
MIN_SCORE = 0.90
MIN_FACE = 20.0  # pixels in the searched picture
WEIGHTS_SHA256 = {
    "pnet.onnx": "4b2f1dc55be37d8f73d08cd4038c723d12b9fa90fceb7fa5a4461c4353fb87c5",
    "rnet.onnx": "3d8bed44df8fde6bf359806e8ff06f30dda2a9d63cf57aaff8a835d49edcbaee",
    "onet.onnx": "a42f0cbde62f8032ccc3299fd989a9909c8b185a72a360e247c6f953af366efd",
}
PADDING = 0.25  # of the longer side; a face that fills the picture is found only with something around it


class Face(NamedTuple):
    """box: left, top, right, bottom in pixels; landmarks [5, 2] float32 pixels x, y; score in 0..1."""

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float


class FaceCrop(NamedTuple):
    """A face and its aligned crop [S, S, 3] uint8 RGB."""

    face: Face
    crop: np.ndarray


class FaceDetector:
    """MTCNN (Zhang et al., 2016) from the package mtcnn-runtime, whose weights come with it."""

    def __init__(self):
        import mtcnnruntime
        from mtcnnruntime import MTCNN

        for name, digest in WEIGHTS_SHA256.items():
            packaged(Path(mtcnnruntime.__file__).parent / "weights" / name, digest, "mtcnn-runtime==1.0.0")
        self.network = MTCNN()

    def detect(self, image: np.ndarray) -> list[Face]:
        """Faces of a picture [H, W, 3] uint8 RGB, the largest first; an empty list if there is none.

        The picture is searched at 640 px, then, if nothing is found, at 1600 px, then with a border around it.
        """
        faces = self._search(image, FIRST_SIDE)
        if not faces and max(image.shape[:2]) > FIRST_SIDE:
            faces = self._search(image, SECOND_SIDE)
        if not faces:
            faces = self._search(image, FIRST_SIDE, PADDING)
        return sorted(faces, key=_area, reverse=True)

    def _search(self, image: np.ndarray, side: int, padding: float = 0) -> list[Face]:
        ratio = max(1.0, max(image.shape[:2]) * (1 + 2 * padding) / side)  # pixels of the picture in one searched
        size = (max(1, round(image.shape[1] / ratio)), max(1, round(image.shape[0] / ratio)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if ratio > 1 else image
        border = round(padding * max(small.shape[:2]))
        small = cv2.copyMakeBorder(small, border, border, border, border, cv2.BORDER_REPLICATE)
        try:
            boxes, landmarks = self.network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), MIN_FACE)
        except ValueError as error:
            if "need at least one array" in str(error):  # the package's first stage found no candidate at all
                return []
            raise
        faces = []
        for box, points in zip(boxes, landmarks, strict=True):
            marks = (np.stack([points[:5], points[5:]], axis=1).astype(np.float32) - border) * ratio  # [5, 2]
            if box[4] >= MIN_SCORE and np.ptp(marks, axis=0).min() >= 1:
                edges = tuple((float(edge) - border) * ratio for edge in box[:4])
                faces.append(Face(edges, marks, float(box[4])))
        return faces

    def crops(self, image: np.ndarray, size: int) -> list[FaceCrop]:
        """Every face of a picture with its aligned crop [size, size, 3] uint8, the largest face first."""
        return [FaceCrop(face, align_face(image, face.landmarks, size)) for face in self.detect(image)]


def _area(face: Face) -> float:
    left, top, right, bottom = face.box
    return (right - left) * (bottom - top)
