"""Distributions over whole years of age: targets, losses and read-outs, each one pure function.

`ages` is always the float tensor [n_ages] of the ages (years) that the columns of a distribution stand for.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from common.base.prediction import spread as spread


def gaussian_targets(age: Tensor, ages: Tensor, sigma: float) -> Tensor:
    """Label distributions [B, n_ages]: Gaussians around the true ages, normalised over the whole years.

    Parameters
    ----------
    age : [B] float, years
    ages : [n_ages] float, years
    sigma : standard deviation in years

    Reference: Gao et al., "Deep Label Distribution Learning with Label Ambiguity", 2017 (arXiv 1611.01731).

    Examples
    --------
    >>> gaussian_targets(torch.tensor([1.0]), torch.tensor([0.0, 1.0, 2.0]), sigma=1.0)
    tensor([[0.2741, 0.4519, 0.2741]])
    """
    return gaussian_log_probs(age, ages, sigma).exp()


def gaussian_log_probs(age: Tensor, ages: Tensor, sigma: float) -> Tensor:
    """The logarithm [B, n_ages] of `gaussian_targets`, finite everywhere."""
    _check_vector(age, "age")
    return torch.log_softmax(-((ages[None, :] - age[:, None]) ** 2) / (2 * sigma**2), dim=1)  # [B, n_ages]


def expectation(log_probs: Tensor, ages: Tensor) -> Tensor:
    """Mean age [B] in years of distributions given as log-probabilities [B, n_ages]."""
    return (log_probs.exp() * ages).sum(dim=1)  # a product by `@` would lose digits under bf16 autocast


def median(log_probs: Tensor, ages: Tensor) -> Tensor:
    """Median age [B] in years of log-probabilities [B, n_ages], each age standing for the year around it.

    Examples
    --------
    >>> median(torch.tensor([[0.25, 0.25, 0.5]]).log(), torch.tensor([0.0, 1.0, 2.0]))
    tensor([1.5000])
    """
    cdf = log_probs.exp().cumsum(dim=1)  # [B, n_ages]
    cdf = cdf / cdf[:, -1:]
    index = (cdf < 0.5).sum(dim=1, keepdim=True).clamp(max=len(ages) - 1)  # [B, 1]
    upper = cdf.gather(1, index)
    lower = torch.where(index > 0, cdf.gather(1, (index - 1).clamp(min=0)), torch.zeros_like(upper))
    within = (0.5 - lower) / (upper - lower).clamp(min=1e-12)  # [B, 1] part of the year below the median
    return ages[index[:, 0]] - 0.5 + within[:, 0]


def interval_log_likelihood(log_probs: Tensor, low: Tensor, high: Tensor, ages: Tensor) -> Tensor:
    """Log-probability [B] that the age lies in [low, high] (years, both ends included).

    Examples
    --------
    >>> p = torch.tensor([[0.25, 0.25, 0.5]]).log()
    >>> interval_log_likelihood(p, torch.tensor([1.0]), torch.tensor([9.0]), torch.tensor([0.0, 1.0, 2.0])).exp()
    tensor([0.7500])
    """
    _check_vector(low, "low")
    inside = (ages[None, :] >= low[:, None]) & (ages[None, :] <= high[:, None])  # [B, n_ages]
    return torch.logsumexp(log_probs.masked_fill(~inside, -1e4), dim=1)


def kl_loss(log_probs: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence [B] of the predicted from the target distributions, both [B, n_ages]."""
    if log_probs.shape != targets.shape:
        raise ValueError(f"log_probs {tuple(log_probs.shape)} and targets {tuple(targets.shape)} differ in shape.")
    return F.kl_div(log_probs, targets, reduction="none").sum(dim=1)


def mean_variance_loss(log_probs: Tensor, age: Tensor, ages: Tensor) -> tuple[Tensor, Tensor]:
    """Half the squared error of the mean, and the variance, two tensors [B] in years squared.

    Reference: Pan et al., "Mean-Variance Loss for Deep Age Estimation from a Face", CVPR 2018.
    """
    mean = expectation(log_probs, ages)  # [B]
    variance = (log_probs.exp() * (ages[None, :] - mean[:, None]) ** 2).sum(dim=1)  # [B]
    return 0.5 * (mean - age) ** 2, variance


def interval_distance(age: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Distance [B] in years from the estimate to the interval [low, high]: |error| where low = high."""
    return (low - age).clamp(min=0) + (age - high).clamp(min=0)


def _check_vector(values: Tensor, name: str) -> None:
    if values.ndim != 1:
        raise ValueError(f"{name} must have one dimension [B], not {tuple(values.shape)}.")
