"""Why an age should not be trusted: the face is small, dark, blurred, covered, or hardly a face to the detector.

The limits were chosen on FG-NET and studio portraits, clean and with changes drawn over them
(scripts/research/compare_detectors.py): they put 1 % of the clean faces in doubt.
"""

import cv2
import numpy as np

from common.faces.alignment import TEMPLATE_SIZE

SMALLEST_WIDTH = 20.0  # pixels of the box; ages of smaller faces differ by more than 2 years from those of large ones
LEAST_SCORE = 0.6  # of the face at a width of 40 pixels
MOST_MOVED = 0.15  # root mean square difference of landmarks found at two sizes, in distances of the eyes
LEAST_CONTRAST = 6.0  # standard deviation of grey levels
LEAST_DETAIL = 2.1  # standard deviation of their Laplacian
DARKEST_EYES = 0.33  # grey level around the lighter eye, in that of the cheeks
EYES, CHEEKS = ((58, 62), (140, 62)), ((58, 105), (140, 105))  # centres in the frame of 200 pixels
EYE_REACH, CHEEK_REACH = (22, 12), (14, 10)  # half widths and heights of the places looked at


def doubt(width: float, score: float, moved: float, crop: np.ndarray) -> str:
    """Why the age of a face is doubtful, in a few words; '' if nothing speaks against it.

    Parameters
    ----------
    width : of its box, pixels of the photo
    score : the detector's for the face at a width of 40 pixels, 0..1
    moved : root mean square difference of its landmarks found at two sizes, in distances of its eyes
    crop : aligned, [128, 128, 3] uint8 RGB
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)  # [S, S]
    edge = round(0.16 * len(grey))
    face = grey[edge:-edge, edge:-edge]
    if width < SMALLEST_WIDTH:
        return f"the face is only {width:.0f} pixels wide"
    if face.std() < LEAST_CONTRAST:
        return "the face is too dark" if face.mean() < 100 else "the face has hardly any contrast"
    if cv2.Laplacian(face, cv2.CV_32F).std() < LEAST_DETAIL:
        return "the face is out of focus"
    cheeks = np.mean([_level(grey, place, CHEEK_REACH) for place in CHEEKS])
    if max(_level(grey, place, EYE_REACH) for place in EYES) < DARKEST_EYES * cheeks:
        return "the eyes are covered"
    if score < LEAST_SCORE or moved > MOST_MOVED:
        return "the face is hard to see"
    return ""


def _level(grey: np.ndarray, place: tuple[int, int], reach: tuple[int, int]) -> float:
    """Mean grey level of [S, S] around a place of the frame."""
    scale = len(grey) / TEMPLATE_SIZE
    (left, right), (top, bottom) = (
        (round((at - far) * scale), round((at + far) * scale)) for at, far in zip(place, reach, strict=True)
    )
    return float(grey[top:bottom, left:right].mean())
