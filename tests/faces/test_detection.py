"""Faces are found whatever their size, number and turn, in pixels of the photo as it is displayed."""

import io

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from common.faces.detection import FaceDetector
from common.faces.images import Photo, load_image
from common.faces.search import turn_boxes, turn_points

BOX = np.array([178, 57, 271, 179])  # of the demo portrait


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def encoded(image: np.ndarray, **words) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=95, **words)
    return data.getvalue()


def test_the_demo_portrait_has_one_face_with_its_eyes_in_place(detector):
    (face,) = detector.detect(skimage.data.astronaut())
    assert np.abs(face.landmarks[:2] - [[204, 101], [247, 103]]).max() < 4
    assert np.abs(np.array(face.box) - BOX).max() < 6
    assert face.score > 0.8 and face.turned == 0 and face.doubtful == ""


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_lying_portrait_is_read_in_the_best_turn_and_reported_as_displayed(detector, turns):
    image = skimage.data.astronaut()
    (upright,) = detector.crops(image, 128)
    (lying,) = detector.crops(np.ascontiguousarray(np.rot90(image, -turns)), 128)
    assert lying.face.turned == turns * 90
    assert np.abs(lying.face.landmarks - turn_points(upright.face.landmarks, -turns, 512, 512)).max() < 3
    assert np.abs(np.array(lying.face.box) - turn_boxes(np.array([upright.face.box]), -turns, 512, 512)).max() < 6
    assert np.abs(lying.crop.astype(int) - upright.crop).mean() < 6


def test_points_and_boxes_turn_as_the_picture_does():
    image = np.zeros((30, 50), np.uint8)
    image[7, 11] = 1
    for turns in range(-3, 4):
        ((y, x),) = np.argwhere(np.rot90(image, turns))
        assert turn_points(np.array([11, 7]), turns, 50, 30).tolist() == [x, y]
    assert turn_boxes(np.array([[10, 5, 20, 9]]), 1, 50, 30).tolist() == [[5, 29, 9, 39]]


def test_an_enlarged_photo_gives_the_same_face(detector):
    image = skimage.data.astronaut()
    (face,) = detector.detect(image)
    (larger,) = detector.detect(cv2.resize(image, None, fx=3, fy=3))
    assert np.abs(larger.landmarks / 3 - face.landmarks).max() < 4


def test_a_face_that_fills_the_picture_is_found_in_its_own_coordinates(detector):
    (face,) = detector.detect(skimage.data.astronaut()[62:168, 180:266])
    assert np.abs(face.landmarks[:2] + [180, 62] - [[204, 101], [247, 103]]).max() < 6


def test_small_faces_beside_a_large_one_are_all_found_the_largest_first(detector):
    portrait = skimage.data.astronaut()[:300, 80:380]
    photo = np.full((1500, 2000, 3), 128, np.uint8)
    photo[200:1300, 700:1800] = cv2.resize(portrait, (1100, 1100))
    small = cv2.resize(portrait, (130, 130), interpolation=cv2.INTER_AREA)
    for number in range(10):
        top, left = 20 + number % 5 * 290, 30 + number // 5 * 300
        photo[top : top + 130, left : left + 130] = small
    faces = detector.detect(photo)
    assert len(faces) == 11
    widths = [face.box[2] - face.box[0] for face in faces]
    assert widths[0] == pytest.approx(341, abs=20) and widths[1:] == pytest.approx([40] * 10, abs=4)


def test_a_file_is_searched_in_a_draft_and_small_faces_are_cut_out_of_the_whole(detector, monkeypatch):
    portrait = skimage.data.astronaut()[:300, 80:380]
    image = cv2.resize(portrait, (2400, 2400))
    photo = Photo(encoded(image), "large.jpg")
    assert photo.draft.shape == (1200, 1200, 3) and photo.size == (2400, 2400)
    (drafted,), (whole,) = detector.crops(photo, 128), detector.crops(image, 128)
    assert photo._whole is None  # never decoded
    assert np.abs(np.array(drafted.face.box) - whole.face.box).max() < 8
    assert np.abs(drafted.crop.astype(int) - whole.crop).mean() < 2
    image[:] = 128
    image[1000:1300, 900:1200] = portrait
    photo = Photo(encoded(image), "small.jpg")
    (drafted,), (whole,) = detector.crops(photo, 128), detector.crops(image, 128)
    assert photo._whole is not None
    assert np.abs(drafted.face.landmarks - whole.face.landmarks).max() < 2
    assert np.abs(drafted.crop.astype(int) - whole.crop).mean() < 7


def test_pictures_without_a_face_give_none(detector):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    for image in (
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((16, 900, 3), np.uint8),
        np.zeros((9000, 16, 3), np.uint8),
        noise,
        skimage.data.coffee(),
    ):
        assert detector.detect(image) == []


def test_every_portrait_of_the_team_has_one_upright_face_without_doubt(detector, shared_data):
    portraits = sorted((shared_data / "photos").glob("*.jpg"))
    assert len(portraits) == 24
    found = [detector.detect(load_image(path)) for path in portraits]
    assert [[(face.turned, face.doubtful) for face in faces] for faces in found] == [[(0, "")]] * 24
