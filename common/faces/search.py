"""Where in an image faces may be: a search at several sizes and in four turns."""

from typing import NamedTuple

import cv2
import numpy as np

from common.faces.alignment import warp
from common.faces.looks import turn_scores
from common.faces.scrfd import Candidates, Scrfd, join, suppress

CANVAS = 320  # pixels of the square in which the image, with a border, is searched for large faces in four turns
BORDER = 0.25  # of the longer side; a face that fills the image is found only with something around it
SIDE = 1280  # pixels of the longer side, at most, at which smaller faces are searched; nothing is enlarged
FINE_SIDE = 2048  # of a large photo, only where nothing or a small face was found: small ones seldom come alone
SMALL_FACE = 24.0  # pixels of the longer side of a box at that size, below which others may have been missed
MIN_SCORE = 0.4  # of a candidate; the second look decides
ASKED = 5  # faces, the largest, by which the turn of a photo is chosen
TURN_MARGIN = 0.1  # of the mean score by which another turn must beat upright


class Canvas(NamedTuple):
    """An image in the middle of a grey square [320, 320, 3]: point * scale + shift is where a point of it lies."""

    image: np.ndarray
    scale: float
    shift: np.ndarray  # [2]


def search(network: Scrfd, picture: np.ndarray) -> tuple[Candidates, int]:
    """Faces of an image [H, W, 3] uint8, and how many quarter turns (numpy.rot90) make them upright.

    The candidates are in pixels of the image after these turns. Upright it stays unless another turn suits its
    largest faces better by a margin.
    """
    base = shrunk(picture, SIDE)
    canvas = on_canvas(base)
    images = np.stack([np.rot90(canvas.image, turn) for turn in range(4)])  # [4, 320, 320, 3]
    large = [_off_canvas(found, canvas, turn) for turn, found in enumerate(network(images, MIN_SCORE))]
    upright = suppress(join([large[0], network(base[None], MIN_SCORE)[0]]))
    faces = suppress(join([upright, *large[1:]]))
    turns = best_turn(network, base, faces.boxes)
    if turns:
        base = np.ascontiguousarray(np.rot90(base, turns))
        found = _off_canvas(network(images[turns][None], MIN_SCORE)[0], on_canvas(base), 0)
        upright = suppress(join([found, network(base[None], MIN_SCORE)[0]]))
    return scaled(upright, max(picture.shape[:2]) / max(base.shape[:2])), turns


def search_finely(network: Scrfd, picture: np.ndarray, known: Candidates) -> Candidates:
    """Known faces of an upright image [H, W, 3] and those of one more, finer search of all of it."""
    base = np.ascontiguousarray(shrunk(picture, FINE_SIDE))
    found = scaled(network(base[None], MIN_SCORE)[0], max(picture.shape[:2]) / max(base.shape[:2]))
    return suppress(join([known, found]))


def longer_sides(found: Candidates) -> np.ndarray:
    """Longer side [K] of each box, in pixels."""
    return (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1)


def best_turn(network: Scrfd, picture: np.ndarray, boxes: np.ndarray) -> int:
    """How many quarter turns make the largest of the boxes [K, 4] of an image upright, for all of them together."""
    if not len(boxes):
        return 0
    largest = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")[:ASKED]
    scores = turn_scores(network, picture, boxes[largest]).mean(axis=0)  # [4]
    turns = int(scores.argmax())
    return turns if scores[turns] > scores[0] + TURN_MARGIN else 0


def shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    """An image [H, W, 3] uint8 of at most `side` pixels on its longer side, averaged."""
    ratio = max(picture.shape[:2]) / side
    size = (max(1, round(picture.shape[1] / ratio)), max(1, round(picture.shape[0] / ratio)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if ratio > 1 else picture


def on_canvas(picture: np.ndarray) -> Canvas:
    """Put an image [H, W, 3] uint8 into the middle of the canvas, shrunk if need be, with a border of a quarter."""
    height, width = picture.shape[:2]
    scale = min(1.0, CANVAS / (max(height, width) * (1 + 2 * BORDER)))
    shift = (CANVAS - 1) / 2 - scale * (np.array([width, height]) - 1) / 2  # [2]
    matrix = np.hstack([scale * np.eye(2), shift[:, None]])
    return Canvas(warp(picture, matrix, CANVAS, cv2.BORDER_CONSTANT), scale, shift)


def _off_canvas(found: Candidates, canvas: Canvas, turn: int) -> Candidates:
    """Candidates in pixels of the image, of those found on its canvas after `turn` quarter turns."""
    boxes = turn_boxes(found.boxes, -turn, CANVAS, CANVAS)
    points = turn_points(found.landmarks, -turn, CANVAS, CANVAS)
    boxes = (boxes - np.tile(canvas.shift, 2)) / canvas.scale
    return Candidates(boxes, (points - canvas.shift) / canvas.scale, found.scores)


def scaled(found: Candidates, ratio: float) -> Candidates:
    """Candidates in pixels of an image `ratio` times as large; the coordinate of a pixel is that of its centre."""
    boxes, points = ((part + 0.5) * ratio - 0.5 for part in (found.boxes, found.landmarks))
    return Candidates(boxes, points, found.scores)


def turn_points(points: np.ndarray, turns: int, width: int, height: int) -> np.ndarray:
    """Where points [..., 2] (x, y) of an image of this size lie after numpy.rot90 turned it so many times."""
    x, y = points[..., 0], points[..., 1]
    return np.stack([(x, y), (y, width - 1 - x), (width - 1 - x, height - 1 - y), (height - 1 - y, x)][turns % 4], -1)


def turn_boxes(boxes: np.ndarray, turns: int, width: int, height: int) -> np.ndarray:
    """Boxes [K, 4] of an image of this size after numpy.rot90 turned it so many times."""
    corners = turn_points(boxes.reshape(-1, 2, 2), turns, width, height)  # [K, 2, 2]
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
