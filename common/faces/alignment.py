"""From landmarks to an aligned face crop; RGB uint8 throughout."""

from collections.abc import Sequence

import cv2
import numpy as np

from common.faces.photo_files import IMAGE_SUFFIXES as IMAGE_SUFFIXES

TEMPLATE_SIZE = 200
# The frame: left eye, right eye, nose, left and right mouth corner (x, y); medians of MTCNN's landmarks over UTKFace.
TEMPLATE = ((60.0, 58.0), (138.0, 58.0), (98.0, 104.0), (63.0, 139.0), (132.0, 139.0))
# Where the landmarks of common/faces/detection.py lie in the same frame; their medians over the same crops
# (scripts/research/compare_detectors.py --fit prints them).
LANDMARK_TARGETS = ((59.1, 58.2), (138.7, 56.9), (98.9, 104.7), (65.7, 138.0), (133.7, 136.9))


def similarity_transform(
    landmarks: np.ndarray, size: int, targets: Sequence[Sequence[float]] = LANDMARK_TARGETS
) -> np.ndarray:
    """Least-squares similarity [2, 3] float64 from image pixels to a crop of `size` pixels.

    `landmarks` [5, 2] are x, y of left eye, right eye, nose, left and right mouth corner, `targets` where these lie in
    the frame of 200 pixels. A pixel's coordinate is that of its centre. Raises ValueError if the landmarks are not
    finite or fall together.
    """
    landmarks = np.asarray(landmarks, float)
    if landmarks.shape != (5, 2):
        raise ValueError(f"landmarks must be [5, 2], not {landmarks.shape}.")
    if not np.isfinite(landmarks).all() or np.ptp(landmarks, axis=0).max() < 1:
        raise ValueError("landmarks must be finite and further apart than a pixel.")
    return fit_similarity(landmarks, (np.array(targets) + 0.5) * size / TEMPLATE_SIZE - 0.5)


def fit_similarity(start: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity [2, 3] float64 (never a mirror image) from points [N, 2] to points [N, 2]."""
    points, goals = (pairs - pairs.mean(axis=0) for pairs in (start, target))
    x, y = points.T
    turn = np.array([(points * goals).sum(), (x * goals[:, 1] - y * goals[:, 0]).sum()]) / (points**2).sum()
    linear = np.array([[turn[0], -turn[1]], [turn[1], turn[0]]])
    return np.hstack([linear, (target.mean(axis=0) - linear @ start.mean(axis=0))[:, None]])


def align_face(image: np.ndarray, landmarks: np.ndarray, size: int = 128) -> np.ndarray:
    """Turn, scale and cut a face out of [H, W, 3] uint8 so that its landmarks lie on their targets.

    Returns [size, size, 3] uint8; beyond the image its edge is repeated. Raises ValueError for degenerate
    landmarks.
    """
    return warp(image, similarity_transform(landmarks, size), size)


def warp(image: np.ndarray, matrix: np.ndarray, size: int, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
    """Cut [size, size, 3] uint8 out of [H, W, 3] by a similarity [2, 3] from image pixels to pixels of the cut.

    Only the part that is needed is looked at. Where it shrinks, pixels are averaged first, because warping samples
    single points. Beyond the image stands what OpenCV's `border` says (a constant one is middle grey).
    """
    shrink = 1 / np.hypot(matrix[0, 0], matrix[1, 0])  # image pixels in a pixel of the cut
    corners = np.array([(0, 0), (size, 0), (0, size), (size, size)], float)
    back = cv2.invertAffineTransform(matrix)
    reach = corners @ back[:, :2].T + back[:, 2]  # [4, 2] in the image
    sides = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(reach.min(axis=0) - 3 * shrink - 3), 0, sides - 1).astype(int)
    high = np.clip(np.ceil(reach.max(axis=0) + 3 * shrink + 3), low + 1, sides).astype(int)
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    matrix = np.hstack([matrix[:, :2], matrix[:, 2:] + matrix[:, :2] @ low[:, None]])
    if shrink > 1:
        width, height = (max(1, round(side / shrink)) for side in high - low)
        ratio = (high - low) / (width, height)
        part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
        matrix = np.hstack([matrix[:, :2] * ratio, matrix[:, 2:] + matrix[:, :2] @ (ratio / 2 - 0.5)[:, None]])
    return cv2.warpAffine(
        part, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=border, borderValue=(127, 127, 127)
    )


def resize_crop(crop: np.ndarray, size: int) -> np.ndarray:
    """Bring a ready crop [H, W, 3] uint8 to [size, size, 3]; the centre square if it is not square."""
    side = min(crop.shape[:2])
    top, left = (crop.shape[0] - side) // 2, (crop.shape[1] - side) // 2
    square = np.ascontiguousarray(crop[top : top + side, left : left + side])
    method = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return square if side == size else cv2.resize(square, (size, size), interpolation=method)
