"""Ep3Pipeline from training to corrected ages on synthetic faces (its head is in tests/pipelines/test_ep3_head.py)."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.data.manifest import load_prepared
from common.data.predictions import read_predictions
from common.difference.bank import ReferenceBank
from common.difference.corrector import Correction, Faces
from common.errors import WeightsError
from common.evaluation.controls import control_table
from Ep3Pipeline import Ep3Pipeline__controls as controls_module
from Ep3Pipeline import Ep3Pipeline__model
from Ep3Pipeline import Ep3Pipeline__train as train_module
from Ep3Pipeline.Ep3Pipeline__config import parse_arguments
from Ep3Pipeline.Ep3Pipeline__controls import PermutedBank, RandomBank, parts_of
from Ep3Pipeline.Ep3Pipeline__controls import main as controls
from Ep3Pipeline.Ep3Pipeline__infer import main as infer
from Ep3Pipeline.Ep3Pipeline__infer2 import main as infer2
from Ep3Pipeline.Ep3Pipeline__main import main as train
from Ep3Pipeline.Ep3Pipeline__model import SETTLED, load_model
from tests.difference_checks import WRONG_WORDS, check_drawings, check_modes, check_one_line, check_pairs, check_resume


@pytest.fixture(scope="module")
def words(synthetic_set, tiny_run, tmp_path_factory) -> list[str]:
    runs = tmp_path_factory.mktemp("ep3_runs")
    base = str(tiny_run / "weights")
    quick = ["--views", "1", "--epochs", "6", "--references", "6", "--device", "cpu", "--hidden-size", "32"]
    quick += ["--batch-size", "8", "--learning-rate", "1e-2"]
    return ["--data", str(synthetic_set), "--base-weights", base, "--runs", str(runs), *quick]


@pytest.fixture(scope="module")
def run_folder(words) -> Path:
    assert train(words) == 0
    (run,) = (Path(words[words.index("--runs") + 1]) / "Ep3Pipeline").iterdir()
    return run


@pytest.fixture(scope="module")
def weights(run_folder) -> Path:
    return run_folder / "weights"


def test_iterations_on_a_manifest(weights, synthetic_set, tmp_path):
    manifest = ["--manifest", str(synthetic_set / "manifest.csv"), "--split", "test", "--weights", str(weights)]
    tables = {}
    for count in ("1", "3"):
        out = tmp_path / f"{count}.csv"
        assert infer2([*manifest, "--iterations", count, "--out", str(out), "--device", "cpu"]) == 0
        tables[count] = read_predictions(out)
    assert np.array_equal(tables["1"]["base_age"], tables["3"]["base_age"])
    moved = np.abs(tables["1"]["age"] - tables["1"]["base_age"])
    again = np.abs(tables["3"]["age"] - tables["1"]["age"])
    assert (again[moved < SETTLED - 0.01] < 0.011).all() and (moved.max() < SETTLED or again.max() > 0)


def test_a_run_holds_what_it_should(run_folder):
    names = {path.name for path in run_folder.iterdir()}
    assert names >= {"errors.png", "history.csv", "best_model.ckpt", "latest_model.ckpt", "predictions_val.csv"}
    history = pd.read_csv(run_folder / "history.csv")
    assert len(history) == 6 and np.isfinite(history.to_numpy()).all()
    files = {path.name for path in (run_folder / "weights").iterdir()}
    assert files >= {"model.safetensors", "config.json", "bank.npz"}
    stored = json.loads((run_folder / "weights" / "config.json").read_text())
    assert stored["training"]["base_weights"] == "" and stored["head"]["references"] == 6


def test_full_bypass_and_oracle_on_a_manifest(weights, synthetic_set, tmp_path, capsys):
    check_modes(infer2, weights, synthetic_set, tmp_path, capsys)


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_same_ages_twice(weights, synthetic_set, iterations):
    prepared = load_prepared(synthetic_set)
    rows = prepared.rows("test")
    results = []
    for _ in range(2):
        corrector = load_model(weights, "cpu", iterations)
        base = corrector.pipeline.predict(prepared.crops[rows])
        ids = prepared.manifest["id"].to_numpy(str)[rows]
        results.append(corrector.correct(Faces(base.embeddings, base.ages, ids, np.full(len(rows), ""))))
    first, again = results
    for name in Correction._fields:
        assert np.array_equal(getattr(first, name), getattr(again, name), equal_nan=name == "vote"), name
    assert np.isfinite(first.vote[first.mask]).all()
    if iterations == 1:
        single = corrector.correct(Faces(base.embeddings[:1], base.ages[:1], ids[:1], np.array([""])))
        assert single.age[0] == pytest.approx(first.age[0], abs=1e-3)


def test_weights_of_an_older_version_load_unless_they_are_a_control(weights, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(weights, old)
    settings = json.loads((old / "config.json").read_text())
    for blind in (False, True):
        stored = settings | {"head": settings["head"] | {"retrieval": "nearest", "blind": blind}, "iterations": 1}
        (old / "config.json").write_text(json.dumps(stored))
        if blind:
            with pytest.raises(WeightsError, match="blind"):
                load_model(old, "cpu")
        else:
            assert load_model(old, "cpu").head.config == load_model(weights, "cpu").head.config


def test_photos_explained(weights, tmp_path, capsys):
    check_drawings(infer2, weights, tmp_path, capsys)


def test_your_own_references(weights, synthetic_set, tmp_path, capsys):
    corrector = load_model(weights, "cpu")
    bank = corrector.bank.rows(np.arange(60))
    ids, unseen = np.char.add("own", np.arange(60).astype(str)), np.zeros(60, bool)
    biased = replace(bank, ages=bank.ages + 25, id=ids, seen=unseen)
    biased.save(tmp_path / "own.npz")
    manifest = ["--manifest", str(synthetic_set / "manifest.csv"), "--split", "test", "--weights", str(weights)]
    ages = []
    for words in (
        [],
        ["--references", str(tmp_path / "own.npz")],
        ["--references", str(tmp_path / "own.npz"), "--iterations", "2"],
    ):
        out = tmp_path / "ages.csv"
        assert infer2([*manifest, *words, "--out", str(out), "--device", "cpu"]) == 0
        ages.append(read_predictions(out)["age"])
    assert "60 references of yours" in capsys.readouterr().out
    assert 8 < (ages[1] - ages[0]).mean() < 40 and 8 < (ages[2] - ages[0]).mean() < 40


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        *WRONG_WORDS,
        (["--weights", "nowhere"], "no folder nowhere with Ep3Pipeline weights"),
        (["--iterations", "0"], "1 or more"),
        (["--iterations", "2", "--mode", "bypass"], "bypass"),
        (["--iterations", "2", "--interval", "0.9"], "--iterations"),
        (["--iterations", "1", "--mode", "oracle"], "oracle"),
        (["--interval", "0.9"], "no intervals"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(weights, wrong, said, capsys):
    check_one_line(infer2, weights, wrong, said, capsys)


def test_training_that_cannot_be_is_said_in_one_line(words, tmp_path, capsys):
    runs = words.index("--runs") + 1
    assert train([*words[:runs], str(tmp_path), *words[runs + 1 :], "--references", "0"]) == 2
    message = capsys.readouterr().err
    assert "1 or more" in message and message.count("\n") == 1


def test_the_difference_alone(weights, synthetic_set, tmp_path, capsys):
    check_pairs(infer, weights, synthetic_set, tmp_path, capsys)


def test_training_goes_on_where_it_stopped(words, tmp_path):
    check_resume(train, train_module, words, tmp_path)


def test_presets_and_wrong_keys(capsys):
    config, _ = parse_arguments(["--preset", "original"])
    assert (config.reference_window, config.age_size, config.references, config.level_radius) == (0.5, 128, 10, 20)
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--estimate-erors", "kde"])
    assert stop.value.code == 2 and "did you mean 'estimate_errors'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_arguments(["--estimate-errors", "guess"])
    assert "kde, gaussian, uniform, none" in capsys.readouterr().err


@pytest.mark.parametrize("words_of", [[], ["--ablations"]])
def test_controls_and_ablations_in_one_table(weights, words, words_of, synthetic_set, tmp_path, capsys, monkeypatch):
    few = ("full", "antisymmetric", "no neighbours: random references")
    monkeypatch.setattr(controls_module, "ABLATIONS", {name: controls_module.ABLATIONS[name] for name in few})
    out, config = tmp_path / "controls.csv.gz", tmp_path / "config.json"
    settings = json.loads((weights / "config.json").read_text())
    settings["training"] |= {"base_weights": words[words.index("--base-weights") + 1], "epochs": 1}
    config.write_text(json.dumps(settings))
    command = [
        "--data",
        str(synthetic_set),
        "--seeds",
        "1",
        "--config",
        str(config),
        "--runs",
        str(tmp_path),
        *words_of,
    ]
    assert controls([*command, "--out", str(out)]) == 0
    printed, table = capsys.readouterr().out, pd.read_csv(out)
    names = {"base", "full", "3 iterations", "antisymmetric", "no neighbours: random references"}
    names = (
        names if words_of else {"base", "full", "(a) blind to the references", "(b) permuted references", "(c) line"}
    )
    assert names <= set(table["variant"])
    for name in names:
        part = table[table["variant"] == name]
        (line,) = [row for row in printed.splitlines() if row.startswith(f"| {name} |")]
        assert float(line.split("|")[3]) == pytest.approx((part["age"] - part["true_age"]).abs().mean(), abs=0.002)
    assert controls(["--table", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == printed.splitlines()[-len(control_table(table)) :]


def looks_alike(count: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [N, 8] float32 that are all alike, as faces' are, but for a few, and names [N] of them."""
    random = np.random.default_rng(1 + first)
    looks = 1 + random.normal(0, 0.1, (count, 8)).astype(np.float32)
    looks[:20] *= random.normal(0, 1, 8)
    return looks, np.array([f"r{number}" for number in range(first, first + count)])


def test_a_permuted_bank_gives_the_references_of_the_next_lower_estimate():
    looks, names = looks_alike(300)
    ages = np.linspace(10, 60, 300).astype(np.float32)
    bank = ReferenceBank(looks.astype(np.float16), ages, ages, ages < 0, np.full(300, ""), names, "abc")
    embedding, nobody = looks[[5, 50, 100, 200]], np.full(4, "")
    estimate = np.array([30.0, 10.0, 40.0, 20.0])
    permuted = PermutedBank(**parts_of(bank)).query(embedding, estimate, 5, 100, nobody, nobody)
    plain = bank.query(embedding[[3, 2, 0, 1]], estimate, 5, 100, nobody, nobody)  # of the lowest: the highest
    assert np.array_equal(permuted.index, plain.index) and np.array_equal(permuted.mask, plain.mask)


def test_random_references_are_the_same_on_two_runs_and_any_of_about_the_age():
    looks, names = looks_alike(600)
    nobody, at = np.full(300, ""), np.full(300, 40, np.float32)
    ages = np.repeat(np.float32([40, 60]), 300)
    bank = ReferenceBank(looks.astype(np.float16), ages, ages, ages < 0, np.full(600, ""), names, "abc")
    random = RandomBank(**parts_of(bank))
    plain, found, again = (kind.query(looks[300:], at, 10, 3.0, names[300:], nobody) for kind in (bank, random, random))
    assert np.array_equal(found.index, again.index) and (found.index != plain.index).mean() > 0.9
    backwards = random.query(looks[:299:-1], at, 10, 3.0, names[:299:-1], nobody)
    assert np.array_equal(backwards.index[::-1], found.index)  # the id decides, not the place
    assert found.index.max() < 300 and all(len(set(row)) == 10 for row in found.index)
    used = np.bincount(found.index.ravel(), minlength=300)  # 10 each, were it drawn
    assert used.std() < 1.5 * np.sqrt(10) and used[:20].mean() == pytest.approx(10, abs=3)


def test_without_released_weights_the_training_command_is_named(tmp_path, monkeypatch, capsys):
    missing = tmp_path / "Ep3Pipeline"
    monkeypatch.setattr(Ep3Pipeline__model, "RELEASED", missing)
    check_one_line(infer2, missing, [], "train some with python Ep3Pipeline/Ep3Pipeline__main.py --data", capsys)
