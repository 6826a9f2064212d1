"""What is computed without torch is what torch computes: the view of a crop, mirrors, scales."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.base.config import BARConfig
from common.base.model import BAR, central_view, predict_by_torch
from common.base.prediction import AgePrediction, predict_crops, predict_views, resize_weights
from common.base.prediction import central_view as plain_view

VIEWS = [
    {}, {"crop_fraction": 1.185, "crop_rise": 0.173, "input_size": 112}, {"crop_fraction": 1.0, "input_size": 128},
    {"crop_fraction": 0.8, "input_size": 160}, {"crop_fraction": 0.5, "crop_rise": -0.2, "input_size": 31},
]  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_the_view_of_a_crop_is_that_of_torch(view):
    config = BARConfig(**view)
    crops = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    images = plain_view(crops, config)
    assert images.dtype == np.float32 and images.flags.c_contiguous
    assert np.abs(images - central_view(torch.from_numpy(crops), config).numpy()).max() < 2e-5


def test_weights_of_resizing_are_means_and_cannot_be_changed():
    for sizes in ((120, 88), (88, 120), (5, 5), (128, 1)):
        weights = resize_weights(*sizes)
        assert weights.shape == sizes[::-1] and np.allclose(weights.sum(axis=1), 1)
    assert np.array_equal(resize_weights(5, 5), np.eye(5, dtype=np.float32))
    with pytest.raises(ValueError, match="read-only"):
        weights[0] = 0
    with pytest.raises(ValueError, match=r"crops must be \[B, 128, 128, 3\], not \(1, 64, 64, 3\)"):
        plain_view(np.zeros((1, 64, 64, 3), np.uint8), BARConfig())


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("count", [2, 9])
def test_mirrors_and_scales_are_averaged_as_in_torch(mirror, count):
    torch.manual_seed(0)
    config = BARConfig(backbone="tiny", crop_size=48, input_size=40, mirror=mirror)
    model = BAR(config).eval()
    crops = np.random.default_rng(1).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)

    def network(images: np.ndarray) -> AgePrediction:
        with torch.inference_mode():
            return AgePrediction(*(part.numpy() for part in model(torch.from_numpy(images.copy()))))

    for predict, several in ((predict_crops, False), (predict_views, True)):
        for one, other in zip(predict(network, crops, config), predict_by_torch(model, crops, several), strict=True):
            assert one.dtype == np.float32 and np.abs(one - other).max() < 1e-4
    inside = predict_views(network, crops, replace(config, crop_fraction=1.0))
    assert np.isfinite(inside.ages).all() and np.exp(inside.log_probs).sum(axis=1) == pytest.approx(1, abs=1e-5)
