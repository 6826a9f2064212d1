"""A face whose age should not be trusted says why."""

import cv2
import numpy as np
import pytest
import skimage.data

from common.faces.detection import FaceDetector
from common.faces.doubt import doubt

PORTRAIT = skimage.data.astronaut()[:300, 80:380]


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def crop(detector) -> np.ndarray:
    return detector.crops(PORTRAIT, 128)[0].crop


def test_a_clear_face_is_not_in_doubt(crop):
    assert doubt(93, 0.87, 0.05, crop) == ""
    assert doubt(20, 0.6, 0.15, crop) == ""


def test_each_reason_is_said(crop):
    assert doubt(14.4, 0.87, 0.05, crop) == "the face is only 14 pixels wide"
    assert doubt(93, 0.59, 0.05, crop) == doubt(93, 0.87, 0.16, crop) == "the face is hard to see"
    assert doubt(93, 0.87, 0.05, crop // 20) == "the face is too dark"
    assert doubt(93, 0.87, 0.05, crop // 20 + 200) == "the face has hardly any contrast"
    assert doubt(93, 0.87, 0.05, cv2.GaussianBlur(crop, (0, 0), 7)) == "the face is out of focus"
    covered = crop.copy()
    covered[27:50, 18:110] = 10
    assert doubt(93, 0.87, 0.05, covered) == "the eyes are covered"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda photo: cv2.resize(photo, (45, 45), interpolation=cv2.INTER_AREA), "the face is only 13 pixels wide"),
        (lambda photo: cv2.GaussianBlur(photo, (0, 0), 6), "the face is out of focus"),
        (lambda photo: (photo * 0.05).astype(np.uint8), "the face is too dark"),
    ],
)
def test_a_photo_says_it_too(detector, change, reason):
    (face,) = detector.detect(change(PORTRAIT))
    assert face.doubtful == reason
