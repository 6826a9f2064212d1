"""The training loop: stage 1 trains the head on kept embeddings, stage 2 (unfreeze_epoch) the backbone too."""

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

from common.checkpoints import git_commit, load_checkpoint, save_checkpoint, settings_of
from common.difference_heads import PooledDifferenceHead, on_device
from common.difference_weights import OWN_BASE, save_difference
from common.embedded import EmbeddedFaces, embed_bank, embed_data, embedded_table, epoch_numbers
from common.files import write_whole
from common.manifest import load_prepared
from common.metrics import summarise
from common.pipeline import RELEASED as BASE_RELEASED
from common.pipeline import AgePredictBasicPipeline
from common.predictions import write_predictions
from common.reference_bank import Found, ReferenceBank
from common.runs import check_finite
from common.tuning import look_live, make_optimizer, re_embed, save_tuned_base
from DiffPipeline6.DiffPipeline6__config import DiffPipeline6Config
from DiffPipeline6.DiffPipeline6__dataset import (
    Batch,
    find_references,
    hide_some,
    make_batch,
    permute_references,
)
from DiffPipeline6.DiffPipeline6__model import build_model, compute_loss

BEST, LATEST = "best_model.ckpt", "latest_model.ckpt"
EVALUATION_BATCH = 256


@dataclass
class Progress:
    """Where a run stands: next epoch, best validation error (years), one row per epoch."""

    epoch: int = 0
    best: float = float("inf")
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


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
    """Everything a training run holds; made by `start_run`."""

    config: DiffPipeline6Config
    folder: Path
    base: Path
    pipeline: AgePredictBasicPipeline
    accelerator: Accelerator
    data: Data
    head: PooledDifferenceHead
    optimizer: Optimizer
    schedule: LRScheduler
    writer: SummaryWriter
    progress: Progress


def prepare(config: DiffPipeline6Config, folders: list[str], pipeline: AgePredictBasicPipeline, base: Path) -> Data:
    """Embed everything (or read it), build the bank, find the references of every query in every view."""
    queries = embed_data(config, folders, "dar", config.views, pipeline)
    validation = embed_data(config, folders, "val", 0, pipeline)
    bank, bank_faces = embed_bank(config, folders, pipeline, base)
    found = [find_references(queries, bank, config, view) for view in range(1 + config.views)]
    if config.permuted:
        found = [permute_references(each, queries, bank, config.seed) for each in found]
    crops = [load_prepared(folder).crops for folder in folders]
    return Data(queries, validation, bank, bank_faces, found, crops, bank)


def start_run(config: DiffPipeline6Config, folders: list[str], folder: Path, resume: bool) -> Run:
    """Load base and data, make the head, and take up the state of `folder` if it is to be resumed."""
    base = Path(config.base_weights) if config.base_weights else BASE_RELEASED
    pipeline = AgePredictBasicPipeline.from_weights(base, config.device)
    run = make_run(config, folder, base, pipeline, prepare(config, folders, pipeline, base))
    if resume:
        state = load_checkpoint(folder / LATEST)
        for name in ("head", "optimizer", "schedule"):
            getattr(run, name).load_state_dict(state[name])
        pipeline.model.load_state_dict(state["base"])
        run.progress = Progress(**state["progress"])
        if 0 <= config.unfreeze_epoch < run.progress.epoch:
            look_again(run)
    return run


def make_run(
    config: DiffPipeline6Config, folder: Path, base: Path, pipeline: AgePredictBasicPipeline, data: Data
) -> Run:
    """A run at its beginning: a fresh head with its optimizer and schedule."""
    head = build_model(config).to(pipeline.device)
    optimizer, schedule = make_optimizer(config, head, pipeline.model, len(data.queries))
    accelerator = Accelerator(mixed_precision="no", cpu=config.device == "cpu")
    writer = SummaryWriter(str(folder))
    return Run(config, folder, base, pipeline, accelerator, data, head, optimizer, schedule, writer, Progress())


def unfrozen(run: Run) -> bool:
    """Whether the epoch at hand trains the backbone."""
    return 0 <= run.config.unfreeze_epoch <= run.progress.epoch


def kept_batch(run: Run, numbers: np.ndarray, random: np.random.Generator) -> Batch:
    """A batch of kept embeddings: of each query one view, some of its references hidden."""
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


def train_epoch(run: Run) -> dict[str, float]:
    """One pass over the queries; returns mean loss, level loss and MAE (years). Seed and epoch decide everything."""
    run.head.train()  # the backbone stays in evaluation mode: its batch statistics are kept
    config, device, rows = run.config, run.pipeline.device, []
    steps = epoch_numbers(len(run.data.queries), config, run.progress.epoch)
    for step, numbers in tqdm(steps, desc=f"epoch {run.progress.epoch + 1}/{config.epochs}", unit="step", leave=False):
        random = np.random.default_rng([config.seed, run.progress.epoch, step])
        torch.manual_seed(int(random.integers(2**62)))
        batch = (live_batch if unfrozen(run) else kept_batch)(run, numbers, random)
        query, references = (on_device(part, device) for part in batch[:2])
        output = run.head(query, references)
        loss = compute_loss(output, batch.low.to(device), batch.high.to(device), config)
        run.optimizer.zero_grad()
        run.accelerator.backward(loss.total)
        norm = run.accelerator.clip_grad_norm_(run.head.parameters(), 5.0)
        check_finite(float(norm), "gradient", run.progress.epoch + 1)
        run.optimizer.step()
        run.schedule.step()
        rows.append((loss.total.item(), loss.levels.item(), loss.distance.mean().item()))
    return dict(zip(("train_loss", "train_levels", "train_mae"), np.mean(rows, axis=0).tolist(), strict=True))


@torch.inference_mode()
def predict(run: Run, faces: EmbeddedFaces) -> np.ndarray:
    """Corrected ages [N] float32 (years) of embedded faces by the head as it is now."""
    run.head.eval()
    found = find_references(faces, run.data.bank, run.config)
    if run.config.permuted:
        found = permute_references(found, faces, run.data.bank, run.config.seed)
    ages = []
    for start in range(0, len(faces), EVALUATION_BATCH):
        numbers = np.arange(start, min(start + EVALUATION_BATCH, len(faces)))
        part = Found(found.index[numbers], found.mask[numbers])
        batch = make_batch(faces, numbers, np.zeros_like(numbers), part, run.data.bank)
        ages.append(run.head(*(on_device(part, run.pipeline.device) for part in batch[:2])).age.cpu())
    return torch.cat(ages).numpy()


def look_again(run: Run) -> None:
    """See every face with the base as it is now, and find the references of the queries anew."""
    re_embed(run.data, run.pipeline.model)
    run.data.found[0] = find_references(run.data.queries, run.data.bank, run.config)


def finish_epoch(run: Run, row: dict[str, float]) -> None:
    """Validate, log, keep the weights if they are the best, and move the progress to the next epoch."""
    if unfrozen(run):
        look_again(run)
    progress = run.progress
    table = embedded_table(run.data.validation, predict(run, run.data.validation))
    check_finite(float(table["age"].to_numpy().sum()), "validation error", progress.epoch + 1)
    result, base = summarise(table), summarise(table.assign(age=table["base_age"]))
    kind, key = ("exact", "mae") if "exact" in result else ("interval", "distance")
    error = result[kind]["all"][key]
    row = {"epoch": progress.epoch + 1} | row | {"val_base": base[kind]["all"][key], "val_full": error}
    progress.history.append(row)
    for name, value in row.items():
        run.writer.add_scalar(f"epoch/{name}", value, progress.epoch + 1)
    write_whole(run.folder / "history.csv", pd.DataFrame(progress.history).to_csv(index=False, float_format="%.4f"))
    tqdm.write("  ".join(f"{name} {value:.3f}" if name != "epoch" else f"epoch {value}" for name, value in row.items()))
    state = {"head": run.head.state_dict(), "base": run.pipeline.model.state_dict()}
    if error < progress.best:
        progress.best, progress.best_epoch = error, progress.epoch
        save_checkpoint(run.folder / BEST, state | {"live": unfrozen(run)})
        write_predictions(table, run.folder / "predictions_val.csv")
    progress.epoch += 1
    rest = {"optimizer": run.optimizer.state_dict(), "schedule": run.schedule.state_dict()}
    save_checkpoint(run.folder / LATEST, state | rest | {"progress": asdict(progress)})


def fit(run: Run) -> Path:
    """Train until the last epoch or until `patience` epochs brought nothing; returns the folder of the weights.

    Every epoch ends with a saved state; `start_run(…, resume=True)` goes on from there.
    """
    progress = run.progress
    while progress.epoch < run.config.epochs:
        if progress.epoch - progress.best_epoch > run.config.patience:
            print(f"Early stop: {run.config.patience} epochs without a better validation error.")
            break
        started = time.monotonic()
        row = train_epoch(run)
        finish_epoch(run, row | {"seconds": round(time.monotonic() - started, 1)})
    run.writer.close()
    return export(run)


def export(run: Run) -> Path:
    """Write the best head with its bank (and the base, if it was trained too) to <run>/weights; returns that folder."""
    best = load_checkpoint(run.folder / BEST)
    run.head.load_state_dict(best["head"])
    folder, base = run.folder / "weights", run.base
    if not best["live"]:
        run.data.bank = run.data.first_bank
    else:
        run.pipeline.model.load_state_dict(best["base"])
        base = folder / OWN_BASE
        run.pipeline = save_tuned_base(run.data, run.pipeline.model, base, "DiffPipeline6", run.config.device)
    notes = {
        "validation_error_years": run.progress.best,
        "epoch": run.progress.best_epoch + 1,
        "training": settings_of(run.config) | {"base_weights": "", "runs": ""},
        "commit": git_commit(),
    }
    return save_difference(folder, run.head, run.data.bank, base, notes)
