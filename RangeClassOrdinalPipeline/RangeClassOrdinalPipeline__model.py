"""The classifier of ranges: ordinal levels, the gate that is made of them, how its weights are loaded."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from common.base.weight_files import read_settings, settings_for, vouch, writing
from common.base.weights import CONFIG_FILE, MODEL_FILE, fingerprint, load_into, require, write_tensors
from common.difference.bank import ReferenceBank
from common.difference.corrector import Correction, Corrector, Faces
from common.difference.ordinal import condor_loss, level_probabilities
from common.errors import DataError, WeightsError
from common.files import WEIGHTS, write_whole
from DiffPipeline6.DiffPipeline6__model import RELEASED as CORRECTOR
from DiffPipeline6.DiffPipeline6__model import load_model as load_corrector
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__config import RangeHeadConfig
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__dataset import Samples, error_numbers, numbers_wanted
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__gate import best_gate_weight, class_names

RELEASED = WEIGHTS / "RangeClassOrdinalPipeline"
PREDICT_BATCH = 4096


class RangeOutput(NamedTuple):
    """levels [B, L] CONDOR logits of "beyond edge k"; probabilities [B, L + 1] of the classes."""

    levels: Tensor
    probabilities: Tensor


class RangeHead(nn.Module):
    """Classes of how far off, from the looks of one face or two and from numbers about them.

    Input: looks [B, 1 or 2, E] float, numbers [B, S] float (see Samples). The levels are those of CONDOR (Jenkinson et
    al., 2021, arXiv 2110.07470): level k, given the one before it, says whether the value lies beyond edge k.
    """

    def __init__(self, config: RangeHeadConfig):
        super().__init__()
        self.config = config
        size, numbers = config.hidden_size, numbers_wanted(config)
        looks = size if config.target == "error" else 3 * size
        self.register_buffer("middle", torch.zeros(numbers))
        self.register_buffer("scale", torch.ones(numbers))
        self.norm = nn.LayerNorm(config.embedding_size)
        self.project = nn.Linear(config.embedding_size, size)
        self.trunk = nn.Sequential(
            nn.Dropout(config.dropout), nn.Linear(looks + numbers, size), nn.SiLU(), nn.Dropout(config.dropout)
        )
        self.levels = nn.Linear(size, len(config.edges))

    def forward(self, looks: Tensor, numbers: Tensor) -> RangeOutput:
        """Classify samples; see the class for the input and RangeOutput for the result."""
        faces = self.project(self.norm(looks))  # [B, F, H]
        if self.config.target == "error":
            seen = faces[:, 0]  # [B, H]
        else:
            seen = torch.cat([faces[:, 0], faces[:, 1], (faces[:, 0] - faces[:, 1]).abs()], dim=1)  # [B, 3·H]
        standard = ((numbers - self.middle) / self.scale).clamp(-4, 4)  # [B, S]
        levels = self.levels(self.trunk(torch.cat([seen, standard], dim=1)))  # [B, L]
        beyond = level_probabilities(levels, "condor")  # [B, L] never rising
        ends = torch.ones_like(beyond[:, :1])
        return RangeOutput(levels, torch.cat([ends, beyond], 1) - torch.cat([beyond, 0 * ends], 1))

    def fit_scale(self, numbers: np.ndarray) -> None:
        """Set the scale of the numbers from those of the training samples [M, S]."""
        self.middle.copy_(torch.from_numpy(numbers.mean(axis=0)))
        self.scale.copy_(torch.from_numpy(numbers.std(axis=0)).clamp(min=1e-3))


def build_model(config: RangeHeadConfig, seed: int = 0) -> RangeHead:
    """A fresh head; its initial weights depend on the seed alone."""
    torch.manual_seed(seed)
    names = [field.name for field in fields(RangeHeadConfig)]
    return RangeHead(RangeHeadConfig(**{name: getattr(config, name) for name in names}))


def compute_loss(output: RangeOutput, label: Tensor) -> Tensor:
    """Mean CONDOR loss of classes [B] int64."""
    steps = torch.arange(output.levels.shape[1], device=label.device)
    return condor_loss(output.levels, (label[:, None] > steps).float()).mean()


@torch.inference_mode()
def predict(head: RangeHead, samples: Samples) -> np.ndarray:
    """Class probabilities [M, L + 1] float32 of samples."""
    head.eval()
    device, parts = head.middle.device, [np.empty((0, len(head.config.edges) + 1), np.float32)]
    for start in range(0, len(samples.value), PREDICT_BATCH):
        part = (torch.from_numpy(array[start : start + PREDICT_BATCH]).to(device) for array in samples[:2])
        parts.append(head(*part).probabilities.cpu().numpy())
    return np.concatenate(parts)


@dataclass(frozen=True)
class Gate:
    """How much of a correction is applied, by the class of error that is most likely.

    strength [L + 1]: factor on the correction; error [L + 1]: mean |error| of the base (years) within each class.
    """

    strength: list[float]
    error: list[float]

    def apply(self, base: np.ndarray, corrected: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Gated ages [N] (years) from base and corrected ages [N] and class probabilities [N, L + 1]."""
        return base + np.array(self.strength)[probabilities.argmax(axis=1)] * (corrected - base)

    def expected_error(self, probabilities: np.ndarray) -> np.ndarray:
        """Expected |error| of the base [N] (years)."""
        return probabilities @ np.array(self.error)


@dataclass(frozen=True)
class RangeModel:
    """A classifier with the DiffPipeline6 corrector (base, bank) that it was trained beside; gate: of target error."""

    corrector: Corrector
    head: RangeHead
    prior: list[float]
    gate: Gate | None

    @property
    def bank(self) -> ReferenceBank:
        """The bank of the corrector."""
        return self.corrector.bank

    def correct(self, faces: Faces, at_age: np.ndarray | None = None, votes: bool = True) -> Correction:
        """Gated ages of faces, with the columns error_class, expected_error (years) and ungated_age (years).

        With `at_age` [N] (the true ages) the strength that is best for each: an upper bound, never an estimate.
        """
        if self.gate is None:
            raise DataError("This classifier is of differences of pairs; only --target error makes a gate.")
        correction = self.corrector.correct(faces)  # the classifier reads the votes
        probabilities = self.error_classes(faces, correction)
        base, ungated = faces.estimate.astype(float), correction.age.astype(float)
        gated = self.gate.apply(base, ungated, probabilities)
        age = gated if at_age is None else best_gate_weight(base, ungated, at_age)
        names = np.array(class_names(self.head.config.edges))
        further = {
            "error_class": names[probabilities.argmax(axis=1)],
            "expected_error": self.gate.expected_error(probabilities),
            "ungated_age": ungated,
        }
        return correction._replace(age=age, further=further)

    def error_classes(self, faces: Faces, correction: Correction) -> np.ndarray:
        """Probabilities [N, L + 1] of the classes of the base's error; no true age enters."""
        if not len(faces.estimate):
            return np.empty((0, len(self.head.config.edges) + 1), np.float32)
        numbers = error_numbers(self.corrector, faces, correction, self.head.config)
        nobody = np.zeros(len(numbers), np.float32)
        return predict(self.head, Samples(faces.embedding[:, None], numbers, nobody, nobody))


def save_model(folder: Path, head: RangeHead, notes: dict[str, Any]) -> Path:
    """Write the head (float32, it is small) and config.json {"head": RangeHeadConfig, **notes}; returns the folder."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_tensors({name: value.cpu().contiguous() for name, value in head.state_dict().items()}, folder / MODEL_FILE)
    own = {field.name: getattr(head.config, field.name) for field in fields(head.config)}
    with writing(folder):
        write_whole(folder / CONFIG_FILE, json.dumps({"head": own, **notes}, indent=1) + "\n")
    vouch(folder)
    return folder


def load_model(
    folder: str | Path = RELEASED, device: str = "auto", corrector_folder: str | Path = CORRECTOR
) -> RangeModel:
    """The released classifier (or any folder's) with its corrector; raises WeightsError if they do not fit."""
    folder = Path(folder)
    require(folder, (MODEL_FILE, CONFIG_FILE), "RangeClassOrdinalPipeline")
    corrector = load_corrector(corrector_folder, device)
    settings = read_settings(folder)
    try:
        config = RangeHeadConfig(**settings_for(RangeHeadConfig, settings["head"], folder))
        made_with, prior = settings["corrector_fingerprint"], settings["prior"]
        gate = Gate(**settings["gate"]) if settings["gate"] else None
    except WeightsError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{folder} holds no classifier that fits its config ({str(error).splitlines()[0]})."
        ) from None
    head = load_into(lambda: RangeHead(config), folder / MODEL_FILE, "a classifier")
    if made_with != fingerprint(corrector_folder):
        raise WeightsError(f"{folder} was trained beside other weights than {corrector_folder}; train it again.")
    return RangeModel(corrector, head.to(corrector.pipeline.device).eval(), prior, gate)
