"""Prediction intervals: the stated coverage on data of known noise, and as a user types them."""

import shutil

import numpy as np
import pandas as pd
import pytest

from common.base.intervals import bounds, calibrate, expected_error, fit_coefficients, load_calibrator, quantile
from common.data.predictions import read_predictions
from common.errors import DataError, WeightsError
from DiffPipeline6.DiffPipeline6__infer2 import main as infer2
from scripts.calibrate_intervals import main as calibrate_main
from scripts.calibrate_intervals import report


def faces(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimates, spreads and errors whose size grows with the estimate and the spread."""
    random = np.random.default_rng(seed)
    estimate, spread = random.uniform(0, 80, count), random.uniform(1, 8, count)
    return estimate, spread, random.normal(0, (0.5 + estimate / 20) * np.sqrt(spread))


def test_coverage_is_as_stated_overall_and_in_every_decade():
    coefficients = fit_coefficients(*faces(3000, 1))
    calibrator = calibrate(coefficients, *faces(2000, 2))
    estimate, spread, error = faces(40_000, 3)
    for probability in (0.5, 0.8, 0.9):
        inside = np.abs(error) <= calibrator.half_width(estimate, spread, probability)
        assert inside.mean() == pytest.approx(probability, abs=0.025)
        decades = [inside[(estimate // 10) == decade].mean() for decade in range(8)]
        assert min(decades) > probability - 0.05


def test_expected_error_follows_the_noise():
    coefficients = fit_coefficients(*faces(20_000, 1))
    estimate, spread = np.array([10.0, 40, 70]), np.full(3, 4.0)
    truth = (0.5 + estimate / 20) * 2 * np.sqrt(2 / np.pi)
    assert expected_error(coefficients, estimate, spread) == pytest.approx(truth, rel=0.12)


def test_the_quantile_by_hand_and_its_limits():
    scores = np.arange(1.0, 20.0)
    assert quantile(scores, 0.5) == 10 and quantile(scores, 0.9) == 18 and quantile(scores, 0.95) == 19
    assert quantile(scores, 0.6) <= quantile(scores, 0.7) <= quantile(scores, 0.8)
    with pytest.raises(DataError, match="too few"):
        quantile(scores, 0.96)
    with pytest.raises(DataError, match="between 0 and 1"):
        quantile(scores, 90)


def test_bounds_stay_within_a_life():
    low, high = bounds(np.array([3.0, 118.0]), np.array([5.0, 5.0]))
    assert low.tolist() == [0, 113] and high.tolist() == [8, 120]


def test_calibrated_weights_give_intervals_in_both_modes(diff_weights, synthetic_set, tmp_path, capsys):
    folder = shutil.copytree(diff_weights, tmp_path / "weights")
    words = ["--manifest", str(synthetic_set / "manifest.csv"), "--weights", str(folder), "--device", "cpu"]
    assert infer2([*words, "--split", "calib", "--interval", "0.8"]) == 2
    assert "no intervals for mode full" in capsys.readouterr().err
    assert calibrate_main(["--data", str(synthetic_set), "--weights", str(folder), "--base", str(folder / "base")]) == 0
    for mode in ("full", "bypass"):
        out = tmp_path / f"{mode}.csv"
        assert infer2([*words, "--split", "calib", "--interval", "0.8", "--mode", mode, "--out", str(out)]) == 0
        table = read_predictions(out)
        inside = (table["true_age"] >= table["interval_low"]) & (table["true_age"] <= table["interval_high"])
        assert inside.mean() >= 0.8  # on the calibration faces themselves
        assert (table["interval_low"] <= table["age"]).all() and (table["age"] <= table["interval_high"]).all()
        assert load_calibrator(folder, mode).scores == sorted(load_calibrator(folder, mode).scores)
    assert infer2([*words, "--interval", "90"]) == 2
    assert "between 0 and 1" in capsys.readouterr().err
    with pytest.raises(WeightsError, match="no intervals for mode oracle"):
        load_calibrator(folder, "oracle")


def test_the_report_counts_by_decade():
    table = pd.DataFrame(
        {"age": [25.0, 25, 41, 43], "true_age_min": [20.0, 31, 41, 40], "interval_low": [19.0, 19, 30, 30]}
    )
    table["true_age_max"], table["interval_high"] = table["true_age_min"], [30.0, 30, 50, 52]
    lines = report(table)
    assert "| 20–29 | 2 | 50.0 | 11.0 |" in lines and "| 40–49 | 2 | 100.0 | 21.0 |" in lines
    assert "| all | 4 | 75.0 | 16.0 |" in lines
    with pytest.raises(DataError, match="--interval"):
        report(table.assign(interval_low=np.nan))
