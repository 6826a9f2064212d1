"""What a base regressor predicts, and how crops become its input; NumPy alone, so that a CPU inference needs no torch.

The same steps for training and GPUs, in torch: common/base/model.py.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np

from common.base.config import BARConfig

VIEW_SCALES = (0.94, 1.0, 1.06)  # of the part of the crop that is looked at, by `predict_views`
TOGETHER = 4  # so few images are estimated in one pass with their mirrors; of more, two passes are as fast or faster


class AgePrediction(NamedTuple):
    """ages [N] float32 years; log_probs [N, n_ages] float32; embeddings [N, E] float32 (NaN where no face)."""

    ages: np.ndarray
    log_probs: np.ndarray
    embeddings: np.ndarray


Network = Callable[[np.ndarray], AgePrediction]  # of images [B, 3, input_size, input_size] float32 in 0..1


def predict_crops(network: Network, crops: np.ndarray, config: BARConfig) -> AgePrediction:
    """What a network predicts of crops [B, S, S, 3] uint8 RGB, averaged with their mirrors if so configured."""
    return predict(network, central_view(crops, config), config)


def predict(network: Network, images: np.ndarray, config: BARConfig) -> AgePrediction:
    """What a network predicts of images [B, 3, I, I] float32 in 0..1, averaged with their mirrors if so configured."""
    if not config.mirror:
        return network(images)
    if len(images) <= TOGETHER:
        both = network(np.concatenate([images, images[..., ::-1]]))
        pairs = [np.split(array, 2) for array in both]
    else:
        pairs = [list(arrays) for arrays in zip(network(images), network(images[..., ::-1]), strict=True)]
    return average([AgePrediction(*arrays) for arrays in zip(*pairs, strict=True)])


def predict_views(network: Network, crops: np.ndarray, config: BARConfig) -> AgePrediction:
    """Multi-scale test-time augmentation of crops [B, S, S, 3] uint8: three scales, each with its mirror, averaged."""
    views, largest = [], 1.0 if config.crop_fraction <= 1 else 2.0  # a view inside the crop stays inside
    for scale in VIEW_SCALES:
        images = central_view(crops, replace(config, crop_fraction=min(largest, scale * config.crop_fraction)))
        views += [network(images), network(images[..., ::-1])]
    return average(views)


def average(views: list[AgePrediction]) -> AgePrediction:
    """The mean of several predictions of the same faces: ages, probabilities (not their logarithms), embeddings."""
    ages, log_probs, embeddings = (np.stack(arrays) for arrays in zip(*views, strict=True))  # [views, B, ...]
    joint = np.logaddexp.reduce(log_probs, axis=0) - math.log(len(views))
    return AgePrediction(ages.mean(0), joint.astype(np.float32), embeddings.mean(0))


def central_view(crops: np.ndarray, config: BARConfig) -> np.ndarray:
    """The part of the crops that a base regressor looks at.

    Parameters
    ----------
    crops : [B, S, S, 3] uint8 RGB, S = config.crop_size

    Returns
    -------
    [B, 3, input_size, input_size] float32 in 0..1, resized linearly with antialiasing; raises ValueError for crops of
    another size.
    """
    if crops.ndim != 4 or crops.shape[1:] != (config.crop_size, config.crop_size, 3):
        raise ValueError(f"crops must be [B, {config.crop_size}, {config.crop_size}, 3], not {crops.shape}.")
    rows, columns, (left, right, top, bottom) = inner_square(config)
    images = crops[:, rows, columns].astype(np.float32) / 255  # [B, h, w, 3]
    if left or right or top or bottom:
        images = np.pad(images, ((0, 0), (top, bottom), (left, right), (0, 0)), mode="edge")  # [B, s, s, 3]
    weights = resize_weights(images.shape[1], config.input_size)  # [I, s]
    images = np.matmul(weights, images.transpose(0, 3, 1, 2)) @ weights.T  # [B, 3, I, I]
    return np.ascontiguousarray(images)


def inner_square(config: BARConfig) -> tuple[slice, slice, tuple[int, int, int, int]]:
    """Rows and columns of the crop that a base looks at, and how many pixels beyond it (left, right, top, bottom)."""
    side, margin = config.crop_size, round(config.crop_size * (1 - config.crop_fraction) / 2)
    rise = round(side * config.crop_rise)
    top, bottom = margin - rise, side - margin - rise
    beyond = (max(0, -margin), max(0, -margin), max(0, -top), max(0, bottom - side))
    return slice(max(0, top), bottom), slice(max(0, margin), side - margin), beyond


@cache
def resize_weights(size: int, wanted: int) -> np.ndarray:
    """Matrix [wanted, size] float32 that resizes a line of pixels linearly, averaging where it gets shorter.

    Examples
    --------
    >>> resize_weights(4, 2)
    array([[0.42857143, 0.42857143, 0.14285715, 0.        ],
           [0.        , 0.14285715, 0.42857143, 0.42857143]], dtype=float32)
    """
    ratio = size / wanted
    reach = max(ratio, 1.0)
    centres = ratio * (np.arange(wanted) + 0.5)  # [wanted] in pixels of the line
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / reach  # [wanted, size]
    weights = np.maximum(1 - distance, 0)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    weights.flags.writeable = False
    return weights


def spread(log_probs: np.ndarray, ages: np.ndarray) -> np.ndarray:
    """Standard deviation [B] in years of distributions given as log-probabilities [B, n_ages].

    Examples
    --------
    >>> spread(np.log([[0.5, 0.5]]), np.array([10.0, 14.0]))
    array([2.])
    """
    probabilities = np.exp(log_probs)
    mean = probabilities @ ages  # [B]
    return np.sqrt((probabilities * (ages[None, :] - mean[:, None]) ** 2).sum(axis=1))
