"""DiffPipeline6 from training to corrected ages, on synthetic faces and on domains with a bias that references tell."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from common.data.manifest import load_prepared
from common.difference.bank import Found
from common.difference.corrector import Faces
from common.difference.embedded import EmbeddedFaces, bank_of, picture_names
from common.difference.heads import DifferenceOutput
from common.evaluation.controls import control_table, neighbour_median, recalibrations, residual_vote
from common.evaluation.metrics import paired_bootstrap
from common.pipeline import AgePredictBasicPipeline
from DiffPipeline6 import DiffPipeline6__train as train_module
from DiffPipeline6.DiffPipeline6__config import DiffPipeline6Config, parse_arguments
from DiffPipeline6.DiffPipeline6__controls import find_permuted, permute_references
from DiffPipeline6.DiffPipeline6__controls import main as controls
from DiffPipeline6.DiffPipeline6__dataset import find_references, hide_some
from DiffPipeline6.DiffPipeline6__infer import main as infer
from DiffPipeline6.DiffPipeline6__infer2 import main as infer2
from DiffPipeline6.DiffPipeline6__main import main as train
from DiffPipeline6.DiffPipeline6__model import compute_loss, load_model
from DiffPipeline6.DiffPipeline6__train import Data, finish_epoch, make_run, predict, train_epoch
from tests.difference_checks import WRONG_WORDS, check_drawings, check_modes, check_one_line, check_pairs, check_resume


@pytest.fixture(scope="module")
def words(diff_words) -> list[str]:
    return diff_words


@pytest.fixture(scope="module")
def weights(diff_weights) -> Path:
    return diff_weights


# --- domains: the base is off by a different amount in each of many; only references of the domain can tell ---------


def domain_faces(domains: range, each: int, seed: int) -> EmbeddedFaces:
    random = np.random.default_rng(seed)
    domain = np.repeat(np.array(domains), each)
    directions = np.random.default_rng(99).normal(size=(200, 32))
    bias = np.random.default_rng(98).normal(0, 6, 200)
    age = random.uniform(15, 75, len(domain)).round().astype(np.float32)
    embedding = directions[domain] + 0.1 * random.normal(size=(len(domain), 32))
    estimate = age + bias[domain] + random.normal(0, 1.5, len(domain))
    names = np.array([f"{seed}-{number}" for number in range(len(domain))])
    return EmbeddedFaces(
        embedding[None].astype(np.float16), estimate[None].astype(np.float32), age, age,
        np.full(len(domain), ""), names, np.arange(len(domain)), np.zeros(len(domain), int),
    )  # fmt: skip


def domain_run(tiny_run: Path, folder: Path, find=find_references, **settings):
    config = DiffPipeline6Config(
        embedding_size=32, hidden_size=64, reference_window=100, level_radius=20, views=0, batch_size=64,
        learning_rate=3e-3, device="cpu", aggregation="avg", age_weight=5.0, epochs=15,
        **{"references": 8, **settings},
    )  # fmt: skip
    pipeline = AgePredictBasicPipeline.from_weights(tiny_run / "weights", "cpu")
    train_faces, new = domain_faces(range(0, 120), 12, 1), domain_faces(range(150, 190), 4, 2)
    bank = bank_of([(train_faces, False), (domain_faces(range(150, 190), 12, 3), False)], pipeline.fingerprint)
    data = Data(train_faces, new, bank, train_faces, [find(train_faces, bank, config, 0)], [], bank)
    run = make_run(config, folder, tiny_run / "weights", pipeline, data)
    run.find = find
    for _ in range(config.epochs):
        finish_epoch(run, train_epoch(run))
    return run


def test_references_recover_a_bias_that_no_control_can(tiny_run, tmp_path):
    full = domain_run(tiny_run, tmp_path / "full")
    faces = full.data.validation

    def error(ages: np.ndarray) -> float:
        return float(np.abs(ages - faces.low).mean())

    base, corrected = error(faces.estimates[0]), error(predict(full, full.data.validation))
    controls_by_name = {
        "a": error(predict(domain_run(tiny_run, tmp_path / "a", references=0), full.data.validation)),
        "b": error(predict(domain_run(tiny_run, tmp_path / "b", find_permuted), full.data.validation)),
    }
    bank = full.data.bank
    for name, calibration in recalibrations(bank.estimates, bank.ages).items():
        controls_by_name[name] = error(calibration(faces.estimates[0]))
    assert base > 4
    assert corrected < 2.6
    assert all(corrected < 0.6 * value for value in controls_by_name.values()), controls_by_name


# --- data -------------------------------------------------------------------------------------------------------------


def test_permuted_references_belong_to_another_query_of_the_same_estimate_and_never_hold_the_face_itself():
    faces = domain_faces(range(0, 30), 12, 1)
    bank = bank_of([(faces, False)], "abc")
    config = DiffPipeline6Config(embedding_size=32, references=5, reference_window=100)
    found = find_references(faces, bank, config)
    assert not (bank.id[found.index] == faces.id[:, None]).any()
    permuted = permute_references(found, faces, bank, 0)
    assert not ((bank.id[permuted.index] == faces.id[:, None]) & permuted.mask).any()
    rounded = np.round(faces.estimates[0])
    for number in range(len(faces)):
        owners = np.flatnonzero((found.index == permuted.index[number]).all(axis=1))
        assert (rounded[owners] == rounded[number]).any()
    alone = np.array([(rounded == value).sum() == 1 for value in rounded])
    same = (found.index == permuted.index).all(axis=1)
    assert same[alone].all() and not same[~alone].any()


def test_hiding_keeps_the_stated_part():
    found = Found(np.arange(2000).reshape(20, 100), np.ones((20, 100), bool))
    hidden = hide_some(found, 0.5, np.random.default_rng(0))
    share = hidden.mask.mean(axis=1)
    assert share.min() > 0.35 and 0.65 < share.mean() < 0.85
    assert hide_some(found, 0.0, np.random.default_rng(0)).mask.all()


def test_copies_of_a_picture_share_a_name():
    ids, group = np.array(list("fedcba")), np.array([0, 1, 2, 3, 1, 4])
    names = picture_names(np.array(["", "", "anna", "", "", ""]), ids, group)
    assert names[1] == names[4] == "copy of b" and names[2] == "anna" and (names[[0, 3, 5]] == "").all()


def test_the_bank_marks_what_the_base_has_seen(weights, synthetic_set):
    bank, manifest = load_model(weights, "cpu").bank, load_prepared(synthetic_set).manifest
    split = manifest.set_index("id")["split"]
    assert np.array_equal(bank.seen, (split[bank.id] == "base").to_numpy())
    assert set(split[bank.id]) == {"base", "dar"}


# --- loss -------------------------------------------------------------------------------------------------------------


def output_saying(difference: list[float], age: list[float]) -> DifferenceOutput:
    count = len(age)
    levels = torch.zeros(count, 30)
    return DifferenceOutput(levels, torch.tensor(difference), torch.zeros(count, 1), torch.tensor(age), levels)


def test_the_age_term_is_the_distance_to_label_or_interval():
    config = DiffPipeline6Config(age_weight=2.0)
    low, high = torch.tensor([30.0, 20.0, 20.0]), torch.tensor([30.0, 29.0, 29.0])
    loss = compute_loss(output_saying([0.0, 0.0, 0.0], [33.0, 25.0, 32.0]), low, high, config)
    assert loss.distance.tolist() == [3.0, 0.0, 3.0]
    assert loss.total.item() == pytest.approx(loss.levels.item() + 2.0 * 2.0)


@pytest.mark.parametrize(("task", "taken"), [("0-3", [3.0]), ("4-10", [4.0, 10.0]), ("0-10", [3.0, 4.0, 10.0])])
def test_a_task_takes_only_its_differences(task, taken):
    truth = [3.0, 4.0, 10.0, 11.0]
    config = DiffPipeline6Config(task=task, level_radius=15)
    label = torch.tensor(truth) + 40
    loss = compute_loss(output_saying([0.0] * 4, [40.0] * 4), label, label, config)
    expected = sum(taken) / len(taken)
    assert (loss.total - loss.levels).item() == pytest.approx(config.age_weight * expected)


# --- from training to ages --------------------------------------------------------------------------------------------


def test_full_bypass_and_oracle_on_a_manifest(weights, synthetic_set, tmp_path, capsys):
    tables = check_modes(infer2, weights, synthetic_set, tmp_path, capsys)
    assert (tables["full"]["n_references"] > 0).all()


def test_the_same_ages_twice_and_in_other_batches(weights, synthetic_set):
    corrector, prepared = load_model(weights, "cpu"), load_prepared(synthetic_set)
    rows = prepared.rows("test")
    base = corrector.pipeline.predict(prepared.crops[rows])
    ids = prepared.manifest["id"].to_numpy(str)[rows]
    faces = Faces(base.embeddings, base.ages, ids, np.full(len(rows), ""))
    first, again = corrector.correct(faces), corrector.correct(faces)
    assert np.array_equal(first.age, again.age) and np.array_equal(first.vote, again.vote, equal_nan=True)
    single = corrector.correct(Faces(*(array[:1] for array in faces)))
    assert single.age[0] == pytest.approx(first.age[0], abs=1e-3)
    assert np.isfinite(first.vote[first.mask]).all()


def test_a_picture_of_the_bank_is_not_its_own_reference(weights, synthetic_set):
    corrector, prepared = load_model(weights, "cpu"), load_prepared(synthetic_set)
    rows = prepared.rows("base")[:20]
    base = corrector.pipeline.predict(prepared.crops[rows])
    ids = prepared.manifest["id"].to_numpy(str)[rows]
    found = corrector.find(Faces(base.embeddings, base.ages, ids, np.full(len(rows), "")))
    assert not (corrector.bank.id[found.index] == ids[:, None]).any()


def test_photos_explained(weights, tmp_path, capsys):
    check_drawings(infer2, weights, tmp_path, capsys)


@pytest.mark.parametrize(
    ("wrong", "said"), [*WRONG_WORDS, (["--weights", "nowhere"], "no folder nowhere with DiffPipeline6 weights")]
)
def test_what_cannot_be_done_is_said_in_one_line(weights, wrong, said, capsys):
    check_one_line(infer2, weights, wrong, said, capsys)


def test_weights_of_another_base_are_refused(weights, tmp_path, capsys):
    copy = tmp_path / "weights"
    copy.mkdir()
    for name in ("model.safetensors", "config.json", "bank.npz"):
        (copy / name).write_bytes((weights / name).read_bytes())
    assert infer2(["--weights", str(copy)]) == 2
    assert "other base weights" in capsys.readouterr().err


def test_a_head_for_embeddings_of_another_size_is_refused(words, tmp_path, capsys):
    assert train([*words, "--embedding-size", "64", "--runs", str(tmp_path)]) == 2
    assert "have 256 numbers, the head would take 64; add --embedding-size 256" in capsys.readouterr().err


def test_the_difference_alone(weights, synthetic_set, tmp_path, capsys):
    check_pairs(infer, weights, synthetic_set, tmp_path, capsys)


def test_training_goes_on_where_it_stopped(words, tmp_path):
    check_resume(train, train_module, words, tmp_path)


@pytest.mark.slow
def test_a_frozen_epoch_that_stays_best_is_released_with_the_bank_of_the_untouched_base(words, tmp_path, monkeypatch):
    runs, finish = words.index("--runs") + 1, train_module.finish_epoch

    def worse_from_the_second_on(run, row):
        finish(run, row)
        run.loop.progress.best = -1.0  # nothing will be better than the first epoch

    monkeypatch.setattr(train_module, "finish_epoch", worse_from_the_second_on)
    settings = ["--unfreeze-epoch", "1", "--views", "0", "--batch-size", "8", "--limit", "24", "--references", "3"]
    assert train([*words[:runs], str(tmp_path), *words[runs + 1 :], *settings]) == 0
    (run,) = (tmp_path / "DiffPipeline6").iterdir()
    corrector = load_model(run / "weights", "cpu")
    prepared = load_prepared(words[1])
    place = {number: row for row, number in enumerate(prepared.manifest["id"])}
    crops = prepared.crops[[place[number] for number in corrector.bank.id[:8]]]
    assert corrector.pipeline.predict(crops).ages == pytest.approx(corrector.bank.estimates[:8], abs=0.05)
    assert not corrector.bank.seen.all()


@pytest.mark.slow
def test_the_backbone_is_trained_too_and_released_with_its_bank(words, tmp_path):
    runs = words.index("--runs") + 1
    settings = ["--unfreeze-epoch", "1", "--views", "0", "--batch-size", "8", "--limit", "24", "--references", "3"]
    assert train([*words[:runs], str(tmp_path), *words[runs + 1 :], *settings]) == 0
    (run,) = (tmp_path / "DiffPipeline6").iterdir()
    corrector = load_model(run / "weights", "cpu")
    history = pd.read_csv(run / "history.csv")
    assert len(history) == 2 and np.isfinite(history["val_full"]).all()
    assert corrector.bank.fingerprint == corrector.pipeline.fingerprint
    assert json.loads((run / "weights" / "config.json").read_text())["training"]["unfreeze_epoch"] == 1


def test_the_controls_in_one_table(weights, words, synthetic_set, tmp_path, capsys):
    out = tmp_path / "controls.csv"
    config = tmp_path / "config.json"
    settings = json.loads((weights / "config.json").read_text())
    settings["training"] |= {"base_weights": words[words.index("--base-weights") + 1], "epochs": 1}
    config.write_text(json.dumps(settings))
    command = ["--data", str(synthetic_set), "--seeds", "2", "--config", str(config), "--runs", str(tmp_path)]
    assert controls([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(out)
    for name in (
        "base",
        "full",
        "(a) no references",
        "(b) permuted references",
        "(c) isotonic",
        "baseline: median age",
    ):
        error = (table[table["variant"] == name]["age"] - table[table["variant"] == name]["true_age"]).abs().mean()
        (line,) = [row for row in printed.splitlines() if row.startswith(f"| {name} |")]
        assert float(line.split("|")[3]) == pytest.approx(error, abs=0.002)
    assert controls(["--table", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == printed.splitlines()[-len(control_table(table)) :]


# --- parts ------------------------------------------------------------------------------------------------------------


def test_baselines_by_hand():
    faces = domain_faces(range(0, 2), 3, 1)
    bank = bank_of([(faces, False)], "abc")
    found = Found(np.array([[0, 1, 2], [3, 0, 0]]), np.array([[True, True, True], [False, False, False]]))
    residual = (bank.ages[:3] - bank.estimates[:3]).sum() / 13
    assert residual_vote(bank, found, np.array([30.0, 40.0])) == pytest.approx([30 + residual, 40])
    assert neighbour_median(bank, found, np.array([30.0, 40.0])) == pytest.approx([np.median(bank.ages[:3]), 40])


def test_recalibrations_are_exact_where_they_can_be():
    estimate = np.array([10.0, 20, 30, 40])
    fitted = recalibrations(estimate, 2 * estimate + 1)
    assert fitted["line"](np.array([25.0])) == pytest.approx([51])
    assert fitted["offset"](np.array([25.0])) == pytest.approx([51])
    assert fitted["isotonic"](np.array([20.0, 99])) == pytest.approx([41, 81])


def test_the_bootstrap_interval_of_a_known_gain():
    random = np.random.default_rng(1)
    base = random.normal(5, 1, 4000)
    result = paired_bootstrap(base, base - 0.5 + random.normal(0, 0.3, 4000), resamples=2000)
    assert result["gain"] == pytest.approx(0.5, abs=0.02)
    assert result["high"] - result["low"] == pytest.approx(2 * 1.96 * 0.3 / np.sqrt(4000), rel=0.15)
    people = np.repeat([f"p{number}" for number in range(40)], 100)
    shared = np.repeat(random.normal(0.5, 1.0, 40), 100)
    wide = paired_bootstrap(base + 5, base + 5 - shared, people, resamples=2000)
    assert wide["high"] - wide["low"] == pytest.approx(2 * 1.96 * shared.std() / np.sqrt(40), rel=0.2)


def test_presets_and_wrong_keys(capsys):
    config, _ = parse_arguments(["--preset", "original"])
    assert (config.references, config.aggregation, config.task) == (5, "max", "4-10")
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--reference-windw", "3"])
    assert stop.value.code == 2 and "did you mean 'reference_window'" in capsys.readouterr().err
