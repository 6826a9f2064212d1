"""What every training does alike: where it stands, its history, its best and latest state, when it stops."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common.errors import WeightsError
from common.files import write_whole
from common.training.checkpoints import load_checkpoint, save_checkpoint
from common.training.runs import check_finite

BEST, LATEST, HISTORY, PREDICTIONS = "best_model.ckpt", "latest_model.ckpt", "history.csv", "predictions_val.csv"
LARGEST_NORM = 5.0  # of the gradient; a longer one is scaled down

Row = dict[str, float]


@dataclass
class Progress:
    """Where a run stands: next epoch and step, sums of the epoch so far, best validation error, a row per epoch."""

    epoch: int = 0
    step: int = 0
    sums: Row = field(default_factory=dict)
    best: float = float("inf")
    best_epoch: int = -1
    history: list[Row] = field(default_factory=list)


class Validation(NamedTuple):
    """What validation found: the error by which epochs compete, columns for the history, the predictions as CSV."""

    error: float
    columns: Row
    predictions: str


@dataclass
class Descent:
    """A module with its optimizer and its schedule of rates: a step follows the gradient, cut to LARGEST_NORM."""

    accelerator: Accelerator
    module: nn.Module
    optimizer: Optimizer
    schedule: OneCycleLR

    def step(self, loss: Tensor, epoch: int) -> None:
        """Go down a scalar loss; raises as `follow`."""
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.follow(epoch)

    def follow(self, epoch: int) -> None:
        """Step along the gradients there are; raises DataError, the weights being as before, if one is not finite.

        `epoch` counts from 1.
        """
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), LARGEST_NORM)
        check_finite(float(norm), "gradient", epoch)
        self.optimizer.step()
        if self.schedule.last_epoch < self.schedule.total_steps - 1:  # epochs may differ by a step from those planned
            self.schedule.step()


@dataclass
class Loop:
    """The bookkeeping of one training in its run folder; `writer` is None in all processes but the main one."""

    folder: Path
    epochs: int
    patience: int
    writer: SummaryWriter | None
    progress: Progress = field(default_factory=Progress)

    def run(self, train_epoch: Callable[[], Row], finish_epoch: Callable[[Row], None]) -> None:
        """Train until the last epoch or until `patience` epochs were without improvement.

        `train_epoch` returns the columns of its epoch, `finish_epoch` validates and calls `finish`.
        """
        while self.progress.epoch < self.epochs:
            if self.progress.epoch - self.progress.best_epoch > self.patience:
                if self.writer:
                    print(f"Early stop: {self.patience} epochs without a better validation error.")
                break
            started = time.monotonic()
            row = train_epoch()
            finish_epoch(row | {"seconds": round(time.monotonic() - started, 1)})
        if self.writer:
            self.writer.close()

    def finish(self, row: Row, validation: Validation, best: dict[str, Any], latest: dict[str, Any]) -> None:
        """Note an epoch, keep the state `best` if its error is the lowest so far, and move on, saving `latest`.

        Raises DataError if the validation error is not finite.
        """
        progress = self.progress
        check_finite(validation.error, "validation error", progress.epoch + 1)
        self.note({"epoch": progress.epoch + 1} | row | validation.columns)
        if validation.error < progress.best:
            progress.best, progress.best_epoch = validation.error, progress.epoch
            self.keep_best(best, validation.predictions)
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
        self.save_latest(latest)

    def note(self, row: Row) -> None:
        """Write the row of an epoch (from 1; 0: of the start) to tensorboard, history.csv and the screen."""
        self.progress.history.append(row)
        if self.writer:
            for name, value in row.items():
                self.writer.add_scalar(f"epoch/{name}", value, row["epoch"])
        write_whole(self.folder / HISTORY, pd.DataFrame(self.progress.history).to_csv(index=False, float_format="%.4f"))
        form, known = {"epoch": "g"}, {name: value for name, value in row.items() if not isnan(value)}
        tqdm.write("  ".join(f"{name} {value:{form.get(name, '.3f')}}" for name, value in known.items()))

    def keep_best(self, state: dict[str, Any], predictions: str) -> None:
        """Write best_model.ckpt and the predictions of val."""
        save_checkpoint(self.folder / BEST, state)
        write_whole(self.folder / PREDICTIONS, predictions)

    def best(self) -> dict[str, Any]:
        """The best state; raises WeightsError if there is none."""
        return load_checkpoint(self.folder / BEST)

    def save_latest(self, state: dict[str, Any]) -> None:
        """Write latest_model.ckpt: a state and the progress."""
        save_checkpoint(self.folder / LATEST, state | {"progress": asdict(self.progress)})

    def take_up(self, **parts: Any) -> None:
        """Put the progress and `parts` (modules, optimizers, by their name in the state) where they were last saved.

        Raises WeightsError if nothing was, or if it was by another version.
        """
        state = load_checkpoint(self.folder / LATEST)
        try:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            self.progress = Progress(**state["progress"])
        except (KeyError, TypeError):
            raise WeightsError(
                f"{self.folder} was trained by an older version and cannot be resumed; start a new run."
            ) from None
