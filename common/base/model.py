"""The base regressor (BAR): one face in, an age, a distribution over ages and an embedding out."""

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.base.backbones import BACKBONES
from common.base.config import DECODES as DECODES
from common.base.config import HEADS as HEADS
from common.base.config import BARConfig as BARConfig
from common.base.distribution import expectation, gaussian_log_probs, median
from common.base.prediction import TOGETHER, VIEW_SCALES, AgePrediction, inner_square
from common.errors import WeightsError


class BAROutput(NamedTuple):
    """age [B] float years; log_probs [B, n_ages] float; embedding [B, embedding_size] float."""

    age: Tensor
    log_probs: Tensor
    embedding: Tensor


class Estimator(Protocol):
    """A BAR, or its graph: images [B, 3, input_size, input_size] float in 0..1 to what it says of them."""

    config: BARConfig

    def __call__(self, images: Tensor, /) -> BAROutput: ...


class BAR(nn.Module):
    """Base regressor: backbone, a trained embedding, an age head.

    Input: images [B, 3, input_size, input_size] float in 0..1 (see `central_view`), RGB.
    """

    ages: Tensor
    centre: Tensor
    spread: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, config: BARConfig):
        super().__init__()
        backbone = BACKBONES[config.backbone]
        self.config = config
        self.backbone, width = backbone.build()
        self.dropout = nn.Dropout(config.dropout)
        self.embedding = nn.Sequential(nn.Linear(width, config.embedding_size), nn.SiLU())
        ages = torch.arange(config.min_age, config.max_age + 1, dtype=torch.float32)  # [n_ages]
        self.register_buffer("ages", ages, persistent=False)
        self.head = nn.Linear(config.embedding_size, 1 if config.head == "regression" else len(ages))
        self.register_buffer("centre", torch.zeros(config.embedding_size))  # of the embedding, see `standardise`
        self.register_buffer("spread", torch.ones(config.embedding_size))
        for name, values in (("mean", backbone.mean), ("std", backbone.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> BAROutput:
        """Estimate ages; see the class for the input and BAROutput for the result."""
        features = self.backbone((images - self.mean) / self.std)  # [B, width]
        return self.read((self.embedding(self.dropout(features.float())) - self.centre) / self.spread)

    def standardise(self, embeddings: Tensor) -> None:
        """Let embeddings be given with mean 0 and deviation 1 over the faces whose embeddings [N, E] these are.

        So no few of their numbers decide which faces are alike. The ages stay what they are.
        """
        raw = embeddings * self.spread + self.centre  # [N, embedding_size]
        deviation = raw.std(dim=0)  # [embedding_size]
        self.centre.copy_(raw.mean(dim=0))
        self.spread.copy_(deviation.clamp(min=max(1e-3, 0.1 * deviation.mean().item())))  # hardly used ones stay small

    def read(self, embedding: Tensor) -> BAROutput:
        """What the age head says of embeddings [B, embedding_size] float."""
        scores = self.head(embedding * self.spread + self.centre).float()  # [B, n_ages], or [B, 1] for regression
        if self.config.head == "regression":
            middle, half = (self.ages[0] + self.ages[-1]) / 2, (self.ages[-1] - self.ages[0]) / 2
            age = middle + half * scores[:, 0]  # [B]
            return BAROutput(age, gaussian_log_probs(age, self.ages, self.config.sigma), embedding.float())
        log_probs = F.log_softmax(scores, dim=1)  # [B, n_ages]
        decode = expectation if self.config.decode == "mean" else median
        return BAROutput(decode(log_probs, self.ages), log_probs, embedding.float())


def estimate(model: Estimator, images: Tensor) -> BAROutput:
    """What a BAR (or its graph) says of images [B, 3, I, I] float in 0..1, averaged with their mirrors if so set."""
    if not model.config.mirror:
        return model(images)
    if len(images) <= TOGETHER:
        both = model(torch.cat([images, images.flip(3)]))
        output, mirrored = (BAROutput(*part) for part in zip(*(tensor.chunk(2) for tensor in both), strict=True))
    else:
        output, mirrored = model(images), model(images.flip(3))
    log_probs = torch.logaddexp(output.log_probs, mirrored.log_probs) - math.log(2)  # [B, n_ages] of the mean
    return BAROutput((output.age + mirrored.age) / 2, log_probs, (output.embedding + mirrored.embedding) / 2)


def estimate_views(model: Estimator, crops: Tensor) -> BAROutput:
    """What a BAR (or its graph) says of crops [B, S, S, 3] uint8 RGB seen nearer and farther, each with its mirror.

    The multi-scale TTA: six views are averaged: ages, probabilities and embeddings.
    """
    outputs, fraction = [], model.config.crop_fraction
    largest = 1.0 if fraction <= 1 else 2.0  # a view that stays inside the crop goes on doing so
    for scale in VIEW_SCALES:
        images = central_view(crops, replace(model.config, crop_fraction=min(largest, scale * fraction)))
        outputs += [model(images), model(images.flip(3))]
    ages, log_probs, embeddings = (torch.stack(tensors) for tensors in zip(*outputs, strict=True))  # [6, B, …]
    return BAROutput(ages.mean(0), log_probs.logsumexp(0) - math.log(len(outputs)), embeddings.mean(0))


@torch.inference_mode()
def predict_by_torch(model: BAR, crops: np.ndarray, multi_crop: bool = False) -> AgePrediction:
    """What a BAR predicts of crops [B, S, S, 3] uint8 RGB, from several views of each face if asked for."""
    faces = torch.from_numpy(crops).to(next(model.parameters()).device)  # [B, S, S, 3]
    output = estimate_views(model, faces) if multi_crop else estimate(model, central_view(faces, model.config))
    return AgePrediction(*(tensor.cpu().numpy() for tensor in output))


def central_view(crops: Tensor, config: BARConfig) -> Tensor:
    """The part of the crops that a BAR looks at in evaluation.

    Parameters
    ----------
    crops : [B, S, S, 3] uint8 RGB, S = config.crop_size

    Returns
    -------
    [B, 3, input_size, input_size] float32 in 0..1; raises ValueError for crops of another size.
    """
    if crops.ndim != 4 or crops.shape[1:] != (config.crop_size, config.crop_size, 3):
        raise ValueError(f"crops must be [B, {config.crop_size}, {config.crop_size}, 3], not {tuple(crops.shape)}.")
    rows, columns, beyond = inner_square(config)
    images = crops[:, rows, columns].permute(0, 3, 1, 2).float() / 255  # [B, 3, h, w] what there is of [B, 3, s, s]
    images = F.pad(images, beyond, mode="replicate") if any(beyond) else images  # [B, 3, s, s]
    size = (config.input_size, config.input_size)
    images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    return images.contiguous(memory_format=torch.channels_last)


def load_backbone_weights(model: BAR, path: str | Path | None = None) -> None:
    """Load pretrained weights into the backbone of a fresh BAR: ImageNet's, or those of a face-recognition network.

    `path` is a local copy (torch file; ONNX graph for mobilefacenet and edgeface); without it the copy in a package or
    a download (vgg16) is used; tiny has none and stays as it is. Raises WeightsError if there are none or they do not
    fit.
    """
    path = Path(path) if path else None
    if path is not None and not path.is_file():
        raise WeightsError(f"There is no backbone weights file at {path}; check --backbone-weights.")
    BACKBONES[model.config.backbone].load(model.backbone, path)
