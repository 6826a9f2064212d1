"""Pairs of photos: what is calibrated and reported is what the pairs say; two photos are compared in sentences."""

import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import skimage.data
from PIL import Image

from common.base.intervals import IntervalCalibrator, save_calibrators
from common.base.weight_files import fingerprint
from common.data.manifest import load_prepared
from common.difference.change import ONE, Side, load_change, save_change
from common.inference.change import sentences
from DiffPipeline6.DiffPipeline6__infer import main as infer
from scripts.calibrate_differences import Faces, calibrate, main, one_person, report, two_persons
from tests.conftest import REPOSITORY

PEOPLE = 30


@pytest.fixture(scope="module")
def faces():
    """300 faces of 30 people, ten each of two years; estimates 4 years off at random, 3 more for good in one year."""
    random = np.random.default_rng(0)
    person = np.repeat([f"p{number}" for number in range(PEOPLE)], 10)
    late = np.tile([0] * 5 + [1] * 5, PEOPLE)
    age = 30 + 8.0 * late
    lasting = 3 * random.standard_normal((PEOPLE, 2))[np.repeat(range(PEOPLE), 10), late]
    base = age + lasting + 4 * random.standard_normal(len(age))
    table = pd.DataFrame({"person": person, "age": age, "base": base, "full": base + 1, "spread": 5.0})
    return Faces(table, np.zeros((len(age), 4), np.float32))


def test_pairs_are_of_one_person_or_of_two_and_nobody_has_too_many(faces):
    person, age = faces.table["person"].to_numpy(), faces.table["age"].to_numpy()
    one, two = one_person(faces, 7), two_persons(faces, 500)
    assert (person[one[:, 0]] == person[one[:, 1]]).all() and (one[:, 0] != one[:, 1]).all()
    apart = age[one[:, 0]] != age[one[:, 1]]
    assert apart.sum() == (~apart).sum() == 7 * PEOPLE
    assert len(two) == 500 and (person[two[:, 0]] != person[two[:, 1]]).all()
    assert len({tuple(sorted(pair)) for pair in one.tolist()}) == len(one)


def test_scores_are_errors_in_expected_errors_and_intervals_cover(faces):
    made = calibrate(faces, [np.log(5.0), 0, 0, 0, 0], "abc")
    assert np.median(made.sitting) == pytest.approx(0.6745 * 4 * np.sqrt(2) / (5 * np.sqrt(2)), rel=0.15)
    assert np.median(made.person) == pytest.approx(0.6745 * 5 * np.sqrt(2) / (5 * np.sqrt(2)), rel=0.2)
    head = SimpleNamespace(compute=lambda query, references: SimpleNamespace(age=query.estimate))
    rows = [line.strip("| ").split(" | ") for line in report(faces, head, made, 0.9)]
    one, pairs = rows[2], one_person(faces, 20)
    age, base = faces.table["age"].to_numpy(), faces.table["base"].to_numpy()
    errors = np.abs(base[pairs[:, 1]] - base[pairs[:, 0]] - (age[pairs[:, 1]] - age[pairs[:, 0]]))
    assert one[:4] == ["one", "all", str(len(pairs)), "30"] and one[4] == one[5] == one[6] == f"{errors.mean():.2f}"
    half = made.half_width(Side(30, 5, 1), Side(30, 5, 1), ONE, 0.9)
    assert float(one[7]) == pytest.approx(100 * (errors <= half).mean(), abs=0.06)
    apart = next(row for row in rows if row[:2] == ["one", "5 to 10"])
    assert 86 <= float(apart[7]) <= 94


@pytest.mark.parametrize(
    ("ages", "said"),
    [
        ((30, 36.2), "b is 6.2 years older than a (3 to 9; 90 %, one person)"),
        ((36.2, 30), "b is 6.2 years younger than a (3 to 9; 90 %, one person)"),
        ((30, 31), "b is 1.0 years older than a (2 younger to 4 older; 90 %, one person)"),
    ],
)
def test_the_difference_is_said_in_words(ages, said):
    first, second = (Side(age, 2.0, 1) for age in ages)
    assert sentences(("a", "b"), (first, second), 3.1, ONE, 0.9).splitlines()[0] == said


@pytest.fixture(scope="module")
def weights(diff_weights, synthetic_set, tmp_path_factory):
    """Tiny weights with a calibration of differences."""
    calibrator = IntervalCalibrator([1.5, 0, 0, 0, 0], [[1.0]] * 8)
    save_calibrators(diff_weights / "base", {"bypass": calibrator}, fingerprint(diff_weights / "base"))
    assert load_prepared(synthetic_set).manifest["person"].nunique() > 20
    assert main(["--data", str(synthetic_set), "--weights", str(diff_weights)]) == 0
    made = load_change(diff_weights, fingerprint(diff_weights / "base"))
    tenths = [number / 10 for number in range(1, 20)]  # these few faces have too few pairs for 90 %
    save_change(replace(made, sitting=tenths, person=[2 * score for score in tenths]), diff_weights)
    return diff_weights


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The demo portrait, twice, darker, beside a smaller copy of it; and an image without a face."""
    folder = tmp_path_factory.mktemp("photos")
    portrait = skimage.data.astronaut()
    both = np.hstack([portrait, np.full_like(portrait, 128)])
    both[100:356, 600:856] = portrait[::2, ::2]
    for name, image in {
        "a": portrait,
        "same": portrait,
        "dark": portrait * 0.6,
        "both": both,
        "none": both * 0,
    }.items():
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def test_two_photos_are_compared_as_their_estimates_say(weights, photos, capsys):
    words = ["--weights", str(weights), "--device", "cpu"]
    assert infer([str(photos / "a.png"), str(photos / "both.png"), *words]) == 0
    out, err = capsys.readouterr()
    years, way = re.match(r"both.png is ([\d.]+) years (\w+) than a.png .*; 90 %, one person", out).groups()
    ages = [float(age) for age in re.search(r"a.png ([\d.]+) years, both.png ([\d.]+) years", out).groups()]
    assert float(years) * (1 if way == "older" else -1) == pytest.approx(ages[1] - ages[0], abs=0.11)
    assert "2 faces; the largest is used" in err
    smallest, grouped = map(float, re.search(r"from ([\d.]+) years on, 5 .* from ([\d.]+)", out).groups())
    assert smallest / grouped == pytest.approx(2 / np.sqrt(3 + 1 / 5), abs=0.01)  # scores of a sitting: half of apart


@pytest.mark.parametrize(
    ("names", "more", "status", "said"),
    [
        (["a", "same"], [], 0, "are the same photo: 0 years"),
        (["a", "none"], [], 2, "none.png: no face found; give photos of a face."),
        (["a", "nowhere"], [], 2, "there is no such file; give photos of a face."),
        (["a"], [], 2, "Give exactly two photos"),
        (["a", "dark"], ["--data", "x"], 2, "--data goes without photos"),
        (["a", "dark"], ["--interval", "1"], 2, "a probability between 0 and 1"),
        (["a", "dark"], ["--people", "two"], 0, "two persons"),
    ],
)
def test_what_two_photos_are_answered(weights, photos, capsys, names, more, status, said):
    files = [str(photos / f"{name}.png") for name in names]
    assert infer([*files, "--weights", str(weights), "--device", "cpu", *more]) == status
    out, err = capsys.readouterr()
    assert said in out + err and (status == 0 or (out == "" and err.count("\n") == 1))


def test_released_weights_compare_two_photos_without_torch(photos):
    if not (REPOSITORY / "weights" / "DiffPipeline6" / "differences.json").is_file():
        pytest.skip("the released weights have no calibration of differences")
    code = (
        "import sys; from DiffPipeline6.DiffPipeline6__infer import main; main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules"
    )
    words = [str(photos / "a.png"), str(photos / "dark.png"), "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0 and "one person" in done.stdout, done.stderr
