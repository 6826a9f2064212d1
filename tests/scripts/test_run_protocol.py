"""Folds from one command: figures computed again, a run that was killed, and a training for each fold."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scripts.run_protocol as run_protocol
from common.data.manifest import load_prepared
from common.data.predictions import prediction_table, write_predictions
from common.data.protocols import read_split_file, split_hash
from common.pipeline import AgePredictBasicPipeline
from scripts.prepare_data import main as prepare_main
from scripts.report_metrics import main as report_main
from tests.conftest import TINY


@pytest.fixture(scope="session")
def others(tmp_path_factory) -> Path:
    """Synthetic faces of 48 px that the tiny base was not trained on."""
    out = tmp_path_factory.mktemp("prepared") / "others"
    assert prepare_main(["synthetic", "--count", "60", "--seed", "7", "--size", "48", "--out", str(out)]) == 0
    return out


def run(folder: Path, out: Path, *words) -> int:
    return run_protocol.main([str(folder), "--out", str(out), *map(str, words)])


def metrics_of(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="session")
def three_folds(others, tiny_run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "three"
    assert run(others, out, "--protocol", "subject-kfold", "--folds", 3, "--weights", tiny_run / "weights") == 0
    return out


def test_figures_of_the_frozen_base(others, tiny_run, three_folds):
    prepared = load_prepared(others)
    manifest = prepared.manifest
    estimate = AgePredictBasicPipeline.from_weights(tiny_run / "weights").predict(prepared.crops).ages.astype(float)
    error, corrected = np.full((2, len(manifest)), np.nan)
    means = []
    for number in range(3):
        split = read_split_file(three_folds / "splits" / f"fold{number}.csv").set_index("id")["split"]
        test = (manifest["id"].map(split) == "test").to_numpy()
        slope, start = np.polyfit(estimate[~test], manifest["age"][~test], 1)
        error[test] = np.abs(estimate - manifest["age"])[test]
        corrected[test] = np.abs(slope * estimate + start - manifest["age"])[test]
        means.append(corrected[test].mean())
    found = metrics_of(three_folds)["variants"]
    assert found["base"]["all_faces"]["mae"] == pytest.approx(error.mean(), abs=0.01)
    line = found["(c) line"]
    assert line["all_faces"]["n"] == len(manifest)
    assert line["all_faces"]["mae"] == pytest.approx(corrected.mean(), abs=0.01)
    assert line["over_folds"]["mean"] == pytest.approx(np.mean(means), abs=0.01)
    assert line["over_folds"]["spread"] == pytest.approx(np.std(means, ddof=1), abs=0.01)


def test_metrics_name_every_split_file_with_its_hash(three_folds):
    metrics = metrics_of(three_folds)
    assert metrics["people_on_both_sides"] == 0 and len(metrics["split_files"]) == 3
    for entry in metrics["split_files"].values():
        assert split_hash(read_split_file(three_folds / entry["file"])) == entry["hash"]
    assert metrics["protocol"]["protocol"] == "subject-kfold" and len(metrics["protocol"]["weights"]) == 40


def test_a_killed_run_goes_on_with_the_folds_not_yet_done(others, tiny_run, three_folds, tmp_path, monkeypatch, capsys):
    words = ("--protocol", "subject-kfold", "--folds", 3, "--weights", tiny_run / "weights")
    evaluated = []
    evaluate = run_protocol.fold_predictions

    def killed(manifest, ages, fold, fit_on):
        evaluated.append(fold.name)
        if len(evaluated) == 2:
            raise KeyboardInterrupt
        return evaluate(manifest, ages, fold, fit_on)

    monkeypatch.setattr(run_protocol, "fold_predictions", killed)
    assert run(others, tmp_path / "out", *words) == 130
    assert not (tmp_path / "out" / "metrics.json").exists()
    assert run(others, tmp_path / "out", *words) == 0
    assert evaluated == ["fold0", "fold1", "fold1", "fold2"]
    assert "3 folds, 1 of them done before" in capsys.readouterr().out
    assert metrics_of(tmp_path / "out") == metrics_of(three_folds)


def test_a_finished_run_estimates_nothing_and_other_settings_are_refused(
    others, tiny_run, three_folds, monkeypatch, capsys
):
    monkeypatch.setattr(run_protocol, "base_estimates", lambda *_: pytest.fail("estimated again"))
    words = ("--protocol", "subject-kfold", "--weights", tiny_run / "weights", "--folds")
    assert run(others, three_folds, *words, 3) == 0
    assert run(others, three_folds, *words, 4) == 2
    assert "holds a run with other settings" in capsys.readouterr().err


def test_a_random_split_is_labelled(others, tiny_run, tmp_path, capsys):
    assert run(others, tmp_path, "--protocol", "random-80-20", "--weights", tiny_run / "weights") == 0
    assert "LEAKS IDENTITIES" in capsys.readouterr().out
    assert metrics_of(tmp_path)["people_on_both_sides"] > 0
    assert metrics_of(tmp_path)["variants"]["base"]["over_folds"]["spread"] is None


def test_interval_labels_give_hit_rates(others, tiny_run, tmp_path, capsys):
    folder = tmp_path / "intervals"
    folder.mkdir()
    for name in ("crops.npy", "prepared.json"):
        (folder / name).symlink_to(others / name)
    manifest = pd.read_csv(others / "manifest.csv", dtype=str).fillna("")
    decade = manifest["age"].astype(float) // 10 * 10
    manifest = manifest.assign(age="", age_min=decade, age_max=decade + 9, fold=[str(i % 2) for i in manifest.index])
    manifest.to_csv(folder / "manifest.csv", index=False)
    words = ("--protocol", "official-folds", "--weights", tiny_run / "weights")
    assert run(folder, tmp_path / "out", *words) == 0
    found = metrics_of(tmp_path / "out")["variants"]
    assert list(found) == ["base"] and found["base"]["over_folds"]["of"] == "hit_rate"
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    inside = (table["age"] >= table["true_age_min"] - 0.5) & (table["age"] <= table["true_age_max"] + 0.5)
    assert found["base"]["all_faces"]["hit_rate"] == pytest.approx(100 * inside.mean(), abs=0.01)


def test_splits_only_gives_folders_for_any_pipeline(others, tmp_path):
    assert run(others, tmp_path, "--protocol", "subject-80-20", "--splits-only") == 0
    prepared = load_prepared(tmp_path / "data" / "others_split")
    listed = read_split_file(tmp_path / "splits" / "split.csv").set_index("id")["split"]
    assert prepared.manifest["split"].tolist() == prepared.manifest["id"].map(listed).tolist()
    assert np.array_equal(prepared.crops, load_prepared(others).crops)
    assert not (tmp_path / "folds").exists()


def test_a_training_for_each_fold(synthetic_set, tmp_path, monkeypatch):
    trained = []
    train = run_protocol.train_base

    def counting(words):
        trained.append(words)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(words)

    monkeypatch.setattr(run_protocol, "train_base", counting)
    words = ["--protocol", "subject-kfold", "--folds", 2, "--seed", 3, "--train", "--epochs", 1, "--limit", 20, *TINY]
    assert run(synthetic_set, tmp_path, *words) == 130
    assert run(synthetic_set, tmp_path, *words) == 0
    used = [Path(words[words.index("--data") + 1]).name for words in trained]
    assert used == ["synthetic_fold0", "synthetic_fold1", "synthetic_fold1"]
    metrics = metrics_of(tmp_path)
    assert metrics["variants"]["base"]["all_faces"]["n"] == len(load_prepared(synthetic_set).manifest)
    assert metrics["protocol"]["train"][:2] == ["--epochs", "1"] and metrics["protocol"]["weights"] == ""
    for number in range(2):
        (config,) = (tmp_path / "runs" / f"fold{number}" / "AgeRegBaseline").glob("*/weights/config.json")
        assert json.loads(config.read_text())["data"] == [f"synthetic_fold{number}"]


def test_a_training_that_fails_is_one_sentence(others, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_protocol, "train_base", lambda words: 2)
    assert run(others, tmp_path, "--protocol", "subject-80-20", "--train", "--epochs", 1) == 2
    assert "The training for" in capsys.readouterr().err


def test_a_training_that_was_stopped_is_resumed(tmp_path, monkeypatch):
    stopped = tmp_path / "AgeRegBaseline" / "2026-01-01"
    stopped.mkdir(parents=True)
    (stopped / "latest_model.ckpt").touch()

    def resume(words):
        assert words == ["--resume", str(stopped)]
        (stopped / "weights").mkdir()
        (stopped / "weights" / "model.safetensors").touch()
        return 0

    monkeypatch.setattr(run_protocol, "train_base", resume)
    assert run_protocol.trained_weights(Path("data"), tmp_path, ["--epochs", "1"]) == stopped / "weights"
    monkeypatch.setattr(run_protocol, "train_base", lambda words: pytest.fail("trained again"))
    assert run_protocol.trained_weights(Path("data"), tmp_path, ["--epochs", "1"]) == stopped / "weights"


def test_report_metrics_names_the_split_file(others, three_folds, tmp_path):
    manifest = load_prepared(others).manifest
    write_predictions(prediction_table(manifest, manifest["age"] + 1), tmp_path / "p.csv")
    split = three_folds / "splits" / "fold0.csv"
    words = [f"all={tmp_path / 'p.csv'}", "--json", str(tmp_path / "m.json"), "--split-file", str(split)]
    assert report_main(words) == 0
    document = json.loads((tmp_path / "m.json").read_text())
    assert document["sets"]["all"]["exact"]["all"]["mae"] == 1.0
    assert document["split_file"] == {
        "file": "fold0.csv",
        "hash": metrics_of(three_folds)["split_files"]["fold0"]["hash"],
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Give either --protocol or --split-file"),
        (("--protocol", "official"), "no published parts"),
        (("--protocol", "subject-80-20", "--weights", "nowhere"), "no folder nowhere with released weights"),
        (("--split-file", "test=nowhere.csv"), "cannot be read as a list"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(words, message, others, tmp_path, capsys):
    assert run(others, tmp_path / "out", *words) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert not (tmp_path / "out").exists()


def test_a_base_is_not_judged_on_the_set_it_was_trained_on(synthetic_set, tiny_run, tmp_path, capsys):
    words = ("--protocol", "subject-80-20", "--weights", tiny_run / "weights")
    assert run(synthetic_set, tmp_path, *words) == 2
    assert "were trained on synthetic" in capsys.readouterr().err
