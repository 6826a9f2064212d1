"""What is counted as found, missed and false, and where the faces of made images lie."""

import numpy as np
import pytest
import skimage.data

from common.faces.detection import Face, FaceDetector
from common.files import write_whole
from scripts.research.compare_detectors import (
    Scene,
    conditions,
    count,
    filling,
    fit,
    group_photo,
    lying,
    main,
    place_of,
)


class Fixed:
    """A detector that answers with the same boxes whatever it is shown."""

    def __init__(self, *boxes):
        self.boxes = boxes

    def detect(self, image: np.ndarray) -> list[Face]:
        return [Face(box, np.zeros((5, 2)), 0.9) for box in self.boxes]


@pytest.fixture(scope="module")
def portrait() -> Scene:
    image = np.ascontiguousarray(skimage.data.astronaut()[:300, 80:380])
    return Scene(image, place_of(FaceDetector().detect(image)[0])[None])


def test_each_box_finds_one_face_and_the_rest_are_false():
    scene = Scene(np.zeros((100, 100, 3), np.uint8), np.array([[20, 20, 20], [24, 20, 20], [80, 80, 20]]))
    assert count(Fixed((10, 10, 30, 30)), [scene]) == (1, 2, 0)
    assert count(Fixed((10, 10, 30, 30), (12, 10, 32, 30), (75, 75, 79, 79)), [scene]) == (2, 1, 1)


def test_faces_of_a_group_photo_lie_where_it_says(portrait):
    group = group_photo([portrait], [150, 60, 60], 900, 600, 0)
    assert group.image.shape == (600, 900, 3) and group.faces[:, 2].tolist() == [150, 60, 60]
    assert count(FaceDetector(), [group]) == (3, 0, 0)


def test_a_lying_and_a_filling_face_lie_where_it_says(portrait):
    scenes = [filling(portrait), *(lying(portrait, turns) for turns in (1, 2, 3))]
    assert count(FaceDetector(), scenes) == (4, 0, 0)
    assert max(filling(portrait).image.shape[:2]) < 1.2 * portrait.faces[0, 2]


def test_every_condition_is_made_of_the_portraits(portrait):
    made = conditions([portrait])
    assert made["one face of 450 px, ten of 60"][0].faces[:, 2].tolist() == [450, *[60] * 10]
    assert len(made["turned by 90°"]) == len(made["the face fills the photo"]) == 1


def test_the_fit_is_the_median_in_the_frame_and_bad_words_are_refused(portrait, tmp_path, capsys):
    crops = np.stack([face.crop for face in FaceDetector().crops(portrait.image, 128)])
    np.save(tmp_path / "crops.npy", crops)
    write_whole(tmp_path / "manifest.csv", "path,id,age,age_min,age_max,person,gender,group,split\na,1,40,,,,,,test\n")
    write_whole(tmp_path / "crops.csv", "row,id\n0,1\n")
    write_whole(tmp_path / "prepared.json", "{}")
    assert fit(tmp_path, 10).startswith("LANDMARK_TARGETS of 1 of 1 crops: [[")
    assert main([]) == 2
    assert "Give --photos and --fgnet, or --fit." in capsys.readouterr().err
