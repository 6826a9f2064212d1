"""The bookkeeping that all four trainings share: what is kept, when it stops, where it goes on."""

import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.tensorboard import SummaryWriter

from common.errors import DataError, WeightsError
from common.training.checkpoints import load_checkpoint, save_checkpoint
from common.training.loop import BEST, LARGEST_NORM, LATEST, Descent, Loop, Validation


def loop_of(folder, epochs=9, patience=2) -> Loop:
    return Loop(folder, epochs, patience, SummaryWriter(str(folder)))


def train(loop: Loop, errors: list[float]) -> list[int]:
    """Run a loop whose epochs have these validation errors; returns the epochs (from 0) that were trained."""
    trained: list[int] = []

    def train_epoch():
        trained.append(loop.progress.epoch)
        return {"train_loss": 1.0 + loop.progress.epoch}

    def finish_epoch(row):
        error, state = errors[loop.progress.epoch], {"of": torch.tensor(loop.progress.epoch)}
        loop.finish(row, Validation(error, {"val_mae": error}, f"id,age\na,{error}\n"), state, state)

    loop.run(train_epoch, finish_epoch)
    return trained


def test_it_stops_after_epochs_without_improvement_and_keeps_the_best(tmp_path, capsys):
    loop = loop_of(tmp_path)
    assert train(loop, [5.0, 4.0, 4.5, 4.0, 4.1, 1.0]) == [0, 1, 2, 3]
    assert "Early stop: 2 epochs without a better validation error." in capsys.readouterr().out
    assert (loop.progress.best, loop.progress.best_epoch, loop.progress.epoch) == (4.0, 1, 4)
    assert loop.best()["of"] == 1 and load_checkpoint(tmp_path / LATEST)["of"] == 3
    assert (tmp_path / "predictions_val.csv").read_text() == "id,age\na,4.0\n"
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3, 4] and history["val_mae"].tolist() == [5.0, 4.0, 4.5, 4.0]
    assert history["train_loss"].tolist() == [1, 2, 3, 4]


def test_it_ends_with_the_last_epoch(tmp_path):
    assert train(loop_of(tmp_path, epochs=2), [5.0, 4.0, 3.0]) == [0, 1]


def test_it_goes_on_where_it_was_saved(tmp_path):
    train(loop_of(tmp_path, epochs=2), [5.0, 4.0])
    again = loop_of(tmp_path, epochs=4, patience=9)
    again.take_up()
    assert train(again, [0.0, 0.0, 4.5, 3.0]) == [2, 3]
    assert [row["val_mae"] for row in again.progress.history] == [5.0, 4.0, 4.5, 3.0] and again.progress.best == 3.0


def test_an_error_that_is_no_number_ends_it_before_anything_is_kept(tmp_path):
    loop = loop_of(tmp_path)
    with pytest.raises(DataError, match="validation error of epoch 2 is not finite"):
        train(loop, [5.0, float("nan")])
    assert loop.best()["of"] == 0 and load_checkpoint(tmp_path / LATEST)["progress"]["epoch"] == 1
    assert len(pd.read_csv(tmp_path / "history.csv")) == 1


def test_a_run_of_an_older_version_is_refused(tmp_path):
    loop = loop_of(tmp_path)
    with pytest.raises(WeightsError, match="no checkpoint at"):
        loop.take_up()
    for state in ({"progress": {"epoch": 1, "loss_sum": 2.0}}, {"progress": {"epoch": 1}}):
        save_checkpoint(tmp_path / LATEST, state)
        with pytest.raises(WeightsError, match="older version and cannot be resumed"):
            loop.take_up(**({} if "loss_sum" in state["progress"] else {"head": nn.Linear(1, 1)}))
    assert loop.progress.epoch == 0 and not (tmp_path / BEST).exists()


def descent_of(layer: nn.Linear, steps: int = 3) -> Descent:
    optimizer = SGD(layer.parameters(), lr=1.0)
    return Descent(Accelerator(cpu=True), layer, optimizer, OneCycleLR(optimizer, 1.0, total_steps=steps))


def test_a_long_gradient_is_cut_and_a_broken_one_changes_nothing():
    layer = nn.Linear(1, 1, bias=False)
    descent = descent_of(layer)
    before, rate = layer.weight.item(), descent.schedule.get_last_lr()[0]
    descent.step(1000 * layer.weight.sum(), 1)
    assert before - layer.weight.item() == pytest.approx(LARGEST_NORM * rate, rel=1e-4)
    kept = layer.weight.item()
    with pytest.raises(DataError, match="gradient of epoch 7 is not finite"):
        descent.step(float("inf") * layer.weight.sum(), 7)
    assert layer.weight.item() == kept
    for _ in range(9):  # more steps than the schedule has
        descent.step(layer.weight.sum(), 1)
    assert descent.schedule.last_epoch == 2
