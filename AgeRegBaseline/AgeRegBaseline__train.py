"""The training loop: every step is a function of (config, step), so a run can be cut anywhere and go on exactly."""

import time
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig
from AgeRegBaseline.AgeRegBaseline__dataset import Batch, FaceSet, TrainingOrder, evaluation_batches
from AgeRegBaseline.AgeRegBaseline__model import build_model, compute_loss
from common import board
from common.augment import Augmentation, augment
from common.bar import BAR, DECODES, central_view, estimate
from common.checkpoints import git_commit, load_bar, load_checkpoint, save_bar, save_checkpoint, settings_of
from common.depthwise import Float32DepthwiseBackward
from common.files import write_whole
from common.metrics import not_finite_words, summarise
from common.predictions import prediction_table, write_predictions
from common.processes import StopRequest, averaged, draw_seed, from_main, keep_freed_memory, own_part
from common.runs import check_finite

BEST, LATEST = "best_model.ckpt", "latest_model.ckpt"
EVALUATION_BATCH = 256
STANDARDISED_BY = 2048  # training faces whose embeddings get mean 0 and deviation 1


@dataclass
class Progress:
    """Where a run stands: next epoch and step, sums of the epoch so far, best validation error (years)."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    distance_sum: float = 0.0
    best: float = float("inf")
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Run:
    """Everything a training run holds; made by `start_run`."""

    config: AgeRegBaselineConfig
    folder: Path
    accelerator: Accelerator
    model: BAR
    optimizer: Optimizer
    schedule: LRScheduler
    order: TrainingOrder
    faces: FaceSet
    validation: FaceSet
    options: Augmentation
    writer: SummaryWriter | None  # of the main process
    data: list[str]
    progress: Progress

    @property
    def plain_model(self) -> BAR:
        """The model without what accelerate puts around it."""
        return self.accelerator.unwrap_model(self.model)


def bf16_pays(config: AgeRegBaselineConfig) -> bool:
    """Whether bfloat16 arithmetic is done in hardware on the device the config names."""
    if config.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def start_run(config: AgeRegBaselineConfig, folders: list[str], folder: Path, resume: bool) -> Run:
    """Load data and model, and the state of `folder` if it is to be resumed; raises DataError, WeightsError.

    Of several processes (see common/processes.py) each trains on its part of every batch, gradients being averaged.
    Batch-norm normalises by the part of its own process; the running statistics are those of the main process.
    """
    keep_freed_memory()
    faces = FaceSet(folders, "base", config.crop_size, config.limit, config.teacher, config.seed)
    validation = FaceSet(folders, "val", config.crop_size, config.limit, seed=config.seed)
    order = TrainingOrder(faces, config)
    model = build_model(config).to(memory_format=torch.channels_last)
    bf16 = config.precision == "bf16" or (config.precision == "auto" and bf16_pays(config))
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=config.device == "cpu")
    order.check(accelerator.num_processes)
    groups = [
        {"params": model.backbone.parameters()},
        {"params": [*model.embedding.parameters(), *model.head.parameters()]},
    ]
    model, optimizer = accelerator.prepare(model, AdamW(groups, weight_decay=config.weight_decay))
    rates = [config.learning_rate * config.backbone_rate, config.learning_rate]
    total = config.epochs * order.steps
    schedule = OneCycleLR(optimizer, rates, total_steps=total, pct_start=config.warm_up)
    writer = SummaryWriter(str(folder)) if accelerator.is_main_process else None
    run = Run(
        config, folder, accelerator, model, optimizer, schedule, order, faces, validation,
        Augmentation().scaled(config.augmentation), writer, [Path(name).name for name in folders], Progress(),
    )  # fmt: skip
    if resume:
        _restore(run, load_checkpoint(folder / LATEST))
    return run


def _restore(run: Run, state: dict) -> None:
    run.plain_model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.schedule.load_state_dict(state["schedule"])
    run.progress = Progress(**state["progress"])


def save_latest(run: Run) -> None:
    """Write latest_model.ckpt: model, optimizer, schedule and progress."""
    if run.accelerator.is_main_process:
        state = {
            "model": run.plain_model.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "schedule": run.schedule.state_dict(),
            "progress": asdict(run.progress),
        }
        save_checkpoint(run.folder / LATEST, state)


def training_images(run: Run, crops: Tensor, number: int) -> Tensor:
    """What step `number` trains on: augmented views [B, 3, I, I] float in 0..1 of crops [B, S, S, 3] uint8."""
    model = replace(run.config, input_size=run.config.train_size or run.config.input_size)
    if not run.config.augmentation:
        return central_view(crops, model)
    generator = torch.Generator(crops.device).manual_seed(draw_seed(run.accelerator, run.config.seed, number))
    return augment(crops, model, run.options, generator)


def compute_gradients(run: Run, batch: Batch, number: int) -> tuple[float, float]:
    """Gradients of the whole batch from this process's part of it; returns the part's share of loss and MAE (years).

    Shares are such that their mean over the processes is the loss of the whole batch, however it is divided.
    """
    torch.manual_seed(draw_seed(run.accelerator, run.config.seed, number))
    crops, low, high, taught = (None if part is None else part.to(run.accelerator.device) for part in batch)
    images = training_images(run, crops, number)
    with run.accelerator.autocast(), Float32DepthwiseBackward():
        output = run.model(images)
    loss = compute_loss(output, low, high, run.config, taught)
    share = len(crops) * run.accelerator.num_processes / run.order.batch
    run.optimizer.zero_grad()
    run.accelerator.backward(loss.total * share)
    return loss.total.item() * share, loss.distance.mean().item() * share


def train_step(run: Run, batch: Batch, number: int) -> tuple[float, float]:
    """One optimizer step, all of its randomness drawn from (seed, number); returns as `compute_gradients`.

    Raises DataError, the weights being as before, if a gradient is not finite (of one process or of all).
    """
    loss, distance = compute_gradients(run, batch, number)
    norm = run.accelerator.clip_grad_norm_(run.model.parameters(), 5.0)
    check_finite(float(norm), "gradient", run.progress.epoch + 1)
    run.optimizer.step()
    run.schedule.step()
    return loss, distance


def train_epoch(run: Run, stop: StopRequest) -> None:
    """Train from the current step to the end of the epoch, saving the state on the way and before a stop."""
    run.model.train()
    progress, steps = run.progress, run.order.steps
    title = f"epoch {progress.epoch + 1}/{run.config.epochs}"
    bar = tqdm(total=steps, initial=progress.step, desc=title, unit="step", disable=run.writer is None)
    for numbers in run.order.epoch(progress.epoch, progress.step):
        number = progress.epoch * steps + progress.step
        loss, distance = train_step(run, run.faces.take(own_part(run.accelerator, numbers)), number)
        loss, distance, wanted = averaged(run.accelerator, loss, distance, stop.wanted)  # all stop after the same step
        check_finite(loss, "loss", progress.epoch + 1)
        progress.step += 1
        progress.loss_sum += loss
        progress.distance_sum += distance
        bar.update()
        mean_loss, mae = progress.loss_sum / progress.step, progress.distance_sum / progress.step
        bar.set_postfix(loss=f"{mean_loss:.3f}", mae=f"{mae:.2f}")
        if run.writer and number % 20 == 0:
            run.writer.add_scalar("train/loss", loss, number)
            run.writer.add_scalar("train/mae", distance, number)
            run.writer.add_scalar("train/learning_rate", run.schedule.get_last_lr()[-1], number)
        if wanted or progress.step % run.config.checkpoint_steps == 0:
            save_latest(run)
        if wanted:
            raise KeyboardInterrupt
    bar.close()


@torch.inference_mode()
def validate(run: Run, model: BAR) -> pd.DataFrame:
    """Predictions of a model on the val split, as a predictions table (see common/predictions.py)."""
    model.eval()
    ages = []
    for batch in evaluation_batches(run.validation, EVALUATION_BATCH):
        with run.accelerator.autocast():
            images = central_view(batch.crops.to(run.accelerator.device), run.config)
            ages.append(estimate(model, images).age.float().cpu())
    manifest = pd.concat(run.validation.manifests, ignore_index=True)
    return prediction_table(manifest, torch.cat(ages).numpy())


@torch.inference_mode()
def log_images(run: Run, model: BAR, table: pd.DataFrame) -> None:
    """Show in TensorBoard the epoch's first batch as trained on, some distributions, and the predictions of `table`.

    The scatter is left out where no validation face has an exact age.
    """
    epoch, device = run.progress.epoch, run.accelerator.device
    crops = run.faces.take(own_part(run.accelerator, next(run.order.epoch(epoch)))).crops.to(device)
    board.log_grid(run.writer, training_images(run, crops, epoch * run.order.steps), epoch + 1)
    by_age = np.argsort(run.validation.low, kind="stable")
    few = run.validation.take(by_age[board.evenly(len(by_age), 6)])
    with run.accelerator.autocast():
        log_probs = estimate(model, central_view(few.crops.to(device), run.config)).log_probs.float().cpu().numpy()
    drawn = board.draw_distributions(model.ages.cpu().numpy(), log_probs, few.low.numpy(), few.high.numpy())
    run.writer.add_figure(board.DISTRIBUTIONS, drawn, epoch + 1)
    exact = table[table["true_age"].notna()]
    if len(exact):
        drawn = board.draw_scatter(exact["true_age"].to_numpy(float), exact["age"].to_numpy(float))
        run.writer.add_figure(board.SCATTER, drawn, epoch + 1)


def selection_error(result: dict[str, Any], epoch: int = 0) -> float:
    """What a model is chosen by: MAE on exact labels, or without any the mean distance to the interval (years).

    Raises DataError if an estimate of that epoch (from 1; 0: of the start) is not finite.
    """
    if result["failed"]:
        words = not_finite_words(result["failed"], result["faces"] + result["failed"])
        check_finite(float("nan"), f"validation error ({words})", epoch)
    return result["exact"]["all"]["mae"] if "exact" in result else result["interval"]["all"]["distance"]


def candidate(run: Run) -> BAR:
    """What would be released if training ended now: the model, with keep_init its mean with init_weights."""
    if not run.config.keep_init:
        return run.plain_model
    model = deepcopy(run.plain_model)
    model.load_state_dict(mean_with_init(run.plain_model.state_dict(), run.config))
    return model


def validate_start(run: Run) -> Progress:
    """Let init_weights as they are compete as epoch 0; for the main process, the others take over the progress."""
    table = validate(run, run.plain_model)
    result = summarise(table)
    run.progress.best = selection_error(result)
    nothing = dict.fromkeys(("train_loss", "train_mae"), float("nan"))
    note_epoch(run, {"epoch": 0} | nothing | validation_row(result) | {"seconds": 0.0})
    keep_best(run, run.plain_model, table)
    save_latest(run)
    return run.progress


def validation_row(result: dict[str, Any]) -> dict[str, float]:
    """Columns val_mae (years) and val_hit_rate (%) of history.csv, NaN where no label is of that kind."""
    return {
        "val_mae": result.get("exact", {}).get("all", {}).get("mae", float("nan")),
        "val_hit_rate": result.get("interval", {}).get("all", {}).get("hit_rate", float("nan")),
    }


def note_epoch(run: Run, row: dict[str, float]) -> None:
    """Write the row of an epoch to tensorboard, history.csv and the screen."""
    run.progress.history.append(row)
    for key in ("train_loss", "train_mae", "val_mae", "val_hit_rate"):
        run.writer.add_scalar(f"epoch/{key}", row[key], row["epoch"])
    history = pd.DataFrame(run.progress.history)
    write_whole(run.folder / "history.csv", history.to_csv(index=False, float_format="%.4f"))
    tqdm.write("  ".join(f"{key} {value:.3f}" if key != "epoch" else f"epoch {value}" for key, value in row.items()))


def keep_best(run: Run, model: BAR, table: pd.DataFrame) -> None:
    """Write best_model.ckpt, as it would be released, and its predictions of val."""
    save_checkpoint(run.folder / BEST, {"model": model.state_dict(), "as_released": True})
    write_predictions(table, run.folder / "predictions_val.csv")


def finish_epoch(run: Run, seconds: float) -> Progress:
    """Validate, log, keep the weights if they are the best, and move the progress to the next epoch.

    For the main process; the others take over the progress.
    """
    progress, steps = run.progress, run.order.steps
    model = candidate(run)
    table = validate(run, model)
    result = summarise(table)
    error = selection_error(result, progress.epoch + 1)
    row = {
        "epoch": progress.epoch + 1,
        "train_loss": progress.loss_sum / steps,
        "train_mae": progress.distance_sum / steps,
    }
    log_images(run, model, table)
    note_epoch(run, row | validation_row(result) | {"seconds": round(seconds, 1)})
    if error < progress.best:
        keep_best(run, model, table)
        progress.best, progress.best_epoch = error, progress.epoch
    progress.epoch, progress.step, progress.loss_sum, progress.distance_sum = progress.epoch + 1, 0, 0.0, 0.0
    save_latest(run)
    return progress


def fit(run: Run) -> Path:
    """Train until the last epoch or until `patience` epochs brought nothing; returns the folder of the weights.

    Ctrl-C saves the state after the current step and raises KeyboardInterrupt; `start_run(…, resume=True)` goes
    on from there.
    """
    with StopRequest() as stop:
        _train_and_validate(run, stop)
    if run.writer:
        run.writer.close()
    return from_main(lambda: export(run), run.config.device)


def _train_and_validate(run: Run, stop: StopRequest) -> None:
    if run.config.init_weights and not run.progress.history and not run.progress.step:
        run.progress = from_main(partial(validate_start, run), run.config.device)
    while run.progress.epoch < run.config.epochs:
        if run.progress.epoch - run.progress.best_epoch > run.config.patience:
            if run.writer:
                print(f"Early stop: {run.config.patience} epochs without a better validation error.")
            break
        started = time.monotonic()
        train_epoch(run, stop)
        run.progress = from_main(partial(finish_epoch, run, time.monotonic() - started), run.config.device)


def start_is_best(run: Run) -> bool:
    """Whether no epoch was better than the weights that the training started from."""
    return bool(run.config.init_weights) and run.progress.best_epoch < 0


@torch.inference_mode()
def standardise(run: Run, model: BAR) -> None:
    """Give the embeddings of the training faces mean 0 and deviation 1 in every number; ages stay what they are."""
    model.eval()
    numbers = np.unique(np.linspace(0, len(run.faces) - 1, STANDARDISED_BY).round().astype(int))
    parts = [run.faces.take(part).crops for part in np.array_split(numbers, 1 + len(numbers) // EVALUATION_BATCH)]
    views = (central_view(crops.to(run.accelerator.device), run.config) for crops in parts)
    model.standardise(torch.cat([model(images).embedding for images in views]))


def mean_with_init(state: dict[str, Tensor], config: AgeRegBaselineConfig) -> dict[str, Tensor]:
    """The weighted mean of trained weights and those of config.init_weights (counters as trained).

    After Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022. Raises WeightsError.
    """
    start = load_bar(config.init_weights).state_dict()
    return {
        name: torch.lerp(value, start[name], config.keep_init) if value.is_floating_point() else value
        for name, value in state.items()
    }


def export(run: Run) -> Path:
    """Write the best weights in released form, read out in the better way, to <run>/weights; returns that folder.

    With keep_init it is their mean with the weights that the training started from. If no epoch was better than these,
    they are written as they are.
    """
    model = build_model(replace(run.config, pretrained=False, init_weights="", keep_init=0.0))
    best = load_checkpoint(run.folder / BEST)
    mixed = best.get("as_released") or not run.config.keep_init  # a run of an older version keeps them unmixed
    model.load_state_dict(best["model"] if mixed else mean_with_init(best["model"], run.config))
    model.to(run.accelerator.device, memory_format=torch.channels_last)
    errors = {}
    for decode in DECODES if run.config.head != "regression" else (run.config.decode,):
        model.config = replace(run.config, decode=decode)
        errors[decode] = selection_error(summarise(validate(run, model)))
    model.config = replace(run.config, decode=min(errors, key=errors.get))
    if not start_is_best(run):
        standardise(run, model)
    notes = {
        "validation_error_years": errors,
        "epoch": run.progress.best_epoch + 1,
        "training": settings_of(run.config),
        "data": run.data,
        "commit": git_commit(),
    }
    return save_bar(model, run.folder / "weights", notes)
