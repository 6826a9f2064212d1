"""From landmarks to an aligned face crop; RGB uint8 throughout."""

import cv2
import numpy as np
from skimage.transform import SimilarityTransform

from common.faces.photo_files import IMAGE_SUFFIXES as IMAGE_SUFFIXES

TEMPLATE_SIZE = 200
# Left eye, right eye, nose, left and right mouth corner (x, y) in the template frame.
TEMPLATE = ((60.0, 58.0), (138.0, 58.0), (98.0, 104.0), (63.0, 139.0), (132.0, 139.0))


def similarity_transform(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Least-squares similarity [2, 3] float64 from picture pixels to a crop of `size` pixels.

    `landmarks` [5, 2] are x, y of left eye, right eye, nose, left and right mouth corner. A pixel's coordinate
    is that of its centre. Raises ValueError if the landmarks are not finite or fall together.
    """
    landmarks = np.asarray(landmarks, float)
    if landmarks.shape != (5, 2):
        raise ValueError(f"landmarks must be [5, 2], not {landmarks.shape}.")
    if not np.isfinite(landmarks).all() or np.ptp(landmarks, axis=0).max() < 1:
        raise ValueError("landmarks must be finite and further apart than a pixel.")
    scale = size / TEMPLATE_SIZE
    target = (np.array(TEMPLATE) + 0.5) * scale - 0.5  # [5, 2] pixel centres of the smaller frame
    return SimilarityTransform.from_estimate(landmarks, target).params[:2]


def align_face(image: np.ndarray, landmarks: np.ndarray, size: int = 128) -> np.ndarray:
    """Turn, scale and cut a face out of [H, W, 3] uint8 so that its landmarks lie on the template.

    Returns [size, size, 3] uint8; beyond the picture its edge is repeated. Raises ValueError for degenerate
    landmarks.
    """
    matrix = similarity_transform(landmarks, size)
    shrink = 1 / np.hypot(matrix[0, 0], matrix[1, 0])  # picture pixels in a pixel of the crop
    if shrink > 1:
        # Warping samples single points, so a large face is first averaged down to the crop's resolution.
        height, width = (max(1, round(side / shrink)) for side in image.shape[:2])
        ratio = np.array([image.shape[1] / width, image.shape[0] / height])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        matrix = similarity_transform((np.asarray(landmarks, float) + 0.5) / ratio - 0.5, size)
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def resize_crop(crop: np.ndarray, size: int) -> np.ndarray:
    """Bring a ready crop [H, W, 3] uint8 to [size, size, 3]; the centre square if it is not square."""
    side = min(crop.shape[:2])
    top, left = (crop.shape[0] - side) // 2, (crop.shape[1] - side) // 2
    square = np.ascontiguousarray(crop[top : top + side, left : left + side])
    method = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return square if side == size else cv2.resize(square, (size, size), interpolation=method)
