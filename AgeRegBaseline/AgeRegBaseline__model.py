"""The base regressor of this pipeline: how it is made, what it is trained on, how its weights are loaded.

The network itself is `common.base.model.BAR`, because every other pipeline stands on it.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig
from common.base.distribution import (
    expectation,
    gaussian_targets,
    interval_distance,
    interval_log_likelihood,
    kl_loss,
    mean_variance_loss,
)
from common.base.model import BAR, BAROutput, load_backbone_weights
from common.base.weights import load_bar
from common.errors import WeightsError
from common.pipeline import RELEASED

LEAST_TAUGHT = 0.05  # probability that a teacher must give to the interval of a label


class Loss(NamedTuple):
    """total: scalar to minimise; distance [B]: years between estimate and label (its interval), detached."""

    total: Tensor
    distance: Tensor


def build_model(config: AgeRegBaselineConfig) -> BAR:
    """A BAR to train, from `init_weights`, ImageNet's or random ones; raises WeightsError if those cannot be had."""
    torch.manual_seed(config.seed)
    model = BAR(config)
    if config.init_weights:
        try:
            model.load_state_dict(load_bar(config.init_weights).state_dict())
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise WeightsError(f"The weights in {config.init_weights} do not fit this config ({reason})") from None
    elif config.pretrained:
        load_backbone_weights(model, config.backbone_weights or None)
    freeze(model, config.frozen_layers)
    return model


def freeze(model: BAR, layers: int) -> None:
    """Let the first `layers` layers of the backbone keep their weights; raises WeightsError if it has not so many."""
    known = list(getattr(model.backbone, "layers", model.backbone).children())
    if layers >= len(known):
        raise WeightsError(
            f"Of {len(known)} layers of {model.config.backbone}, {layers} cannot be frozen; freeze fewer."
        )
    for layer in known[:layers]:
        layer.requires_grad_(False)


def load_model(folder: str | Path = RELEASED, device: str | torch.device = "cpu") -> BAR:
    """The released BAR (or that of any folder with weights) in evaluation mode; raises WeightsError."""
    return load_bar(folder, device)


def compute_loss(
    output: BAROutput, low: Tensor, high: Tensor, config: AgeRegBaselineConfig, taught: Tensor | None = None
) -> Loss:
    """Loss of one batch that may mix exact (low = high) and interval labels, [B] years each.

    Exact labels: KL divergence from a Gaussian label distribution + L1 of the expectation (distribution head),
    the same KL + mean and variance terms (mean_variance), or L1 (regression). Interval labels: minus the
    log-likelihood of the interval, or the distance to it (regression). Where `taught` [B, 101] has a distribution, the
    divergence from it (see `teaching_loss`) has the part teacher_weight of the loss.
    """
    ages = torch.arange(config.min_age, config.max_age + 1, dtype=torch.float32, device=low.device)
    exact = low == high  # [B]
    distance = interval_distance(output.age, low, high)  # [B]
    if config.head == "regression":
        each = distance * torch.where(exact, 1.0, config.interval_weight)
        return Loss(each.mean(), distance.detach())
    age = low.clamp(config.min_age, config.max_age)  # [B] an age beyond the distribution counts as its last
    fit = kl_loss(output.log_probs, gaussian_targets(age, ages, config.sigma))  # [B]
    if config.head == "mean_variance":
        mean, variance = mean_variance_loss(output.log_probs, age, ages)
        fit = fit + config.mean_weight * mean + config.variance_weight * variance
    else:
        fit = fit + config.l1_weight * (expectation(output.log_probs, ages) - age).abs()
    low, high = low.clamp(max=config.max_age), high.clamp(min=config.min_age)
    likelihood = interval_log_likelihood(output.log_probs, low, high, ages)  # [B]
    each = torch.where(exact, fit, -config.interval_weight * likelihood)
    if taught is not None:
        soft, known = teaching_loss(output.log_probs, taught, low, high, ages)
        soft = soft * torch.where(exact, 1.0, config.interval_weight)
        each = torch.lerp(each, soft, config.teacher_weight * known.float())
    return Loss(each.mean(), distance.detach())


def teaching_loss(log_probs: Tensor, taught: Tensor, low: Tensor, high: Tensor, ages: Tensor) -> tuple[Tensor, Tensor]:
    """KL divergence [B] from what a teacher says of each face, and where it says something [B] bool.

    Of a face whose label is an interval, what the teacher says beyond the interval is left out; where that is nearly
    all, it says nothing. `log_probs`, `taught` [B, n_ages]; low, high [B] and ages [n_ages] in years.
    After Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531.
    """
    inside = (ages[None, :] >= low[:, None]) & (ages[None, :] <= high[:, None])  # [B, n_ages]
    taught = torch.where(inside | (low == high)[:, None], taught, 0.0)
    mass = taught.sum(dim=1)  # [B]
    known = mass > LEAST_TAUGHT
    targets = taught / mass.clamp(min=LEAST_TAUGHT)[:, None]  # [B, n_ages]
    return kl_loss(log_probs, targets), known
