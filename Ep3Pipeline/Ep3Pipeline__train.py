"""The training loop of one round: estimates and references are drawn anew in every step.

Stage 1 trains the head on kept embeddings, stage 2 (unfreeze_epoch) the backbone too. Rounds are in __rounds.
"""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common.age_distribution import interval_distance
from common.checkpoints import git_commit, load_checkpoint, save_checkpoint, settings_of
from common.correction import Faces
from common.difference_heads import on_device
from common.difference_weights import OWN_BASE, save_difference
from common.embedded import EmbeddedFaces, embed_bank, embed_data, embedded_table, epoch_numbers
from common.errors import DataError, WeightsError
from common.files import write_whole
from common.manifest import load_prepared
from common.metrics import summarise
from common.pipeline import RELEASED as BASE_RELEASED
from common.pipeline import AgePredictBasicPipeline
from common.predictions import write_predictions
from common.reference_bank import ReferenceBank
from common.runs import check_finite
from common.tuning import make_optimizer, re_embed, save_tuned_base
from Ep3Pipeline.Ep3Pipeline__config import Ep3PipelineConfig
from Ep3Pipeline.Ep3Pipeline__dataset import (
    Batch,
    Data,
    base_errors,
    draw_errors,
    fit_errors,
    kept_batch,
    live_batch,
)
from Ep3Pipeline.Ep3Pipeline__model import IteratedCorrector, PairDifferenceHead, build_model, compute_loss

BEST, LATEST = "best_model.ckpt", "latest_model.ckpt"


@dataclass
class Progress:
    """Where a run stands: round (from 1), next epoch of it, best validation error (years) and where, row per epoch."""

    round: int = 1
    epoch: int = 0
    best: float = float("inf")
    best_round: int = 0
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Run:
    """Everything a training run holds; made by `start_run`. `first_bank` is as the untouched base sees it."""

    config: Ep3PipelineConfig
    folder: Path
    base: Path
    pipeline: AgePredictBasicPipeline
    accelerator: Accelerator
    data: Data
    first_bank: ReferenceBank
    head: PairDifferenceHead
    optimizer: Optimizer
    schedule: LRScheduler
    writer: SummaryWriter
    progress: Progress


def prepare(config: Ep3PipelineConfig, folders: list[str], pipeline: AgePredictBasicPipeline, base: Path) -> Data:
    """Embed everything (or read it), build the bank, look at the base's errors."""
    if not config.references:
        raise DataError("This method says nothing without references; give --references 1 or more.")
    queries = embed_data(config, folders, "dar", config.views, pipeline)
    validation = embed_data(config, folders, "val", 0, pipeline)
    bank, bank_faces = embed_bank(config, folders, pipeline, base)
    crops = [load_prepared(folder).crops for folder in folders]
    stages = [base_errors(queries)]
    return Data(queries, validation, bank, bank_faces, crops, stages, fit_errors(stages, config))


def start_run(config: Ep3PipelineConfig, folders: list[str], folder: Path, resume: bool) -> Run:
    """Load base and data, make the head, and take up the state of `folder` if it is to be resumed."""
    base = Path(config.base_weights) if config.base_weights else BASE_RELEASED
    pipeline = AgePredictBasicPipeline.from_weights(base, config.device)
    run = make_run(config, folder, base, pipeline, prepare(config, folders, pipeline, base))
    if run.data.errors is not None:
        draw_errors(run.data.stages[0], run.data.errors, folder / "errors.png")
    if resume:
        take_up(run)
    return run


def make_run(config: Ep3PipelineConfig, folder: Path, base: Path, pipeline: AgePredictBasicPipeline, data: Data) -> Run:
    """A run at its beginning: a fresh head with its optimizer and schedule."""
    head = build_model(config).to(pipeline.device)
    optimizer, schedule = make_optimizer(config, head, pipeline.model, len(data.queries))
    accelerator = Accelerator(mixed_precision="no", cpu=config.device == "cpu")
    how = (config, folder, base, pipeline, accelerator, data, data.bank)
    return Run(*how, head, optimizer, schedule, SummaryWriter(str(folder)), Progress())


def take_up(run: Run) -> None:
    """Put a run where the last state in its folder was saved; raises WeightsError if there is none, or an old one."""
    state = load_checkpoint(run.folder / LATEST)
    if "stages" not in state:
        raise WeightsError(f"{run.folder} was trained by an older version and cannot be resumed; start a new run.")
    for name in ("head", "optimizer", "schedule"):
        getattr(run, name).load_state_dict(state[name])
    run.progress = Progress(**state["progress"])
    set_stages(run, [errors.numpy() for errors in state["stages"]])
    if "base" in state:
        run.pipeline.model.load_state_dict(state["base"])
        if run.progress.epoch > run.config.unfreeze_epoch:
            re_embed(run.data, run.pipeline.model)


def set_stages(run: Run, stages: list[np.ndarray]) -> None:
    """Draw estimates from now on with the errors [N] (years) of these stages."""
    run.data.stages, run.data.errors = stages, fit_errors(stages, run.config)


def unfrozen(run: Run) -> bool:
    """Whether the epoch at hand trains the backbone."""
    return 0 <= run.config.unfreeze_epoch <= run.progress.epoch


def train_epoch(run: Run) -> dict[str, float]:
    """One pass over the queries; returns mean loss, its terms and MAE (years).

    Seed, round and epoch decide everything. The backbone stays in evaluation mode: its batch statistics are kept.
    """
    run.head.train()
    config, data, rows = run.config, run.data, []
    epoch = (run.progress.round - 1) * config.epochs + run.progress.epoch
    steps = epoch_numbers(len(data.queries), config, epoch)
    for step, numbers in tqdm(steps, desc=f"epoch {run.progress.epoch + 1}/{config.epochs}", unit="step", leave=False):
        random = np.random.default_rng([config.seed, epoch, step])
        torch.manual_seed(int(random.integers(2**62)))
        if unfrozen(run):
            batch = live_batch(data, numbers, run.pipeline.model, config, random)
        else:
            batch = kept_batch(data, numbers, config, random)
        rows.append(train_step(run, batch))
    return pd.DataFrame(rows).mean().to_dict()


def train_step(run: Run, batch: Batch) -> dict[str, float]:
    """Go one step down the loss of a batch; returns the loss, its terms and MAE (years)."""
    device = run.pipeline.device
    query, references = (on_device(part, device) for part in batch[:2])
    low, high = batch.low.to(device), batch.high.to(device)
    loss = compute_loss(run.head(query, references), references, low, high, run.config)
    total, terms = loss.total, loss.terms
    if batch.base_age is not None:  # drawn estimates teach the base no age
        base = (interval_distance(batch.base_age, low, high) ** 2).mean()
        total, terms = total + run.config.base_weight * base, terms | {"base": base.detach()}
    run.optimizer.zero_grad()
    run.accelerator.backward(total)
    norm = run.accelerator.clip_grad_norm_(run.head.parameters(), 5.0)
    check_finite(float(norm), "gradient", run.progress.epoch + 1)
    run.optimizer.step()
    run.schedule.step()
    row = {"train_loss": total.item()} | {f"train_{name}": value.item() for name, value in terms.items()}
    return row | {"train_mae": loss.distance.mean().item()}


def predict(run: Run, data: EmbeddedFaces, iterations: int) -> np.ndarray:
    """Corrected ages [N] float32 (years) of embedded faces, from the base's own estimates, by the head as it is now."""
    run.head.eval()
    how = (run.config.references, run.config.reference_window, iterations)
    corrector = IteratedCorrector(run.pipeline, run.head, run.data.bank, *how)
    faces = Faces(data.embeddings[0].astype(np.float32), data.estimates[0], data.id, data.person)
    return corrector.correct(faces, votes=False).age


def finish_epoch(run: Run, row: dict[str, float]) -> None:
    """Validate with as many iterations as rounds, log, keep the best weights, and move on to the next epoch."""
    if unfrozen(run):
        re_embed(run.data, run.pipeline.model)
    progress = run.progress
    table = embedded_table(run.data.validation, predict(run, run.data.validation, progress.round))
    check_finite(float(table["age"].to_numpy().sum()), "validation error", progress.epoch + 1)
    result, base = summarise(table), summarise(table.assign(age=table["base_age"]))
    kind, key = ("exact", "mae") if "exact" in result else ("interval", "distance")
    error = result[kind]["all"][key]
    row = {"round": progress.round, "epoch": progress.epoch + 1} | row
    row |= {"val_base": base[kind]["all"][key], "val_full": error}
    progress.history.append(row)
    log(run, row)
    state = {"head": run.head.state_dict()}
    if run.config.unfreeze_epoch >= 0:
        state["base"] = run.pipeline.model.state_dict()
    if error < progress.best:
        progress.best, progress.best_round, progress.best_epoch = error, progress.round, progress.epoch
        save_checkpoint(run.folder / BEST, state | {"live": unfrozen(run)})
        write_predictions(table, run.folder / "predictions_val.csv")
    progress.epoch += 1
    state |= {"optimizer": run.optimizer.state_dict(), "schedule": run.schedule.state_dict()}
    state |= {"stages": [torch.from_numpy(errors) for errors in run.data.stages], "progress": asdict(progress)}
    save_checkpoint(run.folder / LATEST, state)


def log(run: Run, row: dict[str, float]) -> None:
    """Write the row of an epoch to tensorboard, history.csv and the screen."""
    step = len(run.progress.history)
    for name, value in row.items():
        run.writer.add_scalar(f"epoch/{name}", value, step)
    history = pd.DataFrame(run.progress.history)
    write_whole(run.folder / "history.csv", history.to_csv(index=False, float_format="%.4f"))
    tqdm.write(
        "  ".join(
            f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
        )
    )


def train_epochs(run: Run) -> None:
    """Train until the last epoch of the round or until `patience` epochs brought nothing, then take the best head.

    Every epoch ends with a saved state; `start_run(…, resume=True)` goes on from there.
    """
    progress = run.progress
    while progress.epoch < run.config.epochs:
        last = progress.best_epoch if progress.best_round == progress.round else -1
        if progress.epoch - last > run.config.patience:
            print(f"Early stop: {run.config.patience} epochs without a better validation error.")
            break
        started = time.monotonic()
        row = train_epoch(run)
        finish_epoch(run, row | {"seconds": round(time.monotonic() - started, 1)})
    run.head.load_state_dict(load_checkpoint(run.folder / BEST)["head"])


def export(run: Run) -> Path:
    """Write the best head with its bank (and the base, if it was trained too) to <run>/weights; returns that folder."""
    best, progress = load_checkpoint(run.folder / BEST), run.progress
    run.head.load_state_dict(best["head"])
    folder, base, bank = run.folder / "weights", run.base, run.first_bank
    if best["live"]:
        base = folder / OWN_BASE
        run.pipeline.model.load_state_dict(best["base"])
        run.pipeline = save_tuned_base(run.data, run.pipeline.model, base, "Ep3Pipeline", run.config.device)
        bank = run.data.bank
    notes = {
        "validation_error_years": progress.best,
        "round": progress.best_round,
        "epoch": progress.best_epoch + 1,
        "iterations": progress.best_round,
        "training": settings_of(run.config) | {"base_weights": "", "runs": ""},
        "commit": git_commit(),
    }
    return save_difference(folder, run.head, bank, base, notes)
