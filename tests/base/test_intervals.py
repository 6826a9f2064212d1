"""Prediction intervals: the stated coverage on data of known noise, and as a user types them."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from common.base.intervals import (
    EDGES,
    IntervalCalibrator,
    bounds,
    calibrate,
    expected_error,
    fit_coefficients,
    load_calibrator,
    quantile,
    save_calibrators,
)
from common.base.weight_files import fingerprint, vouch
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
    calibrator = calibrate(coefficients, *faces(8000, 2), np.full(8000, "one"))
    estimate, spread, error = faces(40_000, 3)
    for probability in (0.5, 0.8, 0.9):
        inside = np.abs(error) <= calibrator.half_width(estimate, spread, probability)
        assert inside.mean() == pytest.approx(probability, abs=0.025)
        decades = [inside[(estimate // 10) == decade].mean() for decade in range(8)]
        assert min(decades) > probability - 0.05


def test_every_bin_is_covered_though_the_expected_error_knows_nothing_of_it():
    estimate, spread, error = faces(4000, 2)
    young = estimate < 20
    error[young] *= 3  # what the smooth expected error cannot follow
    coefficients = fit_coefficients(*faces(3000, 1))
    calibrator = calibrate(coefficients, estimate, spread, error, np.full(4000, "one"))
    estimate, spread, error = faces(40_000, 3)
    error[estimate < 20] *= 3
    inside = np.abs(error) <= calibrator.half_width(estimate, spread, 0.9)
    assert [inside[(estimate // 10) == decade].mean() for decade in range(8)] == pytest.approx([0.9] * 8, abs=0.035)


def test_sets_weigh_alike_and_small_bins_take_their_neighbours_in():
    estimate, spread = np.full(1000, 25.0), np.full(1000, 3.0)
    error, sets = np.ones(1000), np.repeat(["large", "small"], [900, 100])
    error[900:] = np.linspace(2, 3, 100)
    calibrator = calibrate([0.0] * 5, estimate, spread, error, sets)  # expected error 1 year
    half = [calibrator.half_width(np.array([25.0]), np.array([3.0]), part)[0] for part in (0.4, 0.75, 0.99)]
    assert half == pytest.approx([1, 2.5, 3], abs=0.02)  # pooled, 90 % would have an error of 1
    assert calibrator.half_width(np.array([75.0]), np.array([3.0]), 0.75)[0] == pytest.approx(2.5, abs=0.02)
    few = calibrate([0.0] * 5, np.append(estimate, [55.0] * 29), np.full(1029, 3.0), np.append(error, [9.0] * 29),
                    np.append(sets, ["small"] * 29))  # fmt: skip
    assert few.quantiles[5] != few.quantiles[0] and max(few.quantiles[5]) == 9
    with pytest.raises(DataError, match="too few"):
        calibrate([0.0] * 5, estimate[:29], spread[:29], error[:29], sets[:29])


def test_levels_beyond_a_bin_come_from_all_faces_and_impossible_ones_are_refused():
    estimate = np.repeat([5.0, 45.0], [40, 500])
    error = np.concatenate([np.linspace(0, 4, 40), np.linspace(0, 2, 500)])
    calibrator = calibrate([0.0] * 5, estimate, np.ones(540), error, np.full(540, "one"))
    young, middle = (calibrator.half_width(np.array([age]), np.ones(1), 0.99)[0] for age in (5.0, 45.0))
    assert young == 4 and middle == pytest.approx(1.98, abs=0.01)
    few = calibrate([0.0] * 5, np.full(40, 5.0), np.ones(40), np.linspace(0, 4, 40), np.full(40, "one"))
    assert len(few.quantiles) == len(EDGES) + 1 and few.half_width(np.zeros(0), np.zeros(0), 0.97).size == 0
    with pytest.raises(DataError, match="too few"):
        few.half_width(np.zeros(0), np.zeros(0), 0.98)
    for probability in (0, 1, 90):
        with pytest.raises(DataError, match="between 0 and 1"):
            few.half_width(np.zeros(0), np.zeros(0), probability)


def test_intervals_of_other_weights_and_of_the_older_kind_are_refused(tiny_run, tmp_path):
    folder = shutil.copytree(tiny_run / "weights", tmp_path / "weights")
    made = IntervalCalibrator([0.1] * 5, [[0.5, 1.0]] * (len(EDGES) + 1))
    base = fingerprint(folder)
    save_calibrators(folder, {"bypass": made}, base)
    assert load_calibrator(folder, "bypass", base) == made
    with pytest.raises(WeightsError, match="of other weights"):
        load_calibrator(folder, "bypass", "0" * 40)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes() + b" ")
    with pytest.raises(WeightsError, match="of other weights"):
        load_calibrator(folder, "bypass", base)
    (folder / "intervals.json").write_text(json.dumps({"bypass": {"coefficients": [0.1] * 5, "scores": [1.0]}}))
    vouch(folder, "intervals.json")
    with pytest.raises(WeightsError, match="an older kind"):
        load_calibrator(folder, "bypass", base)


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
        assert len(load_calibrator(folder, mode, fingerprint(folder / "base")).quantiles) == len(EDGES) + 1
    assert infer2([*words, "--interval", "90"]) == 2
    assert "between 0 and 1" in capsys.readouterr().err
    with pytest.raises(WeightsError, match="no intervals for mode oracle"):
        load_calibrator(folder, "oracle", fingerprint(folder / "base"))


def test_the_report_counts_by_set_and_decade():
    table = pd.DataFrame({"age": [25.0, 25, 41, 43], "truth": [20.0, 31, 41, 40], "interval_low": [19.0, 19, 30, 30]})
    table["interval_high"] = [30.0, 30, 50, 52]
    lines = report({"one": table, "two": table.iloc[2:]})
    assert "| one | 20-29 | 2 | 50.0 [9.5, 90.5] | 11.0 |" in lines  # Wilson
    assert "| one | 40-49 | 2 | 100.0 [34.2, 100.0] | 21.0 |" in lines
    assert any(line.startswith("| one | all faces | 4 | 75.0 [30.1, 95.4] | 16.0") for line in lines)
    assert "| two | all, one constant width of the same coverage (hindsight) | 2 | – | 6.0 |" in lines
    with pytest.raises(DataError, match="--interval"):
        report({"one": table.assign(interval_low=np.nan)})
