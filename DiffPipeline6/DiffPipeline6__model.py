"""The difference regressor of this pipeline: how it is made, what it is trained on, how its weights are loaded.

The head itself is `common.difference.heads.PooledDifferenceHead`.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.base.distribution import interval_distance
from common.base.weight_files import settings_for
from common.difference.corrector import Corrector
from common.difference.heads import DifferenceOutput, HeadConfig, PooledDifferenceHead
from common.difference.ordinal import condor_loss, coral_loss, difference_levels
from common.difference.weights import load_difference
from common.files import WEIGHTS
from DiffPipeline6.DiffPipeline6__config import TASKS, DiffPipeline6Config

RELEASED = WEIGHTS / "DiffPipeline6"


class Loss(NamedTuple):
    """total: scalar to minimise; levels: ordinal loss; distance [B]: years between corrected age and label."""

    total: Tensor
    levels: Tensor
    distance: Tensor


def build_model(config: DiffPipeline6Config) -> PooledDifferenceHead:
    """A fresh head; its initial weights depend on the seed alone."""
    torch.manual_seed(config.seed)
    return PooledDifferenceHead(HeadConfig(**{field.name: getattr(config, field.name) for field in fields(HeadConfig)}))


def compute_loss(output: DifferenceOutput, low: Tensor, high: Tensor, config: DiffPipeline6Config) -> Loss:
    """Loss of a batch that may mix exact (low = high) and interval labels, [B] years each.

    Exact labels whose difference from the anchor belongs to the task: ordinal loss of its levels. Every label: the
    distance of the corrected age to it, times age_weight.
    """
    anchor = (output.age - output.difference).detach()  # [B]
    truth = low - anchor  # [B] meant for exact labels only
    smallest, largest = TASKS[config.task]
    years = truth.abs().round()
    taken = (low == high) & (years >= smallest) & (years <= largest)  # [B]
    ordinal = condor_loss if config.ordinal == "condor" else coral_loss
    each = ordinal(output.levels, difference_levels(truth, config.level_radius))  # [B]
    levels = torch.where(taken, each, 0.0).sum() / taken.sum().clamp(min=1)
    distance = interval_distance(output.age, low, high)  # [B]
    counted = taken | (low != high)
    age = torch.where(counted, distance, 0.0).sum() / counted.sum().clamp(min=1)
    return Loss(levels + config.age_weight * age, levels.detach(), distance.detach())


def load_model(folder: str | Path = RELEASED, device: str = "auto") -> Corrector:
    """The released difference regressor (or any folder's): base, bank, its head in torch; raises WeightsError."""

    def make_head(settings: dict[str, Any]) -> PooledDifferenceHead:
        return PooledDifferenceHead(HeadConfig(**settings_for(HeadConfig, settings, folder)))

    loaded = load_difference(folder, "DiffPipeline6", make_head, device)
    how = (loaded.head.config.references, loaded.window)
    return Corrector(loaded.pipeline, loaded.head, loaded.bank, *how, per_bin=loaded.per_bin)
