"""Ep3Pipeline's rounds of training: halves that never correct what they were trained on, when it stops, resuming."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from common.embedded import bank_of, concatenate
from common.errors import DataError
from common.pipeline import AgePredictBasicPipeline
from common.predictions import read_predictions
from Ep3Pipeline import Ep3Pipeline__rounds as rounds
from Ep3Pipeline import Ep3Pipeline__train as train_module
from Ep3Pipeline.Ep3Pipeline__config import Ep3PipelineConfig, parse_arguments
from Ep3Pipeline.Ep3Pipeline__infer2 import main as infer2
from Ep3Pipeline.Ep3Pipeline__main import main as train
from Ep3Pipeline.Ep3Pipeline__model import load_model
from Ep3Pipeline.Ep3Pipeline__train import Progress, Run, make_run
from tests.difference_checks import check_resume
from tests.test_ep3_head import SMALL, aged_faces, looked_at


@pytest.fixture(scope="module")
def words(synthetic_set, tiny_run, tmp_path_factory) -> list[str]:
    quick = ["--views", "1", "--epochs", "3", "--references", "6", "--device", "cpu", "--hidden-size", "32"]
    quick += ["--batch-size", "8", "--learning-rate", "1e-2", "--rounds", "3"]
    runs = str(tmp_path_factory.mktemp("ep3_rounds"))
    return ["--data", str(synthetic_set), "--base-weights", str(tiny_run / "weights"), "--runs", runs, *quick]


def run_on_dar(tiny_run: Path, folder: Path) -> Run:
    """A run whose bank holds its queries, and another picture of every third of the people among them."""
    pipeline = AgePredictBasicPipeline.from_weights(tiny_run / "weights", "cpu")
    people = np.array([f"p{number // 2}" if number < 60 else "" for number in range(200)])
    queries, others = replace(aged_faces(200, 1), person=people), aged_faces(200, 2)
    others = replace(others, person=np.where(np.arange(200) % 3 == 0, people, ""))
    bank = bank_of([(queries, False), (others, True)], pipeline.fingerprint)
    config = Ep3PipelineConfig(**SMALL, views=0, batch_size=32, epochs=1, rounds=2, device="cpu")
    data = looked_at(queries, aged_faces(50, 3), bank, config)
    data.bank_faces = concatenate([queries, others])
    return make_run(config, folder, tiny_run / "weights", pipeline, data)


# --- halves -----------------------------------------------------------------------------------------------------------


def test_halves_keep_a_person_on_one_side_and_hold_about_as_many(tiny_run, tmp_path):
    queries = run_on_dar(tiny_run, tmp_path).data.queries
    half = rounds.half_of(queries)
    assert np.array_equal(half[:60:2], half[1:60:2]) and 0.3 < half.mean() < 0.7
    order = np.random.default_rng(0).permutation(200)
    assert np.array_equal(rounds.half_of(queries.where(order)), half[order])


def test_a_half_head_never_corrects_what_it_was_trained_on(tiny_run, tmp_path, monkeypatch):
    """Planted leak: a head that knows the true age of everybody it met as query or reference, and of nobody else."""
    run = run_on_dar(tiny_run, tmp_path)
    queries = run.data.queries
    truth = dict(zip(queries.id, queries.low, strict=True))

    def known(run, faces, iterations):
        data = run.data
        met = np.isin(faces.id, [*data.queries.id, *data.bank.id, *data.bank_faces.id])
        met |= (faces.person != "") & np.isin(faces.person, [*data.queries.person, *data.bank.person])
        return np.where(met, [truth[number] for number in faces.id], faces.estimates[0])

    monkeypatch.setattr(rounds, "predict", known)
    halves = [rounds.half_run(run, half) for half in (0, 1)]
    errors = rounds.held_out_errors(halves, queries, 1)
    assert np.array_equal(errors, queries.low - queries.estimates[0])
    assert (rounds.held_out_errors([run, run], queries, 1) == 0).all()  # the leak would show
    assert (rounds.held_out_errors(halves[::-1], queries, 1) == 0).all()
    assert sum(len(half.data.queries) for half in halves) == 200
    for half in halves:
        assert np.array_equal(half.data.bank.id, half.data.bank_faces.id)
        assert 200 < len(half.data.bank) < 400 - len(halves[0].data.queries) // 2


def test_errors_that_are_left_are_those_of_exactly_labelled_queries(tiny_run, tmp_path, monkeypatch):
    run = run_on_dar(tiny_run, tmp_path)
    high = run.data.queries.high.copy()
    high[::4] += 9
    run.data.queries = replace(run.data.queries, high=high)
    asked = []

    def one_year_off(half, faces, iterations):
        asked.append(iterations)
        return faces.low - 1

    monkeypatch.setattr(rounds, "predict", one_year_off)
    halves = [rounds.half_run(run, half) for half in (0, 1)]
    assert rounds.held_out_errors(halves, run.data.queries, 2).tolist() == [1.0] * 150 and asked == [2, 2]


def test_too_few_queries_for_halves_is_said(tiny_run, tmp_path):
    run = run_on_dar(tiny_run, tmp_path)
    run.data.queries = run.data.queries.where(np.arange(200) == 100)
    with pytest.raises(DataError, match="--rounds"):
        [rounds.half_run(run, half) for half in (0, 1)]


# --- rounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "wanted", "trained", "best"),
    [([4.0, 3.9, 3.95, 1.0], 5, 3, 2), ([4.0, 4.0, 1.0], 5, 2, 1), ([4.0, 3.0, 2.0], 2, 2, 2), ([4.0], 1, 1, 1)],
)
def test_rounds_stop_when_the_validation_error_does_not_fall(errors, wanted, trained, best, monkeypatch):
    data = SimpleNamespace(stages=[np.zeros(1)], errors=None)
    run = SimpleNamespace(
        config=SimpleNamespace(rounds=wanted), progress=Progress(), data=data, folder=Path(), writer=SimpleNamespace()
    )
    run.writer.close = lambda: None
    done = []

    def train_epochs(run):
        progress, error = run.progress, errors[run.progress.round - 1]
        done.append(progress.round)
        if error < progress.best:
            progress.best, progress.best_round = error, progress.round

    def begin_round(run, stages):
        run.progress.round += 1
        run.data.stages = stages

    monkeypatch.setattr(rounds, "train_epochs", train_epochs)
    monkeypatch.setattr(rounds, "begin_round", begin_round)
    monkeypatch.setattr(rounds, "half_run", lambda run, half: SimpleNamespace(writer=run.writer))
    monkeypatch.setattr(rounds, "left_errors", lambda run, halves: np.full(1, run.progress.round))
    for name in ("draw_errors", "round_lines", "export"):
        monkeypatch.setattr(rounds, name, lambda *_: [])
    rounds.fit(run)
    assert done == list(range(1, trained + 1)) and run.progress.best_round == best
    assert [int(stage[0]) for stage in data.stages] == list(range(trained))


def test_a_training_in_rounds_says_how_often_to_correct(words, synthetic_set, tmp_path, capsys):
    assert train(words) == 0
    printed = capsys.readouterr().out.splitlines()
    (run,) = (Path(words[words.index("--runs") + 1]) / "Ep3Pipeline").iterdir()
    history = pd.read_csv(run / "history.csv")
    best = history.loc[history["val_full"].idxmin()]
    assert history["round"].iloc[0] == 1 and history["round"].max() >= 2
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed if line.startswith("| ")][1:]
    assert len(rows) == history["round"].max()
    for row, (number, part) in zip(rows, history.groupby("round"), strict=True):
        assert [int(row[0]), int(row[2])] == [number, len(part)]
        assert float(row[4]) == pytest.approx(part["val_full"].min(), abs=6e-4)
    stored = json.loads((run / "weights" / "config.json").read_text())
    assert stored["iterations"] == stored["round"] == best["round"] and stored["epoch"] == best["epoch"]
    assert {"errors.png", "errors_2.png", "half_0", "half_1"} <= {path.name for path in run.iterdir()}
    check_iterations_of_weights(run / "weights", synthetic_set, tmp_path, capsys)


def check_iterations_of_weights(weights: Path, data: Path, tmp_path: Path, capsys) -> None:
    """Without --iterations infer2 corrects as often as the weights say, with it as often as it says."""
    document = json.loads((weights / "config.json").read_text())
    manifest = ["--manifest", str(data / "manifest.csv"), "--split", "test", "--weights", str(weights)]
    ages = {}
    for stored, words in ((3, []), (3, ["--iterations", "1"]), (1, []), (1, ["--iterations", "3"])):
        (weights / "config.json").write_text(json.dumps(document | {"iterations": stored}))
        out = tmp_path / "ages.csv"
        assert infer2([*manifest, *words, "--out", str(out), "--device", "cpu"]) == 0
        ages[stored, len(words)] = read_predictions(out)["age"].to_numpy()
    assert np.array_equal(ages[3, 0], ages[1, 2]) and np.array_equal(ages[3, 2], ages[1, 0])
    assert (ages[3, 0] != ages[1, 0]).any()
    assert load_model(weights, "cpu").iterations == 1 and load_model(weights, "cpu", 4).iterations == 4
    capsys.readouterr()
    (weights / "config.json").write_text(json.dumps(document | {"iterations": "often"}))
    assert infer2(["--weights", str(weights)]) == 2
    message = capsys.readouterr().err
    assert "'often'" in message and message.count("\n") == 1


def test_rounds_go_on_where_they_stopped(words, tmp_path):
    stops = (2, 6, 8, 11)  # in round 1, after the first half, in the second half, in round 2
    check_resume(train, train_module, [*words, "--rounds", "2"], tmp_path, stops)


def test_rounds_that_cannot_be_are_said(capsys):
    for words in (["--rounds", "0"], ["--rounds", "2", "--estimate-errors", "none"]):
        with pytest.raises(SystemExit) as stop:
            parse_arguments(words)
        assert stop.value.code == 2 and "rounds" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_arguments(["--rounds", "2", "--unfreeze-epoch", "1"])
    assert "unfreeze_epoch" in capsys.readouterr().err
