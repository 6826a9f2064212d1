"""The step of training: estimates and references are drawn anew in every step.

Stage 1 trains the head on cached embeddings, stage 2 (unfreeze_epoch) the backbone too.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common.base.distribution import interval_distance
from common.base.weights import git_commit, settings_of
from common.data.manifest import load_prepared
from common.difference.bank import ReferenceBank
from common.difference.corrector import Faces
from common.difference.embedded import EmbeddedFaces, embed_bank, embed_data, epoch_numbers
from common.difference.heads import on_device
from common.difference.weights import OWN_BASE, save_difference
from common.errors import DataError
from common.pipeline import RELEASED as BASE_RELEASED
from common.pipeline import AgePredictBasicPipeline
from common.training.differences import make_optimizer, re_embed, save_tuned_base, trained_by, validate_corrected
from common.training.loop import Descent, Loop, Row
from Ep3Pipeline.Ep3Pipeline__config import Ep3PipelineConfig
from Ep3Pipeline.Ep3Pipeline__dataset import Batch, Data, base_errors, cached_batch, draw_errors, fit_errors, live_batch
from Ep3Pipeline.Ep3Pipeline__model import IteratedCorrector, PairDifferenceHead, build_model, compute_loss


@dataclass
class Run:
    """Everything a training run holds; made by `start_run`. `first_bank` is as the untouched base sees it."""

    config: Ep3PipelineConfig
    base: Path
    pipeline: AgePredictBasicPipeline
    data: Data
    first_bank: ReferenceBank
    head: PairDifferenceHead
    descent: Descent
    loop: Loop


def prepare(config: Ep3PipelineConfig, folders: list[str], pipeline: AgePredictBasicPipeline, base: Path) -> Data:
    """Embed everything (or read it), build the bank, look at the base's errors."""
    if not config.references:
        raise DataError("This method says nothing without references; give --references 1 or more.")
    queries = embed_data(config, folders, "dar", config.views, pipeline)
    validation = embed_data(config, folders, "val", 0, pipeline)
    bank, bank_faces = embed_bank(config, folders, pipeline, base)
    crops = [load_prepared(folder).crops for folder in folders]
    return Data(queries, validation, bank, bank_faces, crops, fit_errors(base_errors(queries), config))


def start_run(
    config: Ep3PipelineConfig,
    folders: list[str],
    folder: Path,
    resume: bool,
    kind: type[PairDifferenceHead] = PairDifferenceHead,
) -> Run:
    """Load base and data, make the head, and take up the state of `folder` if it is to be resumed."""
    base = Path(config.base_weights) if config.base_weights else BASE_RELEASED
    pipeline = AgePredictBasicPipeline.from_weights(base, config.device)
    run = make_run(config, folder, base, pipeline, prepare(config, folders, pipeline, base), kind)
    if run.data.errors is not None:
        draw_errors(base_errors(run.data.queries), run.data.errors, folder / "errors.png")
    if resume:
        parts = {"optimizer": run.descent.optimizer, "schedule": run.descent.schedule}
        run.loop.take_up(head=run.head, base=pipeline.model, **parts)
        if 0 <= config.unfreeze_epoch < run.loop.progress.epoch:
            re_embed(run.data, pipeline.model)
    return run


def make_run(
    config: Ep3PipelineConfig,
    folder: Path,
    base: Path,
    pipeline: AgePredictBasicPipeline,
    data: Data,
    kind: type[PairDifferenceHead] = PairDifferenceHead,
) -> Run:
    """A run at its beginning: a fresh head with its optimizer and schedule."""
    head = build_model(config, kind).to(pipeline.device)
    accelerator = Accelerator(mixed_precision="no", cpu=config.device == "cpu")
    trained = trained_by(config, head, pipeline.model)
    descent = Descent(accelerator, trained, *make_optimizer(config, head, pipeline.model, len(data.queries)))
    loop = Loop(folder, config.epochs, config.patience, SummaryWriter(str(folder)))
    return Run(config, base, pipeline, data, data.bank, head, descent, loop)


def unfrozen(run: Run) -> bool:
    """Whether the epoch at hand trains the backbone."""
    return 0 <= run.config.unfreeze_epoch <= run.loop.progress.epoch


def train_epoch(run: Run) -> Row:
    """One pass over the queries; returns mean loss, its terms and MAE (years).

    Seed and epoch decide everything. The backbone stays in evaluation mode: its batch statistics are kept.
    """
    run.head.train()
    config, data, epoch, rows = run.config, run.data, run.loop.progress.epoch, []
    steps = epoch_numbers(len(data.queries), config, epoch)
    for step, numbers in tqdm(steps, desc=f"epoch {epoch + 1}/{config.epochs}", unit="step", leave=False):
        random = np.random.default_rng([config.seed, epoch, step])
        torch.manual_seed(int(random.integers(2**62)))
        if unfrozen(run):
            batch = live_batch(data, numbers, run.pipeline.model, config, random)
        else:
            batch = cached_batch(data, numbers, config, random)
        rows.append(train_step(run, batch))
    return pd.DataFrame(rows).mean().to_dict()


def train_step(run: Run, batch: Batch) -> Row:
    """Go one step down the loss of a batch; returns the loss, its terms and MAE (years)."""
    device = run.pipeline.device
    query, references = (on_device(part, device) for part in batch[:2])
    low, high = batch.low.to(device), batch.high.to(device)
    loss = compute_loss(run.head(query, references), references, low, high, run.config)
    total, terms = loss.total, loss.terms
    if batch.base_age is not None:  # drawn estimates teach the base no age
        base = (interval_distance(batch.base_age, low, high) ** 2).mean()
        total, terms = total + run.config.base_weight * base, terms | {"base": base.detach()}
    run.descent.step(total, run.loop.progress.epoch + 1)
    row = {"train_loss": total.item()} | {f"train_{name}": value.item() for name, value in terms.items()}
    return row | {"train_mae": loss.distance.mean().item()}


def predict(run: Run, data: EmbeddedFaces, iterations: int = 1) -> np.ndarray:
    """Corrected ages [N] float32 (years) of embedded faces, from the base's own estimates, by the head as it is now."""
    run.head.eval()
    how = (run.config.references, run.config.reference_window, iterations)
    corrector = IteratedCorrector(run.pipeline, run.head, run.data.bank, *how)
    faces = Faces(data.embeddings[0].astype(np.float32), data.estimates[0], data.id, data.person)
    return corrector.correct(faces, votes=False).age


def finish_epoch(run: Run, row: Row) -> None:
    """Validate, keep the weights if they are the best, and move on to the next epoch."""
    if unfrozen(run):
        re_embed(run.data, run.pipeline.model)
    validation = validate_corrected(run.data.validation, predict(run, run.data.validation))
    state = {"head": run.head.state_dict(), "base": run.pipeline.model.state_dict()}
    rest = {"optimizer": run.descent.optimizer.state_dict(), "schedule": run.descent.schedule.state_dict()}
    run.loop.finish(row, validation, state | {"live": unfrozen(run)}, state | rest)


def fit(run: Run) -> Path:
    """Train (see `Loop.run`) and return the folder of the best weights; every epoch ends with a saved state."""
    run.loop.run(partial(train_epoch, run), partial(finish_epoch, run))
    return export(run)


def export(run: Run) -> Path:
    """Write the best head with its bank (and the base, if it was trained too) to <run>/weights; returns that folder."""
    best, progress = run.loop.best(), run.loop.progress
    run.head.load_state_dict(best["head"])
    folder, base, bank = run.loop.folder / "weights", run.base, run.first_bank
    if best["live"]:
        base = folder / OWN_BASE
        run.pipeline.model.load_state_dict(best["base"])
        run.pipeline = save_tuned_base(run.data, run.pipeline.model, base, "Ep3Pipeline", run.config.device)
        bank = run.data.bank
    notes = {
        "validation_error_years": progress.best,
        "epoch": progress.best_epoch + 1,
        "training": settings_of(run.config) | {"base_weights": "", "runs": ""},
        "commit": git_commit(),
    }
    return save_difference(folder, run.head, bank, base, notes)
