"""RangeClassOrdinalPipeline: its classes and its gate by hand, then from training to ages on synthetic faces."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

from common.data.predictions import read_predictions
from RangeClassOrdinalPipeline import RangeClassOrdinalPipeline__train as train_module
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__config import RangeClassConfig, RangeHeadConfig
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__dataset import (
    Samples,
    draw_pairs,
    numbers_wanted,
    range_class,
)
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__gate import best_gate_weight, class_names, gate_table
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__infer import calibration_error, table_lines
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__infer import main as infer
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__infer2 import main as infer2
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__main import main as train
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__model import (
    Gate,
    build_model,
    compute_loss,
    load_model,
    predict,
)
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__train import exact_faces, fit_gate, ranked_score
from tests.difference_checks import check_one_line, check_resume

EDGES = (2.0, 4.0, 10.0)


def test_an_edge_belongs_to_its_class():
    values = np.array([0.0, 2.0, 2.001, 4.0, 4.5, 10.0, 10.1])
    assert range_class(values, EDGES).tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert class_names(EDGES) == ["0-2", "2-4", "4-10", ">10"]


@pytest.mark.parametrize("edges", [(), (4.0, 2.0), (0.0, 2.0), (2.0, 2.0)])
def test_edges_must_rise(edges):
    with pytest.raises(ValueError, match="edges must rise"):
        RangeHeadConfig(edges=edges)


@pytest.mark.parametrize("target", ["error", "difference"])
def test_probabilities_are_a_distribution_of_levels_that_never_rise(target):
    config = RangeHeadConfig(target=target, embedding_size=8)
    head = build_model(config).eval()
    looks = torch.randn(5, 1 if target == "error" else 2, 8)
    output = head(looks, 10 * torch.randn(5, numbers_wanted(config)))
    assert output.probabilities.shape == (5, 4) and (output.probabilities >= 0).all()
    assert output.probabilities.sum(1).tolist() == pytest.approx([1] * 5, abs=1e-6)
    beyond = torch.sigmoid(output.levels).cumprod(1)
    assert torch.allclose(1 - output.probabilities.cumsum(1)[:, :3], beyond, atol=1e-6)
    assert (beyond.diff(dim=1) <= 0).all()


def test_the_loss_asks_level_by_level():
    config = RangeHeadConfig(embedding_size=4)
    head = build_model(config).eval()
    torch.nn.init.zeros_(head.levels.weight)
    torch.nn.init.zeros_(head.levels.bias)
    output = head(torch.zeros(4, 1, 4), torch.zeros(4, numbers_wanted(config)))
    for label, asked in ((0, 1), (1, 2), (2, 3), (3, 3)):  # levels that a class reaches, each at probability 1/2
        assert compute_loss(output, torch.full((4,), label)).item() == pytest.approx(asked * np.log(2), abs=1e-6)


def test_a_planted_signal_is_learned_far_above_the_prior():
    config = RangeClassConfig(embedding_size=8, dropout=0.0)
    random = np.random.default_rng(0)
    value = random.uniform(0, 14, 600).astype(np.float32)
    numbers = random.normal(size=(600, numbers_wanted(config))).astype(np.float32)
    numbers[:, 0] = value
    samples = Samples(random.normal(size=(600, 1, 8)).astype(np.float32), numbers, value, np.arange(600))
    label = range_class(value, EDGES)
    head = build_model(config)
    head.fit_scale(numbers)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    for _ in range(200):
        loss = compute_loss(head(*(torch.from_numpy(part) for part in samples[:2])), torch.from_numpy(label))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (predict(head, samples).argmax(1) == label).mean()
    assert right > 0.9 > 2 * np.bincount(label).max() / 600


def test_the_ranked_score_and_the_calibration_error_by_hand():
    probabilities = np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    # beyond: (0, 0) and (0.8, 0.5); classes 0 and 1 are (0, 0) and (1, 0)
    assert ranked_score(probabilities, np.array([0, 1])) == pytest.approx((0 + 0.04 + 0.25) / 2)
    sure = np.tile([0.75, 0.25], (4, 1))
    assert calibration_error(sure, np.array([0, 0, 0, 1])) == pytest.approx(0)
    assert calibration_error(sure, np.array([0, 0, 1, 1])) == pytest.approx(25)


def test_the_gate_takes_the_strength_that_pays_and_leaves_rare_classes_alone():
    probabilities = np.repeat(np.eye(4), [40, 40, 40, 5], axis=0)
    truth = np.zeros(125)
    base = np.repeat([1.0, 3.0, 6.0, 20.0], [40, 40, 40, 5])
    corrected = base.copy()
    corrected[:40] = 0.0  # right as it is
    corrected[40:80] = 5.0  # wrong way
    corrected[80:120] = 1.0  # not far enough: 1.2 times is best
    corrected[120:] = 30.0  # wrong way, but only five faces
    gate = fit_gate(probabilities, base, corrected, truth, EDGES)
    assert gate.strength == [1.0, 0.0, 1.2, 1.0] and gate.error == [1.0, 3.0, 6.0, 20.0]
    assert gate.apply(base, corrected, probabilities)[[0, 40, 80, 120]] == pytest.approx([0, 3, 0, 30])
    assert Gate([1.0, 1.0], [2.0, 10.0]).expected_error(np.array([[0.75, 0.25]])) == pytest.approx([4.0])


def test_the_oracle_is_an_upper_bound_of_always_and_never():
    random = np.random.default_rng(0)
    truth, base, corrected = random.uniform(0, 80, (3, 200))
    oracle = np.abs(best_gate_weight(base, corrected, truth) - truth)
    assert (oracle <= np.abs(base - truth) + 1e-9).all() and (oracle <= np.abs(corrected - truth) + 1e-9).all()
    lines = gate_table(base, corrected, base, truth, np.full(200, ""))
    assert f"| always | {np.abs(corrected - truth).mean():.3f} |" in lines[3] and "upper bound" in lines[5]


@pytest.fixture(scope="module")
def words(synthetic_set, diff_weights, tmp_path_factory) -> list[str]:
    runs = tmp_path_factory.mktemp("range_runs")
    quick = ["--views", "1", "--epochs", "3", "--device", "cpu", "--batch-size", "8"]
    return ["--data", str(synthetic_set), "--corrector-weights", str(diff_weights), "--runs", str(runs), *quick]


def trained(words: list[str], *more: str) -> Path:
    runs = Path(words[words.index("--runs") + 1]) / "RangeClassOrdinalPipeline"
    before = set(runs.iterdir()) if runs.is_dir() else set()
    assert train([*words, *more]) == 0
    (run,) = set(runs.iterdir()) - before
    return run / "weights"


@pytest.fixture(scope="module")
def weights(words) -> Path:
    return trained(words)


@pytest.fixture(scope="module")
def asked(synthetic_set, weights, diff_weights) -> list[str]:
    manifest = ["--manifest", str(synthetic_set / "manifest.csv"), "--split", "test", "--device", "cpu"]
    return [*manifest, "--weights", str(weights), "--corrector", str(diff_weights)]


def test_modes_differ_as_they_should(asked, weights, tmp_path, capsys):
    tables, printed = {}, {}
    for mode in ("full", "bypass", "oracle"):
        assert infer2([*asked, "--mode", mode, "--out", str(tmp_path / f"{mode}.csv")]) == 0
        tables[mode], printed[mode] = read_predictions(tmp_path / f"{mode}.csv"), capsys.readouterr().out
    assert np.array_equal(tables["full"]["base_age"], tables["bypass"]["age"])
    assert "upper bound" in printed["oracle"] and "gated" in printed["full"] and "gated" not in printed["bypass"]
    error = {mode: (table["age"] - table["true_age"]).abs() for mode, table in tables.items()}
    assert (error["oracle"] <= error["bypass"] + 0.011).all()
    gate = json.loads((weights / "config.json").read_text())["gate"]
    assert tables["full"]["expected_error"].between(min(gate["error"]) - 0.01, max(gate["error"]) + 0.01).all()
    assert set(tables["full"]["error_class"]) <= set(class_names(EDGES))


def test_the_gate_never_reads_the_true_age(asked, synthetic_set, tmp_path):
    manifest = pd.read_csv(synthetic_set / "manifest.csv")
    manifest["age"] = manifest["age"].sample(frac=1, random_state=0).to_numpy()
    other = tmp_path / "set"
    other.mkdir()
    for name in ("crops.npy", "prepared.json"):
        (other / name).symlink_to(synthetic_set / name)
    manifest.to_csv(other / "manifest.csv", index=False)
    results = []
    for folder in (synthetic_set, other):
        out = tmp_path / f"{len(results)}.csv"
        assert infer2(["--manifest", str(folder / "manifest.csv"), *asked[2:], "--out", str(out)]) == 0
        results.append(read_predictions(out))
    assert (results[0]["true_age"] != results[1]["true_age"]).any()
    for column in ("age", "error_class", "expected_error", "reference_ids"):
        assert results[0][column].tolist() == results[1][column].tolist()


def test_the_table_of_classes_is_that_of_the_stored_ones(weights, diff_weights, synthetic_set, tmp_path, capsys):
    words = ["--weights", str(weights), "--corrector", str(diff_weights), "--data", str(synthetic_set)]
    assert infer([*words, "--out", str(tmp_path), "--device", "cpu"]) == 0
    stored = pd.read_csv(tmp_path / "classes.csv")
    own = stored[stored["method"] == "classifier"]
    said, label = own[["p0", "p1", "p2", "p3"]].to_numpy().argmax(1), own["label"].to_numpy()
    assert np.array_equal(label, range_class(own["value"].to_numpy(), EDGES))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| classifier"))
    cells = [float(cell) for cell in line.split("|")[2:-1]]
    assert cells[0] == pytest.approx(100 * (said == label).mean(), abs=0.06)
    assert cells[1] == pytest.approx(np.abs(said - label).mean(), abs=6e-4)
    assert cells[2] == pytest.approx(f1_score(label, said, average="macro", zero_division=0), abs=6e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"classes.csv", "confusion.png", "reliability.png", "risk.png"}
    assert set(stored["method"]) == {"classifier", "class prior", "base doubt"}
    assert len(table_lines(stored)) == 5


def test_risk_over_coverage_is_what_the_stored_classes_say(tmp_path, capsys):
    random = np.random.default_rng(0)
    doubt, parts = random.random(40), []
    error = np.round(10 * doubt * random.random(40), 3)
    for method, chance in (("classifier", np.round(doubt, 2)), ("base doubt", random.random(40)), ("prior", 0.3)):
        table = pd.DataFrame({"p0": 1 - chance, "p1": chance, "value": error, "label": (error > 4).astype(int)})
        parts.append(table.assign(method=method, id=range(40)))
    pd.concat(parts).to_csv(tmp_path / "classes.csv", index=False)
    assert infer(["--table", str(tmp_path / "classes.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    faces = sorted(zip(np.round(doubt, 2).tolist(), error.tolist(), strict=True))
    means = [np.mean([value for _, value in faces[: count + 1]]) for count in range(40)]
    assert lines[-1] == f"keep the 80 % it is surest of: MAE {means[31]:.2f} (all: {error.mean():.2f})"
    cells = next(line for line in lines[8:] if line.startswith("| classifier")).split("|")[2:-1]
    assert float(cells[0]) == pytest.approx(np.mean(means), abs=0.02)  # equal doubts are averaged
    assert [float(cell) for cell in cells[1:]] == pytest.approx([means[k] for k in (39, 35, 31, 27, 19)], abs=0.02)
    assert next(line for line in lines[8:] if line.startswith("| prior")).split("|")[2].strip() == f"{error.mean():.3f}"
    chance = np.round(doubt, 2)
    said = next(line for line in lines if line.startswith("| 1 |")).split("|")
    assert int(said[2]) == (chance > 0.5).sum() and float(said[3]) == pytest.approx(
        100 * chance[chance > 0.5].mean(), abs=0.6
    )
    assert float(said[4]) == pytest.approx(100 * (error[chance > 0.5] > 4).mean(), abs=0.6)
    assert float(said[5]) == pytest.approx(error[chance > 0.5].mean(), abs=6e-3)


def test_differences_of_pairs_from_training_to_the_table(words, diff_weights, synthetic_set, tmp_path, capsys):
    folder = trained(words, "--target", "difference", "--edges", "[2.0, 4.0]")
    assert json.loads((folder / "config.json").read_text())["gate"] is None
    said = ["--weights", str(folder), "--corrector", str(diff_weights)]
    assert infer([*said, "--data", str(synthetic_set), "--out", str(tmp_path), "--device", "cpu", "--gzip"]) == 0
    stored = pd.read_csv(tmp_path / "classes.csv.gz")
    assert not (tmp_path / "classes.csv").exists()
    assert set(stored["label"]) <= {0, 1, 2} and "p3" not in stored
    assert "base estimate - age of the reference" in set(stored["method"])
    capsys.readouterr()
    assert infer2([*said, "--manifest", str(synthetic_set / "manifest.csv"), "--split", "test", "--device", "cpu"]) == 2
    assert "only --target error makes a gate" in capsys.readouterr().err


def test_pairs_stay_within_the_window_never_repeat_and_never_show_the_face_itself(words, weights, diff_weights):
    model = load_model(weights, "cpu", diff_weights)
    config = RangeClassConfig(views=0, runs=words[words.index("--runs") + 1], device="cpu", pairs=20, pair_window=6.0)
    faces = exact_faces(config, [words[1]], "dar", model.corrector)
    bank = model.corrector.bank
    assert np.isin(faces.id, bank.id).any()  # the planted leak: queries are in the bank
    person = np.array([f"p{number % 7}" for number in range(len(faces))])
    bank = replace(bank, person=np.array([f"p{number % 7}" for number in range(len(bank))]))
    pairs = draw_pairs(replace(faces, person=person), bank, config, 0)
    face, row = pairs[:, 0], pairs[:, 1]
    assert len(pairs) > 50 and len(np.unique(pairs, axis=0)) == len(pairs)
    assert (np.abs(bank.ages[row] - faces.estimates[0][face]) <= 6.0).all()
    assert (bank.id[row] != faces.id[face]).all() and (bank.person[row] != person[face]).all()
    assert np.array_equal(pairs, draw_pairs(replace(faces, person=person), bank, config, 0))
    assert not np.array_equal(pairs, draw_pairs(replace(faces, person=person), bank, config, 1))


def test_a_stopped_training_goes_on_the_same(words, tmp_path):
    check_resume(train, train_module, words, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--references", "bank.npz"], "DiffPipeline6__infer2"),
        (["--person", "anna"], "there is no --person here"),
        (["--mode", "oracle"], "--manifest"),
    ],
)
def test_a_mistake_is_one_line(weights, wrong, said, capsys):
    check_one_line(infer2, weights, wrong, said, capsys)


def test_weights_that_are_missing_or_of_another_corrector(weights, diff_weights, tmp_path, capsys):
    check_one_line(infer2, tmp_path, [], "holds no RangeClassOrdinalPipeline weights", capsys)
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes((weights / "model.safetensors").read_bytes())
    settings = json.loads((weights / "config.json").read_text()) | {"corrector_fingerprint": "0"}
    (other / "config.json").write_text(json.dumps(settings))
    check_one_line(infer2, other, ["--corrector", str(diff_weights)], "train it again", capsys)
