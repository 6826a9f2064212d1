"""Depthwise convolutions whose backward pass is done in float32, for training in bfloat16 on a CPU."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class _DepthwiseConvolution(torch.autograd.Function):
    """conv2d without bias in bfloat16 forwards and float32 backwards."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: list[int], padding: list[int]) -> Tensor:
        images = images.bfloat16()  # [B, C, H, W]
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight.bfloat16(), None, stride, padding, 1, len(weight))  # [B, C, H', W']

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        images, weight = ctx.saved_tensors
        of_images, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient.float(), images.float(), weight.bfloat16().float(), None, ctx.stride, ctx.padding, [1, 1],
            False, [0, 0], len(weight), (True, True, False),
        )  # fmt: skip
        return of_images.bfloat16(), of_weight.to(weight.dtype), None, None


class Float32DepthwiseBackward(TorchFunctionMode):
    """Within it, depthwise conv2d under CPU autocast to bfloat16 goes backwards in float32.

    oneDNN's bfloat16 kernels for these gradients are 4 to 10 times slower than its float32 ones (torch 2.13, Xeon
    with AMX), which made them half of a training step of EfficientNet-Lite0. Everything else is left alone.
    """

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is not F.conv2d or kwargs or len(args) != 7 or not torch.is_autocast_enabled("cpu"):
            return function(*args, **kwargs)
        images, weight, bias, stride, padding, dilation, groups = args
        depthwise = groups == len(weight) == images.shape[1] > 1 and bias is None
        if not depthwise or isinstance(padding, str) or any(number != 1 for number in dilation):
            return function(*args)
        return _DepthwiseConvolution.apply(images, weight, list(stride), list(padding))
