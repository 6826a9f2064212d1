"""The step of training: the head on cached embeddings (stage 1), the backbone along with it (stage 2)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common.base.weights import git_commit, settings_of
from common.data.manifest import load_prepared
from common.difference.bank import Found, ReferenceBank
from common.difference.embedded import EmbeddedFaces, embed_bank, embed_data, epoch_numbers
from common.difference.heads import PooledDifferenceHead, on_device
from common.difference.weights import OWN_BASE, save_difference
from common.pipeline import RELEASED as BASE_RELEASED
from common.pipeline import AgePredictBasicPipeline
from common.training.differences import (
    look_live,
    make_optimizer,
    re_embed,
    save_tuned_base,
    trained_by,
    validate_corrected,
)
from common.training.loop import Descent, Loop, Row
from DiffPipeline6.DiffPipeline6__config import DiffPipeline6Config
from DiffPipeline6.DiffPipeline6__dataset import Batch, find_references, hide_some, make_batch
from DiffPipeline6.DiffPipeline6__model import build_model, compute_loss

EVALUATION_BATCH = 256

Find = Callable[[EmbeddedFaces, ReferenceBank, DiffPipeline6Config, int], Found]


@dataclass
class Data:
    """What a run looks at: bank and queries, their references by view, the crops behind them for stage 2.

    `first_bank` is the bank as the untouched base sees it, `bank` as the base is now.
    """

    queries: EmbeddedFaces
    validation: EmbeddedFaces
    bank: ReferenceBank
    bank_faces: EmbeddedFaces
    found: list[Found]
    crops: list[np.ndarray]
    first_bank: ReferenceBank


@dataclass
class Run:
    """Everything a training run holds; made by `start_run`. `find` finds the references of faces in one view."""

    config: DiffPipeline6Config
    base: Path
    pipeline: AgePredictBasicPipeline
    data: Data
    find: Find
    head: PooledDifferenceHead
    descent: Descent
    loop: Loop


def prepare(
    config: DiffPipeline6Config, folders: list[str], pipeline: AgePredictBasicPipeline, base: Path, find: Find
) -> Data:
    """Embed everything (or read it), build the bank, find the references of every query in every view."""
    queries = embed_data(config, folders, "dar", config.views, pipeline)
    validation = embed_data(config, folders, "val", 0, pipeline)
    bank, bank_faces = embed_bank(config, folders, pipeline, base)
    found = [find(queries, bank, config, view) for view in range(1 + config.views)]
    crops = [load_prepared(folder).crops for folder in folders]
    return Data(queries, validation, bank, bank_faces, found, crops, bank)


def start_run(
    config: DiffPipeline6Config, folders: list[str], folder: Path, resume: bool, find: Find = find_references
) -> Run:
    """Load base and data, make the head, and take up the state of `folder` if it is to be resumed."""
    base = Path(config.base_weights) if config.base_weights else BASE_RELEASED
    pipeline = AgePredictBasicPipeline.from_weights(base, config.device)
    run = make_run(config, folder, base, pipeline, prepare(config, folders, pipeline, base, find))
    run.find = find
    if resume:
        parts = {"optimizer": run.descent.optimizer, "schedule": run.descent.schedule}
        run.loop.take_up(head=run.head, base=pipeline.model, **parts)
        if 0 <= config.unfreeze_epoch < run.loop.progress.epoch:
            look_again(run)
    return run


def make_run(
    config: DiffPipeline6Config, folder: Path, base: Path, pipeline: AgePredictBasicPipeline, data: Data
) -> Run:
    """A run at its beginning: a fresh head with its optimizer and schedule."""
    head = build_model(config).to(pipeline.device)
    accelerator = Accelerator(mixed_precision="no", cpu=config.device == "cpu")
    trained = trained_by(config, head, pipeline.model)
    descent = Descent(accelerator, trained, *make_optimizer(config, head, pipeline.model, len(data.queries)))
    loop = Loop(folder, config.epochs, config.patience, SummaryWriter(str(folder)))
    return Run(config, base, pipeline, data, find_references, head, descent, loop)


def unfrozen(run: Run) -> bool:
    """Whether the epoch at hand trains the backbone."""
    return 0 <= run.config.unfreeze_epoch <= run.loop.progress.epoch


def cached_batch(run: Run, numbers: np.ndarray, random: np.random.Generator) -> Batch:
    """A batch of cached embeddings: of each query one view, some of its references hidden."""
    views = random.integers(0, 1 + run.config.views, len(numbers))  # [B]
    index = np.stack([run.data.found[view].index[number] for view, number in zip(views, numbers, strict=True)])
    mask = np.stack([run.data.found[view].mask[number] for view, number in zip(views, numbers, strict=True)])
    found = hide_some(Found(index, mask), run.config.hide_references, random)
    return make_batch(run.data.queries, numbers, views, found, run.data.bank)


def live_batch(run: Run, numbers: np.ndarray, random: np.random.Generator) -> Batch:
    """The same with queries and references looked at by the backbone in training, from augmented crops."""
    config, data, model = run.config, run.data, run.pipeline.model
    found = hide_some(Found(data.found[0].index[numbers], data.found[0].mask[numbers]), config.hide_references, random)
    query, references = look_live(data, numbers, found, model, config.view_strength, random)
    low, high = (torch.from_numpy(bound[numbers]) for bound in (data.queries.low, data.queries.high))
    return Batch(query, references, low, high)


def train_epoch(run: Run) -> Row:
    """One pass over the queries; returns mean loss, level loss and MAE (years). Seed and epoch decide everything."""
    run.head.train()  # the backbone stays in evaluation mode: its batch statistics are kept
    config, device, epoch, rows = run.config, run.pipeline.device, run.loop.progress.epoch, []
    steps = epoch_numbers(len(run.data.queries), config, epoch)
    for step, numbers in tqdm(steps, desc=f"epoch {epoch + 1}/{config.epochs}", unit="step", leave=False):
        random = np.random.default_rng([config.seed, epoch, step])
        torch.manual_seed(int(random.integers(2**62)))
        batch = (live_batch if unfrozen(run) else cached_batch)(run, numbers, random)
        query, references = (on_device(part, device) for part in batch[:2])
        loss = compute_loss(run.head(query, references), batch.low.to(device), batch.high.to(device), config)
        run.descent.step(loss.total, epoch + 1)
        rows.append((loss.total.item(), loss.levels.item(), loss.distance.mean().item()))
    return dict(zip(("train_loss", "train_levels", "train_mae"), np.mean(rows, axis=0).tolist(), strict=True))


@torch.inference_mode()
def predict(run: Run, faces: EmbeddedFaces) -> np.ndarray:
    """Corrected ages [N] float32 (years) of embedded faces by the head as it is now."""
    run.head.eval()
    found, ages = run.find(faces, run.data.bank, run.config, 0), []
    for start in range(0, len(faces), EVALUATION_BATCH):
        numbers = np.arange(start, min(start + EVALUATION_BATCH, len(faces)))
        part = Found(found.index[numbers], found.mask[numbers])
        batch = make_batch(faces, numbers, np.zeros_like(numbers), part, run.data.bank)
        ages.append(run.head(*(on_device(part, run.pipeline.device) for part in batch[:2])).age.cpu())
    return torch.cat(ages).numpy()


def look_again(run: Run) -> None:
    """See every face with the base as it is now, and find the references of the queries anew."""
    re_embed(run.data, run.pipeline.model)
    run.data.found[0] = run.find(run.data.queries, run.data.bank, run.config, 0)


def finish_epoch(run: Run, row: Row) -> None:
    """Validate, keep the weights if they are the best, and move on to the next epoch."""
    if unfrozen(run):
        look_again(run)
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
    folder, base = run.loop.folder / "weights", run.base
    if not best["live"]:
        run.data.bank = run.data.first_bank
    else:
        run.pipeline.model.load_state_dict(best["base"])
        base = folder / OWN_BASE
        run.pipeline = save_tuned_base(run.data, run.pipeline.model, base, "DiffPipeline6", run.config.device)
    notes = {
        "validation_error_years": progress.best,
        "epoch": progress.best_epoch + 1,
        "training": settings_of(run.config) | {"base_weights": "", "runs": ""},
        "commit": git_commit(),
    }
    return save_difference(folder, run.head, run.data.bank, base, notes)
