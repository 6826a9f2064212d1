"""The difference regressor of this pipeline: how it is made, what it is trained on, how its weights are loaded.

The head itself is `common.difference_heads.PooledDifferenceHead`.
"""

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.age_distribution import interval_distance
from common.checkpoints import CONFIG_FILE, MODEL_FILE, WEIGHTS
from common.correction import Corrector
from common.difference_heads import DifferenceOutput, HeadConfig, PooledDifferenceHead
from common.errors import WeightsError
from common.ordinal import condor_loss, coral_loss, difference_levels
from common.pipeline import RELEASED as BASE_RELEASED
from common.pipeline import AgePredictBasicPipeline
from common.reference_bank import ReferenceBank, load_bank
from DiffPipeline6.DiffPipeline6__config import TASKS, DiffPipeline6Config

RELEASED = WEIGHTS / "DiffPipeline6"
BANK_FILE, OWN_BASE = "bank.npz", "base"


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


def save_model(
    folder: Path, head: PooledDifferenceHead, bank: ReferenceBank, base: Path, notes: dict[str, Any]
) -> Path:
    """Write head (float16), bank and config.json; a base that is not the released one is copied into <folder>/base."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().cpu().contiguous() for name, value in head.state_dict().items()}, folder / MODEL_FILE)
    bank.save(folder / BANK_FILE)
    own = {field.name: getattr(head.config, field.name) for field in fields(HeadConfig)}
    document = {"head": own, "base_fingerprint": bank.fingerprint, **notes}
    (folder / CONFIG_FILE).write_text(json.dumps(document, indent=1) + "\n")
    if base.resolve() not in (BASE_RELEASED.resolve(), (folder / OWN_BASE).resolve()):
        shutil.copytree(base, folder / OWN_BASE, dirs_exist_ok=True)
    return folder


def load_model(folder: str | Path = RELEASED, device: str = "auto") -> Corrector:
    """The released difference regressor (or any folder's) with base and bank; raises WeightsError.

    The base is <folder>/base if there is one, else the released AgeRegBaseline; it must be the one the bank was made
    with.
    """
    folder = Path(folder)
    for name in (MODEL_FILE, CONFIG_FILE, BANK_FILE):
        if not (folder / name).is_file():
            raise WeightsError(f"{folder} holds no DiffPipeline6 weights (no {name}); check --weights.")
    base = folder / OWN_BASE if (folder / OWN_BASE).is_dir() else BASE_RELEASED
    pipeline = AgePredictBasicPipeline.from_weights(base, device)
    bank = load_bank(folder / BANK_FILE, pipeline.fingerprint)
    try:
        settings = json.loads((folder / CONFIG_FILE).read_text())
        head = PooledDifferenceHead(HeadConfig(**settings["head"]))
        window = float(settings["training"]["reference_window"])
        head.load_state_dict({name: value.float() for name, value in load_file(folder / MODEL_FILE).items()})
    except (SafetensorError, RuntimeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{folder} does not hold a difference regressor that fits its config ({reason}).") from None
    return Corrector(pipeline, head.to(pipeline.device).eval(), bank, head.config.references, window)
