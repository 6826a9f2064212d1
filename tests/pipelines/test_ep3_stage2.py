"""Ep3Pipeline's stage 2: the backbone is trained along with the head, from the crops themselves."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from common.base.distribution import interval_distance
from common.difference.bank import load_bank
from common.difference.embedded import EmbeddedFaces
from common.training import differences as tuning
from Ep3Pipeline import Ep3Pipeline__train as train_module
from Ep3Pipeline.Ep3Pipeline__config import Ep3PipelineConfig
from Ep3Pipeline.Ep3Pipeline__dataset import live_batch
from Ep3Pipeline.Ep3Pipeline__main import main as train
from Ep3Pipeline.Ep3Pipeline__model import load_model
from Ep3Pipeline.Ep3Pipeline__train import start_run, train_step
from tests.difference_checks import check_resume

SETTINGS = {"views": 0, "batch_size": 8, "limit": 24, "references": 3, "hidden_size": 32, "epochs": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def words(synthetic_set, tiny_run, tmp_path_factory) -> list[str]:
    keys = [word for key, value in SETTINGS.items() for word in (f"--{key}", str(value))]
    runs = ["--runs", str(tmp_path_factory.mktemp("ep3_stage2")), "--unfreeze-epoch", "1"]
    return ["--data", str(synthetic_set), "--base-weights", str(tiny_run / "weights"), *runs, *keys]


def trained(words: list[str], runs: Path, *further: str) -> Path:
    assert train([*words, "--runs", str(runs), *further]) == 0
    (run,) = (runs / "Ep3Pipeline").iterdir()
    return run


def test_a_live_batch_draws_estimates_and_teaches_the_base(synthetic_set, tiny_run, tmp_path):
    config = Ep3PipelineConfig(
        **SETTINGS, base_weights=str(tiny_run / "weights"), unfreeze_epoch=0, base_weight=3.0, runs=str(tmp_path)
    )
    run = start_run(config, [str(synthetic_set)], tmp_path, resume=False)
    faces, numbers = run.data.queries, np.arange(8)
    high = faces.high.copy()
    high[:4] += 9
    run.data.queries = EmbeddedFaces(**{**vars(faces), "high": high})

    def batch():
        return live_batch(run.data, numbers, run.pipeline.model, config, np.random.default_rng(0))

    first, again = batch(), batch()
    assert torch.equal(first.query.embedding, again.query.embedding) and first.references.embedding.shape[:2] == (8, 3)
    assert torch.equal(first.query.estimate[:4], first.base_age[:4])
    assert (first.query.estimate[4:] - first.base_age[4:]).abs().min() > 1e-3
    (own,) = torch.autograd.grad(first.query.estimate.sum(), first.base_age, retain_graph=True)
    assert own.tolist() == [1] * 4 + [0] * 4 and first.references.seen.all()
    assert (first.query.embedding - torch.from_numpy(faces.embeddings[0, :8]).float()).abs().max() > 1e-3
    before = {name: value.clone() for name, value in run.pipeline.model.named_parameters()}
    row = train_step(run, first)
    squares = (interval_distance(first.base_age, first.low, first.high) ** 2).mean().item()
    rest = {"age": 1, "difference": 1, "condor": 1, "class": 1, "mean": 0.2, "variance": 0.05, "base": 3.0}
    assert row["train_base"] == pytest.approx(squares, rel=1e-5)
    assert row["train_loss"] == pytest.approx(sum(w * row[f"train_{name}"] for name, w in rest.items()), rel=1e-5)
    moved = {name for name, value in run.pipeline.model.named_parameters() if not torch.equal(value, before[name])}
    assert {"head.weight", "embedding.0.weight"} <= moved and any(name.startswith("backbone") for name in moved)


def test_the_tuned_base_is_saved_beside_the_head_with_its_bank(words, tiny_run, tmp_path, monkeypatch):
    summarise = tuning.summarise
    errors = iter([9.0, 9.0, 8.0, 8.0])  # corrected and base of each epoch: the live one is better
    monkeypatch.setattr(tuning, "summarise", lambda table: said(summarise(table), next(errors)))
    run = trained(words, tmp_path)
    history = pd.read_csv(run / "history.csv")
    assert np.isnan(history["train_base"][0]) and history["train_base"][1] > 0
    corrector = load_model(run / "weights", "cpu")
    assert corrector.bank.fingerprint == corrector.pipeline.fingerprint and corrector.bank.seen.all()
    own, first = (
        load_file(folder / "model.safetensors") for folder in (run / "weights" / "base", tiny_run / "weights")
    )
    assert any((own[name] != first[name]).any() for name in own if name.startswith("backbone"))
    assert json.loads((run / "weights" / "base" / "config.json").read_text())["tuned_by"] == "Ep3Pipeline"


def test_where_tuning_does_not_help_the_base_and_its_bank_stay_as_they_were(words, tiny_run, tmp_path, monkeypatch):
    summarise = tuning.summarise
    errors = iter([8.0, 8.0, 9.0, 9.0])  # the frozen epoch is better
    monkeypatch.setattr(tuning, "summarise", lambda table: said(summarise(table), next(errors)))
    run = trained(words, tmp_path / "live")
    monkeypatch.undo()
    frozen = trained(words, tmp_path / "frozen", "--unfreeze-epoch", "-1", "--epochs", "1")
    same = (run / "weights" / "base" / "model.safetensors", tiny_run / "weights" / "model.safetensors")
    assert same[0].read_bytes() == same[1].read_bytes()
    fingerprint = load_model(run / "weights", "cpu").pipeline.fingerprint
    banks = [load_bank(folder / "weights" / "bank.npz", fingerprint) for folder in (run, frozen)]
    assert np.array_equal(banks[0].embeddings, banks[1].embeddings) and np.array_equal(banks[0].seen, banks[1].seen)
    assert not banks[0].seen.all()


def said(result: dict, error: float) -> dict:
    return result | {"exact": {"all": {"mae": error}}}


@pytest.mark.slow
def test_stage_2_goes_on_where_it_stopped(words, tmp_path):
    check_resume(train, train_module, words, tmp_path, stops=(1, 2))
