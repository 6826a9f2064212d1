"""The training loop: the head on kept embeddings, with estimates and references drawn anew in every step."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common.checkpoints import git_commit, load_checkpoint, save_checkpoint, settings_of
from common.correction import Faces
from common.difference_heads import on_device
from common.difference_weights import save_difference
from common.embedded import EmbeddedFaces, embed_bank, embed_data, embedded_table, epoch_numbers
from common.errors import DataError
from common.metrics import summarise
from common.pipeline import RELEASED as BASE_RELEASED
from common.pipeline import AgePredictBasicPipeline
from common.predictions import write_predictions
from common.reference_bank import ReferenceBank
from Ep3Pipeline.Ep3Pipeline__config import Ep3PipelineConfig
from Ep3Pipeline.Ep3Pipeline__dataset import ErrorSampler, draw_errors, fit_errors, training_batch
from Ep3Pipeline.Ep3Pipeline__model import IteratedCorrector, PairDifferenceHead, build_model, compute_loss

BEST, LATEST = "best_model.ckpt", "latest_model.ckpt"


@dataclass
class Progress:
    """Where a run stands: next epoch, best validation error (years), one row per epoch."""

    epoch: int = 0
    best: float = float("inf")
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Data:
    """What a run looks at: queries and bank, and how estimates of the queries are wrong (None: as they are)."""

    queries: EmbeddedFaces
    validation: EmbeddedFaces
    bank: ReferenceBank
    errors: ErrorSampler | None


@dataclass
class Run:
    """Everything a training run holds; made by `start_run`."""

    config: Ep3PipelineConfig
    folder: Path
    base: Path
    pipeline: AgePredictBasicPipeline
    accelerator: Accelerator
    data: Data
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
    return Data(queries, validation, embed_bank(config, folders, pipeline, base)[0], fit_errors(queries, config))


def start_run(config: Ep3PipelineConfig, folders: list[str], folder: Path, resume: bool) -> Run:
    """Load base and data, make the head, and take up the state of `folder` if it is to be resumed."""
    base = Path(config.base_weights) if config.base_weights else BASE_RELEASED
    pipeline = AgePredictBasicPipeline.from_weights(base, config.device)
    run = make_run(config, folder, base, pipeline, prepare(config, folders, pipeline, base))
    queries, errors = run.data.queries, run.data.errors
    if errors is not None:
        draw_errors((queries.low - queries.estimates[0])[queries.exact], errors, folder / "errors.png")
    if resume:
        state = load_checkpoint(folder / LATEST)
        for name in ("head", "optimizer", "schedule"):
            getattr(run, name).load_state_dict(state[name])
        run.progress = Progress(**state["progress"])
    return run


def make_run(config: Ep3PipelineConfig, folder: Path, base: Path, pipeline: AgePredictBasicPipeline, data: Data) -> Run:
    """A run at its beginning: a fresh head with its optimizer and schedule."""
    head = build_model(config).to(pipeline.device)
    optimizer = AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    total = config.epochs * max(1, len(data.queries) // config.batch_size)
    schedule = OneCycleLR(optimizer, config.learning_rate, total_steps=total, pct_start=config.warm_up)
    accelerator = Accelerator(mixed_precision="no", cpu=config.device == "cpu")
    writer = SummaryWriter(str(folder))
    return Run(config, folder, base, pipeline, accelerator, data, head, optimizer, schedule, writer, Progress())


def train_epoch(run: Run) -> dict[str, float]:
    """One pass over the queries; returns mean loss, its terms and MAE (years). Seed and epoch decide everything."""
    run.head.train()
    config, data, device, rows = run.config, run.data, run.pipeline.device, []
    steps = epoch_numbers(len(data.queries), config, run.progress.epoch)
    for step, numbers in tqdm(steps, desc=f"epoch {run.progress.epoch + 1}/{config.epochs}", unit="step", leave=False):
        random = np.random.default_rng([config.seed, run.progress.epoch, step])
        torch.manual_seed(int(random.integers(2**62)))
        batch = training_batch(data.queries, numbers, data.bank, data.errors, config, random)
        query, references = (on_device(part, device) for part in batch[:2])
        output = run.head(query, references)
        loss = compute_loss(output, references, batch.low.to(device), batch.high.to(device), config)
        run.optimizer.zero_grad()
        run.accelerator.backward(loss.total)
        run.accelerator.clip_grad_norm_(run.head.parameters(), 5.0)
        run.optimizer.step()
        run.schedule.step()
        terms = {f"train_{name}": value.item() for name, value in loss.terms.items()}
        rows.append({"train_loss": loss.total.item()} | terms | {"train_mae": loss.distance.mean().item()})
    return pd.DataFrame(rows).mean().to_dict()


def predict(run: Run, data: EmbeddedFaces, iterations: int = 1) -> np.ndarray:
    """Corrected ages [N] float32 (years) of embedded faces, from the base's own estimates, by the head as it is now."""
    run.head.eval()
    how = (run.config.references, run.config.reference_window, iterations)
    corrector = IteratedCorrector(run.pipeline, run.head, run.data.bank, *how)
    faces = Faces(data.embeddings[0].astype(np.float32), data.estimates[0], data.id, data.person)
    return corrector.correct(faces, votes=False).age


def finish_epoch(run: Run, row: dict[str, float]) -> None:
    """Validate, log, keep the weights if they are the best, and move the progress to the next epoch."""
    progress = run.progress
    table = embedded_table(run.data.validation, predict(run, run.data.validation))
    result, base = summarise(table), summarise(table.assign(age=table["base_age"]))
    kind, key = ("exact", "mae") if "exact" in result else ("interval", "distance")
    error = result[kind]["all"][key]
    row = {"epoch": progress.epoch + 1} | row | {"val_base": base[kind]["all"][key], "val_full": error}
    progress.history.append(row)
    for name, value in row.items():
        run.writer.add_scalar(f"epoch/{name}", value, progress.epoch + 1)
    pd.DataFrame(progress.history).to_csv(run.folder / "history.csv", index=False, float_format="%.4f")
    tqdm.write("  ".join(f"{name} {value:.3f}" if name != "epoch" else f"epoch {value}" for name, value in row.items()))
    state = {"head": run.head.state_dict()}
    if error < progress.best:
        progress.best, progress.best_epoch = error, progress.epoch
        save_checkpoint(run.folder / BEST, state)
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
    """Write the best head with its bank to <run>/weights; returns that folder."""
    run.head.load_state_dict(load_checkpoint(run.folder / BEST)["head"])
    notes = {
        "validation_error_years": run.progress.best,
        "epoch": run.progress.best_epoch + 1,
        "training": settings_of(run.config) | {"base_weights": "", "runs": ""},
        "commit": git_commit(),
    }
    return save_difference(run.folder / "weights", run.head, run.data.bank, run.base, notes)
