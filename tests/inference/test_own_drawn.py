import numpy as np

from common.inference.estimates import Evidence, FaceAge
from common.inference.own import OwnVote
from common.inference.own_drawn import FACE, LARGE_FACE, MARGIN, WIDTH, draw_own


def test_own_references_are_shown_by_their_faces():
    colours = [(200, 0, 0), (0, 200, 0), None, (0, 0, 200), (9, 9, 9)]
    faces = [None if colour is None else np.full((64, 64, 3), colour, np.uint8) for colour in colours]
    own = tuple(OwnVote(face, "Anna with a very long name", 30.0 + n, 33.0) for n, face in enumerate(faces))
    ages = np.array([35.0, 50.0])
    evidence = Evidence(np.full((128, 128, 3), 77, np.uint8), ages, ages + 2, np.ones(2), 41.0, own)
    face = FaceAge("a.jpg", 0, None, 40.0, 33.0, 28.0, 38.0, evidence=evidence)
    pixels = np.asarray(draw_own(face, evidence))
    assert pixels.shape[1] == WIDTH
    assert pixels[MARGIN + 5, MARGIN + 5].tolist() == [77] * 3
    left, top = LARGE_FACE + 2 * MARGIN, MARGIN + 26
    for number, colour in enumerate(colours):
        x, y = left + number % 4 * 118 + FACE // 4, top + number // 4 * 148 + FACE // 4
        assert pixels[y, x].tolist() == ([255] * 3 if colour is None else list(colour))


def test_a_single_reference_makes_no_higher_image():
    none = np.zeros(0)
    evidence = Evidence(np.zeros((64, 64, 3), np.uint8), none, none, none, 41.0, (OwnVote(None, "", 30.0, 33.0),))
    image = draw_own(FaceAge("a.jpg", 0, None, 40.0, 33.0, evidence=evidence), evidence)
    assert image.height == LARGE_FACE + 96 + 2 * MARGIN
