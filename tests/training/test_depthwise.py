import pytest
import torch
from torch import nn

from common.training.depthwise import Float32DepthwiseBackward


def gradients(layer: nn.Module, images: torch.Tensor, fast: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images = images.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        if fast:
            with Float32DepthwiseBackward():
                output = layer(images)
        else:
            output = layer(images)
    output.float().square().sum().backward()
    return output.detach(), images.grad, layer.weight.grad.clone()


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, 1), (5, 2, 0), (5, 1, 2)])
def test_gradients_are_those_of_float32_within_the_rounding_of_bfloat16(size, stride, padding):
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 16, size, stride, padding, groups=16, bias=False)
    images = torch.randn(4, 16, 14, 14)
    slow, fast = gradients(layer, images, False), gradients(layer, images, True)
    assert torch.equal(slow[0], fast[0])
    for one, other in zip(slow[1:], fast[1:], strict=True):
        assert other.dtype == torch.float32
        assert (one - other).abs().max() <= 0.02 * one.abs().max()
        assert nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.9999


@pytest.mark.parametrize("layer", [nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=2, bias=False)])
def test_other_convolutions_are_left_alone(layer):
    images = torch.randn(2, 8, 9, 9)
    for one, other in zip(gradients(layer, images, False), gradients(layer, images, True), strict=True):
        assert torch.equal(one, other)


def test_without_autocast_nothing_changes():
    layer, images = nn.Conv2d(8, 8, 3, groups=8, bias=False), torch.randn(2, 8, 9, 9)
    with Float32DepthwiseBackward():
        output = layer(images)
    assert output.dtype == torch.float32
    assert torch.equal(output, layer(images))
