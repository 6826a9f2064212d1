"""The networks that can stand under an age head, by name: how each is built, and where its pretrained weights are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from common.base.edgeface import build_edgeface, load_edgeface
from common.base.mobilefacenet import build_mobilefacenet, load_mobilefacenet
from common.base.torchvision_cpu import allow_torchvision_import
from common.base.two_networks import TwoNetworks, build_two_networks
from common.errors import WeightsError

TINY_WIDTHS = (3, 16, 32, 64)


class Backbone(NamedTuple):
    """How to build a backbone, its input statistics (RGB in 0..1), and how to find its pretrained weights."""

    build: Callable[[], tuple[nn.Module, int]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    load: Callable[[Any, Path | None], None]  # of what `build` builds


def _build_tiny() -> tuple[nn.Module, int]:
    """Three convolutions of stride 2: images [B, 3, I, I] to features [B, 64]."""
    layers: list[nn.Module] = []
    for width, wider in zip(TINY_WIDTHS, TINY_WIDTHS[1:], strict=False):
        layers += [nn.Conv2d(width, wider, 3, 2, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), TINY_WIDTHS[-1]


def _load_tiny(network: nn.Module, path: Path | None) -> None:
    if path is not None:
        raise WeightsError("The backbone tiny has no pretrained weights; leave --backbone-weights out.")


def _build_vgg16() -> tuple[nn.Module, int]:
    allow_torchvision_import()
    from torchvision.models import vgg16

    network = vgg16(weights=None)
    network.classifier = network.classifier[:-1]
    return network, 4096


def _load_vgg16(network: nn.Module, path: Path | None) -> None:
    if path is None:
        from torchvision.models import VGG16_Weights

        try:
            tensors = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
        except OSError as error:
            raise WeightsError(
                f"VGG16's ImageNet weights cannot be downloaded ({error}); give a local copy of vgg16-397923af.pth "
                "with --backbone-weights FILE, or train from scratch with --pretrained false."
            ) from None
    else:
        tensors = _read_tensors(path)
    wanted = network.state_dict()
    if any(key not in tensors or tensors[key].shape != value.shape for key, value in wanted.items()):
        raise WeightsError(f"{path} does not hold torchvision's VGG16; give vgg16-397923af.pth.")
    network.load_state_dict({key: tensors[key] for key in wanted})


def _load_two_networks(network: TwoNetworks, path: Path | None) -> None:
    if path is not None:
        raise WeightsError("Two networks are loaded from their packages; leave --backbone-weights out.")
    load_mobilefacenet(network.mobilefacenet)
    load_edgeface(network.edgeface)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip and runtime errors for a file that is none of its own
        raise WeightsError(f"{path} is no torch weights file ({type(error).__name__}).") from None


BACKBONES = {
    "mobilefacenet": Backbone(build_mobilefacenet, (0.5,) * 3, (0.5,) * 3, load_mobilefacenet),
    "edgeface": Backbone(build_edgeface, (0.5,) * 3, (0.5,) * 3, load_edgeface),
    "two_networks": Backbone(build_two_networks, (0.5,) * 3, (0.5,) * 3, _load_two_networks),
    "vgg16": Backbone(_build_vgg16, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), _load_vgg16),
    "tiny": Backbone(_build_tiny, (0.5,) * 3, (0.5,) * 3, _load_tiny),
}
