"""A second look at faces that were found: each alone, at a size at which the detector is at its best.

Small windows (40 pixels a face) tell upright faces from turned ones best, larger ones (128) place the landmarks best;
both are independent of how large the face is in its photo.
"""

from typing import NamedTuple

import cv2
import numpy as np

from common.faces.alignment import warp
from common.faces.scrfd import Candidates, Scrfd, unlike_earlier

TOGETHER = 16  # windows in one run
LEAST = 0.02  # score below which nothing is seen in a window
MIN_LOOK = 0.5  # score of the better of two looks at a face alone; below it, it is none


class Size(NamedTuple):
    """Pixels of a face (longer side of its box) and of the square window around it."""

    face: int
    window: int


SMALL, LARGE = Size(40, 96), Size(128, 192)


def windows(image: np.ndarray, boxes: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Cut square windows around boxes [K, 4] out of an image [H, W, 3] uint8.

    Returns images [K, window, window, 3] uint8, and matrices [K, 2, 3] from image pixels to theirs.
    """
    scale = size.face / np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 1)  # [K]
    shift = (size.window - 1) / 2 - scale[:, None] * (boxes[:, :2] + boxes[:, 2:]) / 2  # [K, 2]
    matrices = np.concatenate([scale[:, None, None] * np.eye(2), shift[:, :, None]], axis=2)  # [K, 2, 3]
    cuts = [warp(image, matrix, size.window, cv2.BORDER_CONSTANT) for matrix in matrices]
    return np.stack(cuts), matrices


def look(network: Scrfd, images: np.ndarray, size: Size) -> Candidates:
    """The face in the middle of each window [K, window, window, 3]: one candidate each, of score 0 if there is none."""
    boxes = np.zeros((len(images), 4), np.float32)
    landmarks, scores = np.zeros((len(images), 5, 2), np.float32), np.zeros(len(images), np.float32)
    for start in range(0, len(images), TOGETHER):
        for place, found in enumerate(network.candidates(images[start : start + TOGETHER], LEAST), start):
            centre = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2  # [k, 2]
            near = np.abs(centre - (size.window - 1) / 2).max(axis=1) < size.face / 2
            if near.any():
                best = int(np.where(near, found.scores, 0).argmax())
                boxes[place], landmarks[place], scores[place] = (part[best] for part in found)
    return Candidates(boxes, landmarks, scores)


def look_in_picture(network: Scrfd, image: np.ndarray, boxes: np.ndarray, size: Size) -> Candidates:
    """As `look`, at boxes [K, 4] of an image [H, W, 3], in its pixels; where nothing is seen the box stays."""
    images, matrices = windows(image, boxes, size)
    seen = look(network, images, size)
    scale, shift = matrices[:, 0, 0, None], matrices[:, :, 2]  # [K, 1], [K, 2]
    edges = (seen.boxes - np.tile(shift, 2)) / scale  # [K, 4]
    points = (seen.landmarks - shift[:, None]) / scale[:, None]  # [K, 5, 2]
    return Candidates(np.where(seen.scores[:, None] > 0, edges, boxes), points, seen.scores)


def turn_scores(network: Scrfd, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """How much like an upright face each box [K, 4] of an image is after 0 to 3 quarter turns; [K, 4] scores.

    A quarter turn is counter-clockwise, as that of numpy.rot90.
    """
    images, _ = windows(image, boxes, SMALL)
    turned = np.concatenate([np.rot90(images, turn, axes=(1, 2)) for turn in range(4)])  # [4 K, w, w, 3]
    return look(network, turned, SMALL).scores.reshape(4, len(boxes)).T


def look_twice(network: Scrfd, image: np.ndarray, boxes: np.ndarray) -> tuple[Candidates, np.ndarray]:
    """Look again at boxes [K, 4] of an image [H, W, 3] of upright faces, at both sizes; drop what is no face.

    Returns the candidates, with the box, landmarks of the large look and the score of the small one, and [K] float:
    the root mean square difference of the landmarks of both, in distances of the eyes.
    """
    small = look_in_picture(network, image, boxes, SMALL)
    large = look_in_picture(network, image, small.boxes, LARGE)
    eyes = np.linalg.norm(large.landmarks[:, 1] - large.landmarks[:, 0], axis=1)  # [K]
    moved = np.sqrt(((large.landmarks - small.landmarks) ** 2).sum(axis=2).mean(axis=1)) / np.maximum(eyes, 1e-6)
    good = (np.maximum(small.scores, large.scores) >= MIN_LOOK) & (large.scores > 0) & (eyes >= 1)
    order = np.flatnonzero(good)[np.argsort(-large.scores[good], kind="stable")]
    kept = order[unlike_earlier(large.boxes[order])]
    return Candidates(large.boxes[kept], large.landmarks[kept], small.scores[kept]), moved[kept]
