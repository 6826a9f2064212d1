"""Who is shown: face-recognition embeddings of aligned crops, and the match of a face to the people of a bank.

The base's embedding was trained for age and hardly tells people apart; this one was trained for that. Its packages are
optional (requirements-auto.txt), and nothing but `--person auto` needs them.
"""

import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from skimage.transform import SimilarityTransform

from common.crops import TEMPLATE, TEMPLATE_SIZE
from common.errors import DataError, WeightsError
from common.paths import WEIGHTS

THRESHOLDS = WEIGHTS / "identity.json"  # made by scripts/calibrate_identity.py
MODEL = "models/dlib_face_recognition_resnet_model_v1.dat"
CHIP_SIZE = 150
# The landmarks of common/crops.py in dlib's face chips, as parts of the 100 px within their padding of 25.
CHIP = np.array([(0.2273, 0.2214), (0.7528, 0.2212), (0.4901, 0.5156), (0.2541, 0.7802), (0.7261, 0.7802)]) * 100 + 25
TOGETHER = 32


class IdentityEncoder:
    """dlib's face-recognition network (ResNet, 2017, public domain): photos of one person are near each other.

    Raises DataError if its packages are not installed.
    """

    def __init__(self):
        models = importlib.util.find_spec("face_recognition_models")
        if models is None or importlib.util.find_spec("dlib") is None:
            raise DataError("Recognising people needs two more packages; pip install -r requirements-auto.txt")
        import dlib

        self.network = dlib.face_recognition_model_v1(str(Path(models.submodule_search_locations[0]) / MODEL))

    def __call__(self, crops: Iterable[np.ndarray]) -> np.ndarray:
        """Identity embeddings [N, 128] float32 of aligned crops, each [S, S, 3] uint8 RGB."""
        chips = [face_chip(np.asarray(crop)) for crop in crops]
        parts = [
            np.array(self.network.compute_face_descriptor(chips[start : start + TOGETHER]), np.float32)
            for start in range(0, len(chips), TOGETHER)
        ]
        return np.concatenate([np.empty((0, 128), np.float32), *parts])


def face_chip(crop: np.ndarray) -> np.ndarray:
    """An aligned crop [S, S, 3] uint8 as the chip [150, 150, 3] that dlib's network was trained on."""
    scale = len(crop) / TEMPLATE_SIZE
    landmarks = (np.array(TEMPLATE) + 0.5) * scale - 0.5  # [5, 2]
    matrix = SimilarityTransform.from_estimate(landmarks, CHIP).params[:2]
    return np.ascontiguousarray(cv2.warpAffine(crop, matrix, (CHIP_SIZE, CHIP_SIZE), borderMode=cv2.BORDER_REPLICATE))


def threshold(rate: float, comparisons: int, path: Path = THRESHOLDS) -> float:
    """Distance below which a stranger is with probability `rate` at most, over so many comparisons with photos.

    Read off the calibration by scripts/calibrate_identity.py, the logarithm of the rate being interpolated. Raises
    DataError for a rate outside (0, 1), or one so small that it was not calibrated; WeightsError for a bad file.
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
    bank_person : [N] str; photos of nobody named ('') match nobody
    allowed : [B, N] bool, the photos that a face may be compared with (never itself)
    limit : Euclidean distance that the nearest photo must be within
    """
    squares = (identity**2).sum(1)[:, None] + (bank_identity**2).sum(1)[None] - 2 * identity @ bank_identity.T
    distance = np.sqrt(np.maximum(squares, 0))  # [B, N]
    distance = np.where(allowed & (bank_person != "")[None], distance, np.inf)
    nearest = distance.argmin(axis=1)
    return np.where(distance[np.arange(len(identity)), nearest] < limit, bank_person[nearest], "").astype(str)
