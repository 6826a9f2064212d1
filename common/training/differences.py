"""What trainings of difference heads share: rates, validation, and the base trained along with the head (stage 2)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from common.base.augment import Augmentation, augment
from common.base.model import BAR
from common.base.regressor import AgePredictBasicPipeline
from common.base.weights import save_bar
from common.data.predictions import to_csv
from common.difference.bank import Found, ReferenceBank
from common.difference.embedded import EmbeddedFaces, embed, embedded_table
from common.difference.heads import Query, References, on_device
from common.evaluation.metrics import summarise
from common.training.distributed import keep_freed_memory
from common.training.loop import Loop, Validation


class Looked(Protocol):
    """What the runs of difference pipelines look at.

    bank_faces are the faces that the bank is made of, in its order; crops those of every prepared set.
    """

    queries: EmbeddedFaces
    validation: EmbeddedFaces
    bank: ReferenceBank
    bank_faces: EmbeddedFaces
    crops: list[np.ndarray]


class LateCycle(OneCycleLR):
    """A one-cycle schedule whose second group (the base) waits for step `start` and then has a cycle of its own.

    Its rate is 0 until then, rises within its own warm-up, a part `pct_start` of the steps left, and falls to the end:
    Adam knows nothing of its gradients at that step, and would move the base at full rate by the first of them.
    """

    def __init__(self, optimizer: Optimizer, max_lr: list[float], total_steps: int, pct_start: float, start: int):
        self.start, self.late_warm_up = start, pct_start
        super().__init__(optimizer, max_lr, total_steps=total_steps, pct_start=pct_start)

    def get_lr(self) -> list[float | Tensor]:
        """The rates of the groups at this step."""
        first, late = super().get_lr()
        step, steps = self.last_epoch - self.start, self.total_steps - self.start
        start, most, end = (float(self.optimizer.param_groups[1][key]) for key in ("initial_lr", "max_lr", "min_lr"))
        if step < 0:
            return [first, 0.0 * late]
        rising = max(self.late_warm_up * steps - 1, 1e-9)
        if step <= rising:
            return [first, _cosine(start, most, step / rising)]
        return [first, _cosine(most, end, (step - rising) / max(steps - 1 - rising, 1e-9))]


def _cosine(start: float, end: float, part: float) -> float:
    """The way from start to end, of which `part` (0 to 1) is gone, along half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(part, 1.0)))


def trained_by(config: Any, head: nn.Module, base: BAR) -> nn.Module:
    """All that a training changes, whose gradient is clipped: the head, in stage 2 with the base."""
    return head if config.unfreeze_epoch < 0 else nn.ModuleList([head, base])


def make_optimizer(config: Any, head: nn.Module, base: BAR, queries: int) -> tuple[Optimizer, OneCycleLR]:
    """AdamW and its one-cycle schedule for a training on so many queries: of the head, in stage 2 of the base too.

    Of the training config the rates, weight_decay, warm_up, epochs, batch_size and unfreeze_epoch are read. The base
    has a cycle of its own from unfreeze_epoch on (see LateCycle); it is laid out for speed first (channels last),
    without changing what it says.
    """
    steps = max(1, queries // config.batch_size)
    total, warm_up = config.epochs * steps, config.warm_up
    groups = [{"params": head.parameters(), "lr": config.learning_rate}]
    late = 0 <= config.unfreeze_epoch < config.epochs
    if config.unfreeze_epoch >= 0:
        keep_freed_memory()
        base.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        groups.append({"params": base.parameters(), "lr": config.backbone_learning_rate})
    optimizer = AdamW(groups, weight_decay=config.weight_decay)
    rates = [group["lr"] for group in groups]
    if late:
        return optimizer, LateCycle(optimizer, rates, total, warm_up, config.unfreeze_epoch * steps)
    return optimizer, OneCycleLR(optimizer, rates, total_steps=total, pct_start=warm_up)


def load_crops(crops: Sequence[np.ndarray], faces: EmbeddedFaces, numbers: np.ndarray) -> np.ndarray:
    """Crops [B, S, S, 3] uint8 of the faces with these numbers [B]; `crops` are those of each prepared set."""
    return np.stack([crops[faces.owner[number]][faces.row[number]] for number in numbers])


def look_live(
    data: Looked, numbers: np.ndarray, found: Found, base: BAR, strength: float, random: np.random.Generator
) -> tuple[Query, References]:
    """Queries [B] and their references [B, R] as a base in training sees them, from crops augmented with `strength`.

    The base has seen all of them now, so no residual is taken for an unseen one. Gradients reach the base.
    """
    count, shape = len(numbers), found.mask.shape
    rows = np.where(found.mask, found.index, 0)  # [B, R]
    own = load_crops(data.crops, data.queries, numbers)
    crops = np.concatenate([own, load_crops(data.crops, data.bank_faces, rows.reshape(-1))])  # [B + B·R, S, S, 3]
    device = next(base.parameters()).device
    generator = torch.Generator(device).manual_seed(int(random.integers(2**62)))
    options = Augmentation().scaled(strength)
    output = base(augment(torch.from_numpy(crops).to(device), base.config, options, generator))
    taken = on_device(data.bank.take(found), "cpu")
    references = References(
        output.embedding[count:].view(*shape, -1), taken.age, output.age[count:].view(shape),
        torch.ones(shape, dtype=torch.bool), taken.mask,
    )  # fmt: skip
    return Query(output.embedding[:count], output.age[:count]), references


def re_embed(data: Looked, base: BAR) -> None:
    """See bank, queries and validation faces (view 0 of them) with the base as it is now, in place."""
    bank_crops = load_crops(data.crops, data.bank_faces, np.arange(len(data.bank)))
    embeddings, estimates = embed(base, bank_crops, 0, 0.0, 0)
    data.bank = replace(data.bank, embeddings=embeddings[0], estimates=estimates[0], seen=np.ones(len(data.bank), bool))
    for part in (data.queries, data.validation):
        crops = load_crops(data.crops, part, np.arange(len(part)))
        part.embeddings[:1], part.estimates[:1] = embed(base, crops, 0, 0.0, 0)


def validate_corrected(faces: EmbeddedFaces, ages: np.ndarray) -> Validation:
    """Errors of the base and of corrected ages [N] (years): MAE, or of interval labels alone the distance to them."""
    table = embedded_table(faces, ages)
    result, base = summarise(table), summarise(table.assign(age=table["base_age"]))
    kind, key = ("exact", "mae") if "exact" in result else ("interval", "distance")
    error = result[kind]["all"][key] if np.isfinite(ages).all() else float("nan")
    return Validation(error, {"val_base": base[kind]["all"][key], "val_full": error}, to_csv(table))


def save_tuned_base(data: Looked, base: BAR, folder: Path, tuned_by: str, device: str) -> AgePredictBasicPipeline:
    """Write a tuned base, and see everything again with its weights as released (float16); returns its pipeline."""
    save_bar(base, folder, {"tuned_by": tuned_by})
    pipeline = AgePredictBasicPipeline.from_weights(folder, device)
    re_embed(data, pipeline.model)
    data.bank = replace(data.bank, fingerprint=pipeline.fingerprint)
    return pipeline


def against_base(loop: Loop) -> str:
    """What came of a training, beside the base it corrects; a head that is worse is called so."""
    best, base = loop.progress.best, loop.progress.history[loop.progress.best_epoch]["val_base"]
    worse = "" if best < base else ": the head is no better, use --mode bypass"
    return f"Best validation error {best:.2f} years, of its base {base:.2f}{worse}"
