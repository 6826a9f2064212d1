"""The step of training: samples of cached embeddings, a small head; then the gate, fitted on `val`."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.tensorboard import SummaryWriter

from common.base.weights import fingerprint, git_commit, settings_of
from common.difference.corrector import Corrector
from common.difference.embedded import EmbeddedFaces, embed_data, epoch_numbers
from common.errors import DataError
from common.training.loop import Descent, Loop, Row, Validation
from DiffPipeline6.DiffPipeline6__model import RELEASED as CORRECTOR
from DiffPipeline6.DiffPipeline6__model import load_model as load_corrector
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__config import RangeClassConfig
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__dataset import (
    Samples,
    draw_pairs,
    error_samples,
    pair_samples,
    range_class,
)
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__gate import GATE_WEIGHTS
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__model import (
    Gate,
    RangeHead,
    build_model,
    compute_loss,
    predict,
    save_model,
)

VALIDATION_TURN = 1_000_000  # the pairs of val are drawn once, in no epoch's turn
FEWEST = 30  # faces a class needs on val for a strength of its own


@dataclass
class Data:
    """What a run looks at: the training samples of an epoch, samples of val, and for the gate corrected ages of val."""

    training: Callable[[int], Samples]
    validation: Samples
    faces: EmbeddedFaces
    corrected: np.ndarray | None


@dataclass
class Run:
    """Everything a training run holds; made by `start_run`."""

    config: RangeClassConfig
    corrector: Corrector
    data: Data
    head: RangeHead
    descent: Descent
    loop: Loop


def exact_faces(config: RangeClassConfig, folders: list[str], split: str, corrector: Corrector) -> EmbeddedFaces:
    """The exactly labelled faces of a split, embedded; raises DataError if there are none."""
    views = config.views if split == "dar" else 0
    faces = embed_data(config, folders, split, views, corrector.pipeline)
    if not faces.exact.any():
        raise DataError(f"No face in split '{split}' of {', '.join(folders)} has an exact age.")
    return faces.where(faces.exact)


def prepare(config: RangeClassConfig, folders: list[str], corrector: Corrector) -> Data:
    """Embed the faces of `dar` and `val` (or read them) and make samples of them."""
    queries, validation = (exact_faces(config, folders, split, corrector) for split in ("dar", "val"))
    if config.target == "error":
        samples, _ = error_samples(corrector, queries, config, 1 + config.views)
        own, correction = error_samples(corrector, validation, config)
        return Data(lambda _: samples, own, validation, correction.age)
    model, bank = corrector.pipeline.model, corrector.bank

    def drawn(faces: EmbeddedFaces, turn: int) -> Samples:
        return pair_samples(model, faces, bank, draw_pairs(faces, bank, config, turn), config)

    return Data(lambda epoch: drawn(queries, epoch), drawn(validation, VALIDATION_TURN), validation, None)


def start_run(config: RangeClassConfig, folders: list[str], folder: Path, resume: bool) -> Run:
    """Load corrector and data, make the head, and take up the state of `folder` if it is to be resumed."""
    corrector = load_corrector(config.corrector_weights or CORRECTOR, config.device)
    run = make_run(config, folder, corrector, prepare(config, folders, corrector))
    if resume:
        run.loop.take_up(head=run.head, optimizer=run.descent.optimizer, schedule=run.descent.schedule)
    return run


def make_run(config: RangeClassConfig, folder: Path, corrector: Corrector, data: Data) -> Run:
    """A run at its beginning: a fresh head with its optimizer and schedule."""
    head, first = build_model(config, config.seed), data.training(0)
    head.fit_scale(first.numbers)
    head.to(corrector.pipeline.device)
    optimizer = AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    total = 2 + config.epochs * (len(first.value) // config.batch_size + config.pairs)  # pairs differ by epoch
    schedule = OneCycleLR(optimizer, config.learning_rate, total_steps=total, pct_start=config.warm_up)
    accelerator = Accelerator(mixed_precision="no", cpu=config.device == "cpu")
    loop = Loop(folder, config.epochs, config.patience, SummaryWriter(str(folder)))
    return Run(config, corrector, data, head, Descent(accelerator, head, optimizer, schedule), loop)


def train_epoch(run: Run) -> Row:
    """One pass over the samples of the epoch; returns the mean loss. Seed and epoch decide everything."""
    run.head.train()
    config, device, epoch, losses = run.config, run.corrector.pipeline.device, run.loop.progress.epoch, []
    samples = run.data.training(epoch)
    label = range_class(samples.value, config.edges)
    for step, numbers in epoch_numbers(len(label), config, epoch):
        torch.manual_seed(int(np.random.default_rng([config.seed, epoch, step]).integers(2**62)))
        looks, values, classes = (torch.from_numpy(array[numbers]).to(device) for array in (*samples[:2], label))
        loss = compute_loss(run.head(looks, values), classes)
        run.descent.step(loss, epoch + 1)
        losses.append(loss.item())
    return {"train_loss": float(np.mean(losses))}


def ranked_score(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Ranked probability score of class probabilities [M, L + 1] for classes [M]: 0 is perfect.

    The sum over edges of the squared error of P(beyond the edge), a proper score. Reference: Epstein, 1969.
    """
    beyond = 1 - probabilities.cumsum(axis=1)[:, :-1]  # [M, L]
    return float(((beyond - (label[:, None] > np.arange(beyond.shape[1]))) ** 2).sum(axis=1).mean())


def validate(run: Run) -> Validation:
    """The ranked probability score on the samples of val, by which epochs compete, and the share of right classes."""
    samples = run.data.validation
    probabilities, label = predict(run.head, samples), range_class(samples.value, run.config.edges)
    score = ranked_score(probabilities, label)
    accuracy = 100 * float((probabilities.argmax(axis=1) == label).mean())
    table = pd.DataFrame({"id": run.data.faces.id[samples.face], "value": samples.value, "label": label})
    chances = pd.DataFrame(probabilities, columns=[f"p{number}" for number in range(probabilities.shape[1])])
    text = table.join(chances).to_csv(index=False, float_format="%.4f")
    return Validation(score, {"val_score": score, "val_accuracy": accuracy}, text)


def finish_epoch(run: Run, row: Row) -> None:
    """Validate, keep the weights if they are the best, and move on to the next epoch."""
    state = {"head": run.head.state_dict()}
    rest = {"optimizer": run.descent.optimizer.state_dict(), "schedule": run.descent.schedule.state_dict()}
    run.loop.finish(row, validate(run), state, state | rest)


def fit(run: Run) -> Path:
    """Train (see `Loop.run`) and return the folder of the best weights; every epoch ends with a saved state."""
    run.loop.run(partial(train_epoch, run), partial(finish_epoch, run))
    return export(run)


def fit_gate(
    probabilities: np.ndarray, base: np.ndarray, corrected: np.ndarray, truth: np.ndarray, edges: tuple[float, ...]
) -> Gate:
    """The gate that pays most on these faces: probabilities [N, L + 1], base and corrected ages and truth [N] (years).

    Each class that is said gets the strength of least mean absolute error, the one nearest to 1 among equals; with
    fewer than FEWEST faces 1, the correction as it is. Each true class gets its mean error (without a face: its edge).
    """
    said, error = probabilities.argmax(axis=1), np.abs(base - truth)
    true = range_class(error, edges)
    candidates = GATE_WEIGHTS[np.argsort(np.abs(GATE_WEIGHTS - 1), kind="stable")]
    strength, expected = [], []
    for number in range(probabilities.shape[1]):
        rows = said == number
        few = rows.sum() < FEWEST
        errors = [np.abs(base + s * (corrected - base) - truth)[rows].sum().round(6) for s in candidates]
        strength.append(1.0 if few else float(candidates[int(np.argmin(errors))]))
        own = error[true == number]
        expected.append(float(own.mean()) if len(own) else edges[min(number, len(edges) - 1)])
    return Gate(strength, [round(value, 4) for value in expected])


def export(run: Run) -> Path:
    """Write the best head (and for target error the gate) to <run>/weights; returns that folder."""
    run.head.load_state_dict(run.loop.best()["head"])
    gate, data = None, run.data
    if run.config.target == "error":
        probabilities = predict(run.head, data.validation)
        base, truth = data.faces.estimates[0], data.faces.low
        gate = asdict(fit_gate(probabilities, base, data.corrected, truth, run.config.edges))
    label = range_class(data.training(0).value, run.config.edges)
    notes = {
        "prior": (np.bincount(label, minlength=len(run.config.edges) + 1) / len(label)).tolist(),
        "gate": gate,
        "validation_score": run.loop.progress.best,
        "epoch": run.loop.progress.best_epoch + 1,
        "corrector_fingerprint": fingerprint(run.config.corrector_weights or CORRECTOR),
        "training": settings_of(run.config) | {"corrector_weights": "", "runs": ""},
        "commit": git_commit(),
    }
    return save_model(run.loop.folder / "weights", run.head, notes)
