"""Augmentation of a whole batch of crops on its device, drawn from one generator so that it can be repeated."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from common.base.model import BARConfig

GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Augmentation:
    """How much each property of a crop is varied (standard deviations, or probabilities where named so)."""

    rotation: float = 8.0  # degrees; faces are aligned, detectors are not exact
    scale: float = 0.09  # of the logarithm; detectors disagree about face size
    aspect: float = 0.08  # of the logarithm of height over width; a long face is no older face
    lens: float = 0.04  # of the radial distortion at the corners; a near camera widens the middle of a face
    shift: float = 0.04  # of the crop's side
    exposure: float = 0.25  # of the logarithm of gamma
    contrast: float = 0.20  # of the logarithm
    cast: float = 0.08  # of the logarithm of each channel's gain
    saturation: float = 0.35
    grey_probability: float = 0.15  # old photos, black-and-white cameras
    small_probability: float = 0.20  # images enlarged from few pixels
    detail: float = 0.6  # blur (< 0) to sharpening (> 0)
    noise_probability: float = 0.25
    noise: float = 0.04
    erase_probability: float = 0.30  # hands, hats, microphones
    background_probability: float = 0.75  # studio walls; a face does not age with what is behind it
    jpeg_probability: float = 0.30  # images saved again and again

    def scaled(self, factor: float) -> "Augmentation":
        """The same with every strength and probability times `factor`."""
        return Augmentation(**{key: value * factor for key, value in asdict(self).items()})


def augment(crops: Tensor, model: BARConfig, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Random views [B, 3, input_size, input_size] float32 in 0..1 of crops [B, S, S, 3] uint8 RGB.

    The undisturbed view is `common.base.model.central_view`; all draws come from `generator` (on the crops' device).
    """
    images = crops.permute(0, 3, 1, 2).float() / 255  # [B, 3, S, S]
    images = move(images, model, options, generator)  # [B, 3, I, I]
    images = change_background(images, model, options, generator)
    for change in (soften, recolour, compress, erase):
        images = change(images, options, generator)
    return images.contiguous(memory_format=torch.channels_last)


def _normal(images: Tensor, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(len(images), columns, generator=generator, device=images.device)  # [B, columns]


def _chosen(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    drawn = torch.rand(len(images), generator=generator, device=images.device)
    return (drawn < probability).view(-1, 1, 1, 1)  # [B, 1, 1, 1] bool


def move(images: Tensor, model: BARConfig, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Mirror, rotate, scale, stretch, distort and shift images [B, 3, S, S] into [B, 3, I, I], edges repeated."""
    draws = _normal(images, 7, generator)  # [B, 7]
    angle = draws[:, 0] * math.radians(options.rotation)
    size = model.crop_fraction * torch.exp(draws[:, 1] * options.scale)
    stretch = torch.exp(draws[:, 5] * options.aspect / 2)
    width = torch.where(draws[:, 4] < 0, -size, size) / stretch
    height = size * stretch
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 0, 1] = width * angle.cos(), -height * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = width * angle.sin(), height * angle.cos()
    theta[:, :, 2] = draws[:, 2:4] * 2 * options.shift
    theta[:, 1, 2] -= 2 * model.crop_rise
    grid = F.affine_grid(theta, [len(images), 3, model.input_size, model.input_size], align_corners=False)
    radius = grid.square().sum(3, keepdim=True) / 2  # [B, I, I, 1] 1 at the corners
    grid = grid * (1 + options.lens * draws[:, 6].view(-1, 1, 1, 1) * (radius - 0.5))
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def change_background(images: Tensor, model: BARConfig, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Put a shade, blocks of colour, or what surrounds another face, around the ellipse of some faces [B, 3, I, I]."""
    draws = torch.rand(len(images), 8, generator=generator, device=images.device)  # [B, 8]
    place = torch.linspace(-1, 1, images.shape[-1], device=images.device)  # [I]
    half_width, half_height = 0.61 + 0.38 * draws[:, 0], 0.77 + 0.40 * draws[:, 1]  # [B] of half the crop's side
    across, down = model.crop_fraction * place, model.crop_fraction * place - 2 * model.crop_rise  # [I] from its centre
    distance = (across[None, None, :] / half_width[:, None, None]) ** 2 + (
        down[None, :, None] / half_height[:, None, None]
    ) ** 2  # [B, I, I]
    outside = torch.sigmoid(12 * (distance - 1))[:, None]  # [B, 1, I, I]
    shade = draws[:, 2, None].lerp(draws[:, 3:6], 0.3)[:, :, None, None]  # [B, 3, 1, 1] mostly grey
    shade = shade + 0.3 * (draws[:, 6] - 0.5)[:, None, None, None] * place  # [B, 3, 1, I] lit from one side
    blocks = torch.rand(len(images), 3, 9, 9, generator=generator, device=images.device)
    blocks = F.interpolate(blocks, images.shape[-2:], mode="nearest")  # [B, 3, I, I]
    kind = draws[:, 7].view(-1, 1, 1, 1)
    behind = torch.where(kind < 0.4, shade.clamp(0, 1), torch.where(kind < 0.7, images.roll(1, dims=0), blocks))
    outside = torch.where(_chosen(images, options.background_probability, generator), outside, 0.0)
    return images + outside * (behind - images)


def soften(images: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Lose pixels, blur or sharpen images [B, 3, I, I]; the factor of the loss is one per batch."""
    factor = 0.25 + 0.4 * torch.rand(1, generator=generator, device=images.device).item()
    size = max(8, round(images.shape[-1] * factor))
    small = F.interpolate(images, (size, size), mode="area")
    small = F.interpolate(small, images.shape[-2:], mode="bilinear", align_corners=False)
    images = torch.where(_chosen(images, options.small_probability, generator), small, images)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)  # [B, 3, I, I]
    gain = (options.detail * _normal(images, 1, generator)).clamp(-1, 1.5).view(-1, 1, 1, 1)
    return images + gain * (images - blurred)


def recolour(images: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Change exposure, contrast, colour cast and saturation of images [B, 3, I, I], add noise; clipped to 0..1."""
    draws = _normal(images, 6, generator)[:, :, None, None]  # [B, 6, 1, 1]
    images = images.clamp(1e-3, 1) ** torch.exp(options.exposure * draws[:, 0:1])
    mean = images.mean(dim=(1, 2, 3), keepdim=True)  # [B, 1, 1, 1]
    images = mean + (images - mean) * torch.exp(options.contrast * draws[:, 1:2])
    images = images * torch.exp(options.cast * draws[:, 2:5])
    weights = torch.tensor(GREY, device=images.device).view(1, 3, 1, 1)
    grey = (images * weights).sum(dim=1, keepdim=True)  # [B, 1, I, I]
    saturation = (1 + options.saturation * draws[:, 5:6]).clamp(0, 2)
    saturation = saturation.masked_fill(_chosen(images, options.grey_probability, generator), 0)
    images = grey + (images - grey) * saturation
    noise = torch.randn(images.shape, generator=generator, device=images.device) * options.noise
    images = torch.where(_chosen(images, options.noise_probability, generator), images + noise, images)
    return images.clamp(0, 1)


def compress(images: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Round the 8x8 cosine coefficients of some images [B, 3, I, I] as JPEG does, an edge repeated to fill blocks."""
    chosen = _chosen(images, options.jpeg_probability, generator)
    quality = torch.rand(len(images), generator=generator, device=images.device)  # [B]
    size = images.shape[-1]
    whole = F.pad(images, (0, -size % 8, 0, -size % 8), mode="replicate")  # [B, 3, J, J], J a multiple of 8
    blocks = whole.unfold(2, 8, 8).unfold(3, 8, 8)  # [B, 3, J/8, J/8, 8, 8]
    transform = _cosines(images.device)  # [8, 8]
    frequency = torch.arange(8, device=images.device)
    step = (2 + frequency[:, None] + frequency[None, :]) / 255  # [8, 8] coarser for finer detail
    step = step * (1 + 7 * quality.square())[:, None, None, None, None, None]  # [B, 1, 1, 1, 8, 8]
    coefficients = transform @ blocks @ transform.T
    blocks = transform.T @ ((coefficients / step).round() * step) @ transform  # [B, 3, J/8, J/8, 8, 8]
    rounded = blocks.permute(0, 1, 2, 4, 3, 5).reshape(whole.shape)[..., :size, :size]  # [B, 3, I, I]
    return torch.where(chosen, rounded.clamp(0, 1), images)


def _cosines(device: torch.device) -> Tensor:
    position = torch.arange(8, device=device)
    matrix = torch.cos(math.pi / 8 * (position[None, :] + 0.5) * position[:, None]) / 2  # [8, 8] orthogonal
    matrix[0] /= math.sqrt(2)
    return matrix


def erase(images: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Cover a random rectangle (10-45 % of each side) of some images [B, 3, I, I] with one random colour."""
    draws = torch.rand(len(images), 7, generator=generator, device=images.device)  # [B, 7]
    place = torch.linspace(0, 1, images.shape[-1], device=images.device)  # [I]
    inside = []
    for axis in (0, 1):
        extent = 0.10 + 0.35 * draws[:, axis]
        start = draws[:, 2 + axis] * (1 - extent)
        inside.append((place >= start[:, None]) & (place <= (start + extent)[:, None]))  # [B, I]
    mask = (inside[0][:, None, :, None] & inside[1][:, None, None, :]) & _chosen(
        images, options.erase_probability, generator
    )  # [B, 1, I, I]
    return torch.where(mask, draws[:, 4:7, None, None], images)
