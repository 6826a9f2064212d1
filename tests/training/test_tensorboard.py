import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig
from AgeRegBaseline.AgeRegBaseline__dataset import FaceSet, TrainingOrder
from AgeRegBaseline.AgeRegBaseline__main import main
from common.base.augment import Augmentation, augment
from common.base.model import central_view
from common.training import tensorboard as board
from tests.conftest import TINY, with_intervals


def logged_images(run: Path) -> dict[str, list[tuple[int, np.ndarray]]]:
    """Step and image [H, W, 3] uint8 of everything under each image tag of a run's event file."""
    events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()

    def picture(event) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))

    return {tag: [(event.step, picture(event)) for event in events.Images(tag)] for tag in events.Tags()["images"]}


def test_tensorboard_shows_the_augmented_batch_distributions_and_predictions(tiny_run, synthetic_set):
    images = logged_images(tiny_run)
    assert all([step for step, _ in part] == [1] for part in images.values())
    sizes = {tag: part[0][1].shape for tag, part in images.items()}
    grid = (2 * (48 + 4) + 4, 8 * (48 + 4) + 4, 3)
    assert sizes == {board.BATCH: grid, board.DISTRIBUTIONS: (440, 720, 3), board.SCATTER: (500, 520, 3)}
    config = AgeRegBaselineConfig(crop_size=48, input_size=48, batch_size=32)
    options = Augmentation().scaled(config.augmentation)
    faces = FaceSet([synthetic_set], "base", 48)
    crops = faces.take(next(TrainingOrder(faces, config).epoch(0))).crops
    trained_on = augment(crops, config, options, torch.Generator().manual_seed(0))
    assert np.array_equal(images[board.BATCH][0][1], board.batch_grid(trained_on))
    assert np.abs(images[board.BATCH][0][1] - board.batch_grid(central_view(crops, config)).astype(int)).mean() > 5


def test_every_epoch_is_shown_and_without_exact_ages_no_scatter(synthetic_set, tmp_path):
    folder = with_intervals(synthetic_set, tmp_path / "intervals")
    words = ["--data", str(folder), "--epochs", "2", "--limit", "32", *TINY, "--augmentation", "0"]
    assert main([*words, "--runs", str(tmp_path)]) == 0
    (run,) = (tmp_path / "AgeRegBaseline").iterdir()
    steps = {tag: [step for step, _ in part] for tag, part in logged_images(run).items()}
    assert steps == {board.BATCH: [1, 2], board.DISTRIBUTIONS: [1, 2]}


def test_a_grid_holds_every_image_in_its_place():
    images = torch.arange(10.0).view(10, 1, 1, 1).expand(10, 3, 8, 8) / 10
    picture = board.batch_grid(images)
    assert picture.shape == (2 * 12 + 4, 8 * 12 + 4, 3) and (picture[:4] == 255).all()
    for number in range(10):
        top, left = 4 + 12 * (number // 8), 4 + 12 * (number % 8)
        assert (picture[top : top + 8, left : left + 8] == round(25.5 * number)).all()
    assert board.evenly(40, 6).tolist() == [0, 8, 16, 23, 31, 39] and board.evenly(3, 6).tolist() == [0, 1, 2]


def test_drawn_distributions_mark_the_peak_and_the_label():
    ages, probabilities = np.arange(5.0), np.array([[0.1, 0.2, 0.4, 0.2, 0.1], [0.6, 0.1, 0.1, 0.1, 0.1]])
    figure = board.draw_distributions(ages, np.log(probabilities), np.array([3.0, 1.0]), np.array([3.0, 4.0]))
    (axis,) = figure.axes
    (peaks,) = axis.lines
    assert peaks.get_xdata().tolist() == [2, 0] and peaks.get_ydata() == pytest.approx([0.9, 1.9])
    labels = axis.containers[-1].patches
    assert [(bar.get_x(), bar.get_width(), bar.get_y()) for bar in labels] == [(2.5, 1, 0), (1, 3, 1)]
    second = axis.patches[1].get_data()
    assert (second.values - second.baseline).tolist() == pytest.approx([0.9, 0.15, 0.15, 0.15, 0.15])
    assert second.edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5, 4.5]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["3", "1–4"]
    assert figure.canvas.get_width_height() == (720, 240)


def test_a_scatter_shows_every_face_and_says_its_error():
    figure = board.draw_scatter(np.array([10.0, 30.0]), np.array([14.0, 28.0]))
    (axis,) = figure.axes
    assert axis.collections[0].get_offsets().tolist() == [[10, 14], [30, 28]]
    assert axis.get_title() == "MAE 3.00 years" and axis.get_xlim() == axis.get_ylim() == (-2, 32)
    assert figure.canvas.get_width_height() == (520, 500)
