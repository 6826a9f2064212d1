"""Differences of age as ordinal levels -radius...+radius (both ends included): targets, losses, read-outs.

A difference of d years is the rank d + radius among 2·radius + 1. Level k (k = 0 … 2·radius - 1) says whether the rank
is above k. A difference between two whole years lies between two ranks: its level there is the part of the year passed,
so that the sum of all levels is always the exact rank.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from common.difference.parts import ORDINALS


def difference_levels(difference: Tensor, radius: int) -> Tensor:
    """Levels [B, 2·radius] in 0..1 of differences [B] in years; a difference beyond ±radius counts as the end.

    Raises ValueError for a radius below 1.

    Examples
    --------
    >>> difference_levels(torch.tensor([-2.0, 0.0, 0.5, 9.0]), radius=2)
    tensor([[0.0000, 0.0000, 0.0000, 0.0000],
            [1.0000, 1.0000, 0.0000, 0.0000],
            [1.0000, 1.0000, 0.5000, 0.0000],
            [1.0000, 1.0000, 1.0000, 1.0000]])
    """
    if radius < 1:
        raise ValueError(f"radius must be 1 or more, not {radius}.")
    rank = difference.clamp(-radius, radius) + radius  # [B]
    step = torch.arange(2 * radius, dtype=rank.dtype, device=rank.device)  # [2·radius]
    return (rank[:, None] - step).clamp(0, 1)


def coral_loss(logits: Tensor, levels: Tensor) -> Tensor:
    """Sum [B] over the levels [B, K] of the binary cross-entropy of logits [B, K].

    Reference: Cao, Mirjalili & Raschka, "Rank consistent ordinal regression for neural networks", 2020
    (arXiv 1901.07884).

    Examples
    --------
    >>> coral_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    tensor([1.3863])
    """
    _check(logits, levels)
    return F.binary_cross_entropy_with_logits(logits, levels, reduction="none").sum(dim=1)


def condor_loss(logits: Tensor, levels: Tensor) -> Tensor:
    """Sum [B] over the levels [B, K] of the cross-entropy of logits [B, K], each *given* the level before it.

    Level k enters with the weight of level k - 1 (the first always), so a level is learned only from differences
    that reach it. Reference: Jenkinson et al., "Universally rank consistent ordinal regression", 2021
    (arXiv 2110.07470).

    Examples
    --------
    >>> condor_loss(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))  # the third level is not reached
    tensor([1.3863])
    """
    _check(logits, levels)
    reached = F.pad(levels[:, :-1], (1, 0), value=1.0)  # [B, K]
    conditional = levels / reached.clamp(min=1e-6)  # [B, K] of those that reach it, the part that passes
    each = F.binary_cross_entropy_with_logits(logits, conditional, reduction="none")
    return (reached * each).sum(dim=1)


def level_probabilities(logits: Tensor, ordinal: str) -> Tensor:
    """P(rank > k) [B, K] of logits [B, K]; for CONDOR the product of the conditional ones, which never rises.

    Examples
    --------
    >>> level_probabilities(torch.zeros(1, 3), "condor")
    tensor([[0.5000, 0.2500, 0.1250]])
    >>> level_probabilities(torch.zeros(1, 3), "coral")
    tensor([[0.5000, 0.5000, 0.5000]])
    """
    if ordinal not in ORDINALS:
        raise ValueError(f"ordinal must be one of {', '.join(ORDINALS)}, not '{ordinal}'.")
    if ordinal == "coral":
        return torch.sigmoid(logits)
    return F.logsigmoid(logits).cumsum(dim=1).exp()


def logistic_logits(center: Tensor, sharpness: Tensor, radius: int, ordinal: str) -> Tensor:
    """Logits [B, 2·radius] of a difference that is spread logistically around `center` [B] (years).

    Their `level_probabilities` are sigmoid(sharpness · (center + radius - k - 0.5)); sharpness (a positive scalar
    tensor, 1/years) is 0.55 for a standard deviation of 3.3 years. For CONDOR the chance to stop at level k, once
    reached, is sigmoid(-a)(1 - exp(-sharpness)), with a the argument above.

    Examples
    --------
    >>> logits = logistic_logits(torch.tensor([0.5]), torch.tensor(1.0), 1, "condor")
    >>> level_probabilities(logits, "condor"), torch.sigmoid(torch.tensor([1.0, 0.0]))
    (tensor([[0.7311, 0.5000]]), tensor([0.7311, 0.5000]))
    """
    step = torch.arange(2 * radius, dtype=center.dtype, device=center.device) - radius + 0.5  # [2·radius]
    argument = sharpness * (center[:, None] - step)  # [B, 2·radius]
    if ordinal == "coral":
        return argument
    log_stop = F.logsigmoid(-argument) + torch.cat(
        [torch.zeros_like(step[:1]), torch.log1p(-torch.exp(-sharpness)).expand(len(step) - 1)]
    )  # [B, 2·radius]
    return torch.log1p(-torch.exp(log_stop.clamp(max=-1e-6))) - log_stop


def soft_difference(probabilities: Tensor) -> Tensor:
    """Expected difference [B] in years of level probabilities [B, 2·radius].

    Examples
    --------
    >>> soft_difference(torch.tensor([[1.0, 1.0, 0.5, 0.0]]))
    tensor([0.5000])
    """
    return probabilities.sum(dim=1) - probabilities.shape[1] / 2


def hard_difference(probabilities: Tensor) -> Tensor:
    """The rank of level probabilities [B, 2·radius] (levels more likely passed than not), as whole years [B].

    Examples
    --------
    >>> hard_difference(torch.tensor([[1.0, 1.0, 0.6, 0.2], [0.1, 0.0, 0.0, 0.0]]))
    tensor([ 1., -2.])
    """
    return (probabilities > 0.5).sum(dim=1).float() - probabilities.shape[1] / 2


def _check(logits: Tensor, levels: Tensor) -> None:
    if logits.shape != levels.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and levels {tuple(levels.shape)} differ in shape.")
