"""How AlbumPipeline is fitted and judged: weights, quantiles, the people that are left out, its two commands."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from AlbumPipeline.AlbumPipeline__config import AlbumConfig
from AlbumPipeline.AlbumPipeline__dataset import DatedFaces
from AlbumPipeline.AlbumPipeline__infer import album_table, some_people
from AlbumPipeline.AlbumPipeline__infer import main as evaluate_main
from AlbumPipeline.AlbumPipeline__main import main as train_main
from AlbumPipeline.AlbumPipeline__report import (
    people_table,
    solve_table,
)
from AlbumPipeline.AlbumPipeline__simulate import simulate_people
from AlbumPipeline.AlbumPipeline__tables import make_album, read_faces_table
from AlbumPipeline.AlbumPipeline__train import fit_errors, person_quantile
from AlbumPipeline.AlbumPipeline__weights import RELEASED, AgeErrors, load_errors, save_errors
from common.errors import DataError, WeightsError


def people_of_known_age(people: int = 8) -> DatedFaces:
    return DatedFaces(*simulate_people(people, 10, AgeErrors()))


def predictions(path: Path) -> Path:
    faces = people_of_known_age()
    table = pd.DataFrame({"path": "x", "id": "", "status": "ok", "person": faces.person, "base_age": faces.estimate})
    for column in ("age", "true_age", "true_age_min", "true_age_max"):
        table[column] = faces.age
    table.to_csv(path, index=False)
    return path


def test_some_people_are_always_the_same_and_have_several_photos():
    person = np.array([*"abcdefghijk", *"bcdefghijk", "c"])
    faces = DatedFaces(person, np.arange(22.0), np.arange(22.0))
    some = some_people(faces, 8)
    assert len(set(some.person)) == 8 and set(some.person) < set("bcdefghijk")
    assert all((some.person == name).sum() == (person == name).sum() for name in set(some.person))
    assert np.array_equal(some.age, some_people(faces, 8).age) and len(some_people(faces, 99).age) == 21
    with pytest.raises(DataError, match="--limit 0 is too few people"):
        some_people(faces, 0)


def test_weights_come_back_and_a_changed_number_is_refused(tmp_path):
    save_errors(AgeErrors(noise=0.11), tmp_path, {"people": 3})
    errors, notes = load_errors(tmp_path)
    assert errors == AgeErrors(noise=0.11) and notes == {"people": 3}
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("0.11", "0.12"))
    with pytest.raises(WeightsError, match="not those that were written"):
        load_errors(tmp_path)
    path.write_text('{"errors": {"noise": NaN}}')
    with pytest.raises(WeightsError, match="holds no weights"):
        load_errors(tmp_path)
    with pytest.raises(ValueError, match="noise must be a positive number"):
        AgeErrors(noise=float("nan"))


def test_the_released_weights_load_and_weigh_a_few_kilobytes():
    errors, notes = load_errors(RELEASED)
    assert 0.5 < errors.slope < 1.2 and 0.02 < errors.noise < 0.3 and notes["people"] == 20
    assert sum(file.stat().st_size for file in RELEASED.iterdir()) < 20_000


def test_a_fit_finds_the_numbers_that_the_faces_were_drawn_with():
    errors = fit_errors(people_of_known_age(40), AlbumConfig())
    truth = AgeErrors()
    assert errors.slope == pytest.approx(truth.slope, abs=0.06)
    assert errors.intercept == pytest.approx(truth.intercept, abs=0.06)
    assert errors.noise == pytest.approx(truth.noise, rel=0.3)
    assert errors.person == pytest.approx(truth.person, rel=0.3)


def test_quantiles_weigh_people_the_same():
    assert person_quantile([[1.0], [2.0] * 50, []], 0.5) == 1.0
    assert person_quantile([[1.0, 3.0], [2.0]], 0.9) == 3.0


def test_training_and_evaluation_are_one_command_each(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("AlbumPipeline.AlbumPipeline__infer.REPEATS", 1)
    monkeypatch.setattr("AlbumPipeline.AlbumPipeline__folds.RESAMPLES", 100)
    table = str(predictions(tmp_path / "p.csv"))
    words = ["--predictions", table, "--out", str(tmp_path / "w"), "--runs", str(tmp_path / "runs"), "--folds", "2"]
    assert train_main(words) == 0
    errors, notes = load_errors(tmp_path / "w")
    assert notes["people"] == 8 and notes["faces"] == 80 and 0.5 < errors.factor < 4
    out = tmp_path / "evaluation.csv"
    assert evaluate_main(["--predictions", table, "--weights", str(tmp_path / "w"), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "| album, all ages: album | 80 | 8 |" in shown and "false alarms" in shown
    assert evaluate_main(["--table", str(out)]) == 0
    assert capsys.readouterr().out.strip() in shown


def test_a_set_of_known_ages_becomes_an_album_that_gives_its_births(tmp_path):
    ages = np.array([3.0, 8.0, 15.0, 30.0, 4.0, 10.0, 20.0])
    faces = DatedFaces(np.array(["set::anna"] * 4 + ["set::ben"] * 3), ages + 0.5, ages)
    table = album_table(faces)
    assert table["photo_date"].tolist() == ["1903", "1908", "1915", "1930", "1904", "1910", "1920"]
    table.to_csv(tmp_path / "album.csv", index=False)
    read, births, problems = read_faces_table(tmp_path / "album.csv")
    assert not problems and not births and read["photo"].is_unique
    solved = people_table(solve_table(make_album(read, births, AgeErrors(), date(2026, 1, 1))[0], AgeErrors()), 0.9)
    assert solved["person"].tolist() == ["anna", "ben"]
    assert pd.to_numeric(solved["birth_year"]).to_numpy(float) == pytest.approx([1900, 1900], abs=3)


def test_too_few_people_are_refused(tmp_path, capsys):
    pd.read_csv(predictions(tmp_path / "p.csv")).head(30).to_csv(tmp_path / "few.csv", index=False)
    assert train_main(["--predictions", str(tmp_path / "few.csv"), "--runs", str(tmp_path / "runs")]) == 2
    assert "8 and 60 are needed" in capsys.readouterr().err
