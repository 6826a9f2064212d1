import cv2
import numpy as np
import pytest
import skimage.data

from common.faces.detection import FaceDetector
from common.faces.images import load_image


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def test_the_demo_portrait_has_one_face_with_its_eyes_in_place(detector):
    (face,) = detector.detect(skimage.data.astronaut())
    assert np.abs(face.landmarks[:2] - [[204, 101], [247, 103]]).max() < 8
    assert face.score > 0.99


def test_an_enlarged_photo_gives_the_same_face(detector):
    image = skimage.data.astronaut()
    (face,) = detector.detect(image)
    (larger,) = detector.detect(cv2.resize(image, None, fx=3, fy=3))
    assert np.abs(larger.landmarks / 3 - face.landmarks).max() < 6


def test_a_face_that_fills_the_picture_is_found_in_its_own_coordinates(detector):
    (face,) = detector.detect(skimage.data.astronaut()[62:168, 180:266])
    assert np.abs(face.landmarks[:2] + [180, 62] - [[204, 101], [247, 103]]).max() < 12


def test_the_largest_face_comes_first(detector):
    portrait = skimage.data.astronaut()[:300, 80:380]
    collage = np.full((620, 960, 3), 128, np.uint8)
    collage[20:170, 20:170] = cv2.resize(portrait, (150, 150), interpolation=cv2.INTER_AREA)
    collage[10:610, 300:900] = cv2.resize(portrait, (600, 600))
    first, second = detector.detect(collage)
    assert first.box[0] > 300 and second.box[2] < 200


def test_pictures_without_a_face_give_none(detector):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    for image in (
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((16, 900, 3), np.uint8),
        noise,
    ):
        assert detector.detect(image) == []


def test_every_portrait_of_the_team_has_one_face(detector, shared_data):
    portraits = sorted((shared_data / "photos").glob("*.jpg"))
    assert len(portraits) == 24
    assert [len(detector.detect(load_image(path))) for path in portraits] == [1] * 24
