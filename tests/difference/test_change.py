"""The interval of a difference between two photos: its width by numbers, and what a bad file is answered."""

import json
from dataclasses import replace

import numpy as np
import pytest

from common.difference.change import ONE, TWO, ChangeCalibrator, Side, load_change, save_change
from common.errors import DataError, WeightsError

TENTHS = [number / 10 for number in range(1, 20)]  # the 18th of 19 scores is the 90 % quantile
CALIBRATOR = ChangeCalibrator(
    "abc", [np.log(3.0), 0, 0, 0, 0], TENTHS, [2 * score for score in TENTHS], [3 * score for score in TENTHS]
)


def test_one_photo_each_gives_the_quantile_times_the_expected_error_of_both():
    first, second = CALIBRATOR.side([30.0], [2.0]), CALIBRATOR.side([41.0], [5.0])
    assert first == Side(30, pytest.approx(3), 1) and second == Side(41, pytest.approx(3), 1)
    assert CALIBRATOR.half_width(first, second, ONE, 0.9) == pytest.approx(2 * 1.8 * np.sqrt(18))
    assert CALIBRATOR.half_width(first, second, TWO, 0.9) == pytest.approx(3 * 1.8 * np.sqrt(18))


def test_of_several_photos_only_what_differs_within_a_sitting_averages_out():
    side = CALIBRATOR.side([30.0, 34.0, 32.0, 36.0], [2.0] * 4)
    assert side == Side(33, pytest.approx(3), 4)
    variance = 1.8**2 * 9 * (1 / 4 + 1 / 4) + (3.6**2 - 1.8**2) * 18
    assert CALIBRATOR.half_width(side, side, ONE, 0.9) == pytest.approx(np.sqrt(variance))
    calm = replace(CALIBRATOR, person=[score / 2 for score in TENTHS])  # no less than a sitting's own noise
    assert calm.half_width(side, side, ONE, 0.9) == pytest.approx(1.8 * 3 * np.sqrt(1 / 2))


def test_the_expected_error_of_a_side_is_the_root_of_the_mean_square():
    grows = replace(CALIBRATOR, coefficients=[0, 0.1, 0, 0, 0])  # exp(decades / 10)
    assert grows.side([20.0, 60.0], [1.0, 1.0]).expected == pytest.approx(np.sqrt((np.exp(0.4) + np.exp(1.2)) / 2))


@pytest.mark.parametrize("probability", [0, 1, 0.99])
def test_an_impossible_probability_is_refused(probability):
    with pytest.raises(DataError):
        CALIBRATOR.half_width(Side(30, 3, 1), Side(30, 3, 1), ONE, probability)


def test_it_is_read_as_it_was_written_and_belongs_to_one_base(tmp_path):
    assert save_change(CALIBRATOR, tmp_path).name == "differences.json"
    (tmp_path / "config.json").write_text("{}")
    assert load_change(tmp_path, "abc") == CALIBRATOR
    with pytest.raises(WeightsError, match="made with other base weights"):
        load_change(tmp_path, "abd")


@pytest.mark.parametrize(
    "change",
    [{"person": []}, {"people": [2.0, 1.0]}, {"coefficients": [1]}, {"sitting": ["x"]}, {"person": [-1.0]}, {"x": 1}],
)
def test_a_damaged_file_is_one_sentence(tmp_path, change):
    (tmp_path / "config.json").write_text("{}")
    stored = json.loads(save_change(CALIBRATOR, tmp_path).read_text())
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "differences.json").write_text(json.dumps(stored | change))
    with pytest.raises(WeightsError, match="is no calibration of differences; make it with"):
        load_change(tmp_path, "abc")


def test_weights_without_it_name_the_command(tmp_path):
    with pytest.raises(WeightsError, match="has no calibration of differences; make it with scripts/calibrate_diff"):
        load_change(tmp_path, "abc")
