"""Ages that contradict the base are named and left out; honest ones of the old and of a biased camera are not."""

import numpy as np
import pytest

from common.difference.bank import load_bank
from common.errors import DataError
from scripts.build_reference_bank import build
from scripts.references.outliers import departures, notable
from tests.bank_checks import Brightness, draw, words


def test_scans_dated_by_their_editing_are_left_out_and_named(tmp_path, capsys):
    for number, (looks, said) in enumerate([(5, 5), (8, 8), (10, 11), (12, 12), (7, 59), (9, 59), (6, 25)]):
        draw(tmp_path / "album" / f"{number}_{said}y.png", (looks, 1, 1))
    arguments = words(tmp_path / "album", tmp_path / "b.npz", "--age-pattern", r"_(\d+)y")
    problems = build(arguments, Brightness())
    assert [problem.split(" years off")[0].rsplit(",", 1)[0] for problem in problems] == [
        "4_59y.png is said to show 59 years and looks like 7", "5_59y.png is said to show 59 years and looks like 9",
    ]  # fmt: skip
    assert sorted(load_bank(tmp_path / "b.npz", "abc").ages.tolist()) == [5, 8, 11, 12, 25]
    kept = words(tmp_path / "album", tmp_path / "kept.npz", "--age-pattern", r"_(\d+)y", "--keep-outliers")
    assert build(kept, Brightness()) == [] and len(load_bank(tmp_path / "kept.npz", "abc")) == 7
    assert "look at: 4_59y.png" in capsys.readouterr().out


def test_a_lesser_contradiction_is_named_and_kept(tmp_path, capsys):
    for number in range(9):
        draw(tmp_path / "album" / f"{number}_{20 + 2 * number}y.png", (20 + 2 * number, 1, 1))
    draw(tmp_path / "album" / "x_50y.png", (30, 1, 2))
    assert build(words(tmp_path / "album", tmp_path / "b.npz", "--age-pattern", r"_(\d+)y"), Brightness()) == []
    assert capsys.readouterr().out.startswith(
        "look at: x_50y.png is said to show 50 years and looks like 30 (kept)\n10"
    )


def test_a_bank_of_wrong_ages_alone_is_refused(tmp_path):
    for number in range(6):
        draw(tmp_path / "album" / f"{number}_59y.png", (5 + number, 1, 1))
    with pytest.raises(DataError, match="Not one of 6 images could be used; 0_59y.png is said to show 59 years"):
        build(words(tmp_path / "album", tmp_path / "b.npz", "--age-pattern", r"_(\d+)y"), Brightness())


def test_the_old_who_are_read_too_young_are_kept():
    random = np.random.default_rng(0)
    ages = np.concatenate([random.uniform(5, 75, 60), [80, 85, 88, 90, 92, 95, 98, 100]])
    estimates = ages - np.maximum(0, ages - 70) + random.normal(0, 3, len(ages))
    assert (ages - estimates).max() > 25 and np.abs(departures(ages, estimates)).max() < 35
    old = ages > 75
    seniors = departures(ages[old], ages[old] - np.linspace(10, 32, old.sum()))
    assert np.abs(seniors).max() < 25


def test_few_photos_are_compared_with_the_base_and_a_biased_camera_is_none():
    assert departures(np.array([30.0, 60]), np.array([28.0, 20])).tolist() == [2, 40]
    estimates = np.linspace(10, 60, 50)
    assert np.abs(departures(estimates + 12, estimates)).max() < 1e-6
    assert not notable(departures(estimates + 12, estimates)).any()
