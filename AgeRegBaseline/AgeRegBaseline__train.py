"""The step of training: a function of (config, step), so that a run can be cut anywhere and go on exactly."""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig
from AgeRegBaseline.AgeRegBaseline__dataset import Batch, FaceSet, TrainingOrder, evaluation_batches
from AgeRegBaseline.AgeRegBaseline__model import build_model, compute_loss
from AgeRegBaseline.AgeRegBaseline__selection import mean_error, mean_with_init, validated
from common.base.augment import Augmentation, augment
from common.base.model import BAR, DECODES, central_view, estimate
from common.base.weights import git_commit, save_bar, settings_of
from common.data.predictions import prediction_table
from common.training import tensorboard as board
from common.training.depthwise import Float32DepthwiseBackward
from common.training.distributed import StopRequest, averaged, draw_seed, from_main, keep_freed_memory, own_part
from common.training.loop import Descent, Loop, Progress, Row
from common.training.runs import check_finite

EVALUATION_BATCH = 256
STANDARDISED_BY = 2048  # training faces whose embeddings get mean 0 and deviation 1


@dataclass
class Run:
    """Everything a training run holds; made by `start_run`."""

    config: AgeRegBaselineConfig
    model: BAR
    descent: Descent
    order: TrainingOrder
    faces: FaceSet
    validation: FaceSet
    options: Augmentation
    data: list[str]
    loop: Loop

    @property
    def accelerator(self) -> Accelerator:
        """What divides the work among processes."""
        return self.descent.accelerator

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

    Of several processes (see common/training/distributed.py) each trains on its part of every batch, gradients being
    averaged. Batch-norm normalises by the part of its own process; the running statistics are those of the main one.
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
        config, model, Descent(accelerator, model, optimizer, schedule), order, faces, validation,
        Augmentation().scaled(config.augmentation), [Path(name).name for name in folders],
        Loop(folder, config.epochs, config.patience, writer),
    )  # fmt: skip
    if resume:
        run.loop.take_up(model=run.plain_model, optimizer=optimizer, schedule=schedule)
    return run


def state_of(run: Run) -> dict[str, Any]:
    """What a run that is resumed takes up besides its progress."""
    parts = {"model": run.plain_model, "optimizer": run.descent.optimizer, "schedule": run.descent.schedule}
    return {name: part.state_dict() for name, part in parts.items()}


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
    run.descent.optimizer.zero_grad()
    run.accelerator.backward(loss.total * share)
    return loss.total.item() * share, loss.distance.mean().item() * share


def train_step(run: Run, batch: Batch, number: int) -> tuple[float, float]:
    """One optimizer step, all of its randomness drawn from (seed, number); returns as `compute_gradients`.

    Raises DataError, the weights being as before, if a gradient is not finite (of one process or of all).
    """
    loss, distance = compute_gradients(run, batch, number)
    run.descent.follow(run.loop.progress.epoch + 1)
    return loss, distance


def train_epoch(run: Run, stop: StopRequest) -> Row:
    """Train from the current step to the end of the epoch, saving the state on the way and before a stop."""
    run.model.train()
    loop, steps = run.loop, run.order.steps
    progress, sums = loop.progress, loop.progress.sums
    title = f"epoch {progress.epoch + 1}/{run.config.epochs}"
    bar = tqdm(total=steps, initial=progress.step, desc=title, unit="step", disable=loop.writer is None)
    for numbers in run.order.epoch(progress.epoch, progress.step):
        number = progress.epoch * steps + progress.step
        loss, distance = train_step(run, run.faces.take(own_part(run.accelerator, numbers)), number)
        loss, distance, wanted = averaged(run.accelerator, loss, distance, stop.wanted)  # all stop after the same step
        check_finite(loss, "loss", progress.epoch + 1)
        progress.step += 1
        for name, value in (("train_loss", loss), ("train_mae", distance)):
            sums[name] = sums.get(name, 0.0) + value
        bar.update()
        bar.set_postfix({name: f"{value / progress.step:.2f}" for name, value in sums.items()})
        if loop.writer and number % 20 == 0:
            loop.writer.add_scalar("train/loss", loss, number)
            loop.writer.add_scalar("train/mae", distance, number)
            loop.writer.add_scalar("train/learning_rate", run.descent.schedule.get_last_lr()[-1], number)
        if run.accelerator.is_main_process and (wanted or progress.step % run.config.checkpoint_steps == 0):
            loop.save_latest(state_of(run))
        if wanted:
            raise KeyboardInterrupt
    bar.close()
    return {name: value / steps for name, value in sums.items()}


@torch.inference_mode()
def validate(run: Run, model: BAR) -> pd.DataFrame:
    """Predictions of a model on the val split, as a predictions table (see common/data/predictions.py) with the set."""
    model.eval()
    ages = []
    for batch in evaluation_batches(run.validation, EVALUATION_BATCH):
        with run.accelerator.autocast():
            images = central_view(batch.crops.to(run.accelerator.device), run.config)
            ages.append(estimate(model, images).age.float().cpu())
    manifest = pd.concat(run.validation.manifests, ignore_index=True)
    sets = np.repeat(run.data, [len(part) for part in run.validation.manifests])
    return prediction_table(manifest, torch.cat(ages).numpy()).assign(set=sets)


@torch.inference_mode()
def log_images(run: Run, model: BAR, table: pd.DataFrame) -> None:
    """Show in TensorBoard the epoch's first batch as trained on, some distributions, and the predictions of `table`.

    The scatter is left out where no validation face has an exact age.
    """
    epoch, device = run.loop.progress.epoch, run.accelerator.device
    crops = run.faces.take(own_part(run.accelerator, next(run.order.epoch(epoch)))).crops.to(device)
    board.log_grid(run.loop.writer, training_images(run, crops, epoch * run.order.steps), epoch + 1)
    by_age = np.argsort(run.validation.low, kind="stable")
    few = run.validation.take(by_age[board.evenly(len(by_age), 6)])
    with run.accelerator.autocast():
        log_probs = estimate(model, central_view(few.crops.to(device), run.config)).log_probs.float().cpu().numpy()
    drawn = board.draw_distributions(model.ages.cpu().numpy(), log_probs, few.low.numpy(), few.high.numpy())
    run.loop.writer.add_figure(board.DISTRIBUTIONS, drawn, epoch + 1)
    exact = table[table["true_age"].notna()]
    if len(exact):
        drawn = board.draw_scatter(exact["true_age"].to_numpy(float), exact["age"].to_numpy(float))
        run.loop.writer.add_figure(board.SCATTER, drawn, epoch + 1)


def candidate(run: Run) -> BAR:
    """What would be released if training ended now: the model, with keep_init its mean with init_weights."""
    if not run.config.keep_init:
        return run.plain_model
    model = deepcopy(run.plain_model)
    model.load_state_dict(mean_with_init(run.plain_model.state_dict(), run.config))
    return model


def best_state(model: BAR) -> dict[str, Any]:
    """A model in best_model.ckpt, as it would be released."""
    return {"model": model.state_dict(), "as_released": True}


def validate_start(run: Run) -> Progress:
    """Let init_weights as they are compete as epoch 0; for the main process, the others take over the progress."""
    validation = validated(validate(run, run.plain_model), 0)
    nothing = dict.fromkeys(("train_loss", "train_mae"), float("nan"))
    run.loop.progress.best = validation.error
    run.loop.note({"epoch": 0} | nothing | validation.columns | {"seconds": 0.0})
    run.loop.keep_best(best_state(run.plain_model), validation.predictions)
    run.loop.save_latest(state_of(run))
    return run.loop.progress


def finish_epoch(run: Run, row: Row) -> Progress:
    """Validate, keep the weights if they are the best, and move on; the other processes take over the progress."""
    model = candidate(run)
    table = validate(run, model)
    validation = validated(table, run.loop.progress.epoch + 1)
    log_images(run, model, table)
    run.loop.finish(row, validation, best_state(model), state_of(run))
    return run.loop.progress


def fit(run: Run) -> Path:
    """Train (see `Loop.run`) and return the folder of the weights.

    Ctrl-C saves the state after the current step and raises KeyboardInterrupt; `start_run(…, resume=True)` goes on
    from there.
    """
    loop, device = run.loop, run.config.device

    def finish(row: Row) -> None:
        loop.progress = from_main(partial(finish_epoch, run, row), device)

    with StopRequest() as stop:
        if run.config.init_weights and not loop.progress.history and not loop.progress.step:
            loop.progress = from_main(partial(validate_start, run), device)
        loop.run(partial(train_epoch, run, stop), finish)
    return from_main(lambda: export(run), device)


def start_is_best(run: Run) -> bool:
    """Whether no epoch was better than the weights that the training started from."""
    return bool(run.config.init_weights) and run.loop.progress.best_epoch < 0


@torch.inference_mode()
def standardise(run: Run, model: BAR) -> None:
    """Give the embeddings of the training faces mean 0 and deviation 1 in every number; ages stay what they are."""
    model.eval()
    numbers = np.unique(np.linspace(0, len(run.faces) - 1, STANDARDISED_BY).round().astype(int))
    parts = [run.faces.take(part).crops for part in np.array_split(numbers, 1 + len(numbers) // EVALUATION_BATCH)]
    views = (central_view(crops.to(run.accelerator.device), run.config) for crops in parts)
    model.standardise(torch.cat([model(images).embedding for images in views]))


def export(run: Run) -> Path:
    """Write the best weights in released form, read out in the better way, to <run>/weights; returns that folder.

    With keep_init it is their mean with the weights that the training started from. If no epoch was better than these,
    they are written as they are.
    """
    model = build_model(replace(run.config, pretrained=False, init_weights="", keep_init=0.0))
    best = run.loop.best()
    mixed = best.get("as_released") or not run.config.keep_init  # a run of an older version keeps them unmixed
    model.load_state_dict(best["model"] if mixed else mean_with_init(best["model"], run.config))
    model.to(run.accelerator.device, memory_format=torch.channels_last)
    errors = {}
    for decode in DECODES if run.config.head != "regression" else (run.config.decode,):
        model.config = replace(run.config, decode=decode)
        errors[decode] = mean_error(validate(run, model))
    model.config = replace(run.config, decode=min(errors, key=errors.get))
    if not start_is_best(run):
        standardise(run, model)
    notes = {
        "validation_error_years": errors,
        "epoch": run.loop.progress.best_epoch + 1,
        "training": settings_of(run.config),
        "data": run.data,
        "commit": git_commit(),
    }
    return save_bar(model, run.loop.folder / "weights", notes)
