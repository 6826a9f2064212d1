from dataclasses import asdict

import pytest
import torch

from common.base.augment import Augmentation, augment, change_background, compress, erase, move, recolour, soften
from common.base.model import BARConfig, central_view

MODEL = BARConfig(crop_size=64, input_size=48)
HIGHER = BARConfig(crop_size=64, input_size=80, crop_fraction=1.25, crop_rise=0.171875)  # 80 px, 11 px up
OFF = Augmentation(**dict.fromkeys(asdict(Augmentation()), 0.0))


def crops(count: int = 8) -> torch.Tensor:
    low = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    smooth = torch.nn.functional.interpolate(low, (64, 64), mode="bicubic").clamp(0, 255)
    return smooth.permute(0, 2, 3, 1).to(torch.uint8)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("model", [MODEL, HIGHER])
def test_without_strength_each_image_is_the_evaluation_view_or_its_mirror(model):
    views, expected = augment(crops(), model, OFF, drawn(1)), central_view(crops(), model)
    straight = (views - expected).abs().amax(dim=(1, 2, 3))
    mirrored = (views - expected.flip(3)).abs().amax(dim=(1, 2, 3))
    assert torch.minimum(straight, mirrored).max() < 0.05
    assert (straight < mirrored).any() and (straight > mirrored).any()


def test_the_generator_decides_everything():
    assert torch.equal(
        augment(crops(), MODEL, Augmentation(), drawn(3)), augment(crops(), MODEL, Augmentation(), drawn(3))
    )
    assert not torch.equal(
        augment(crops(), MODEL, Augmentation(), drawn(3)), augment(crops(), MODEL, Augmentation(), drawn(4))
    )


def test_values_stay_in_range_and_shape():
    views = augment(crops(), MODEL, Augmentation(), drawn(0))
    assert views.shape == (8, 3, 48, 48)
    assert views.min() >= 0 and views.max() <= 1


def test_grey_has_equal_channels():
    options = Augmentation(**{**asdict(OFF), "grey_probability": 1.0})
    images = recolour(torch.rand(4, 3, 16, 16), options, drawn(0))
    assert torch.allclose(images[:, 0], images[:, 1], atol=1e-6) and torch.allclose(
        images[:, 0], images[:, 2], atol=1e-6
    )


def test_erasing_covers_one_rectangle_of_one_colour():
    options = Augmentation(**{**asdict(OFF), "erase_probability": 1.0})
    images = torch.full((6, 3, 40, 40), 2.0)  # a value no colour has
    covered = erase(images, options, drawn(0))[:, 0] != 2.0
    for mask in covered:
        rows, columns = mask.any(dim=1).sum().item(), mask.any(dim=0).sum().item()
        assert mask.sum() == rows * columns and 3 <= rows <= 19 and 3 <= columns <= 19


def test_rotation_turns_by_its_degrees():
    images = torch.zeros(400, 3, 64, 64)
    images[:, :, 30:34, 48:56] = 1.0  # a mark on the right, level with the centre
    options = Augmentation(**{**asdict(OFF), "rotation": 10.0})
    moved = move(images, BARConfig(crop_size=64, input_size=64, crop_fraction=1.0), options, drawn(0))[:, 0]
    place = torch.arange(64.0) - 31.5
    weight = moved.sum(dim=(1, 2))
    y, x = (moved.sum(2) * place).sum(1) / weight, (moved.sum(1) * place).sum(1) / weight
    angle = torch.rad2deg(torch.atan(y / x))
    assert angle.std().item() == pytest.approx(10.0, rel=0.12)
    assert (x > 0).float().mean().item() == pytest.approx(0.5, abs=0.08)  # half are mirrored


def test_stretching_changes_the_aspect_by_its_standard_deviation():
    images = torch.zeros(400, 3, 64, 64)
    images[:, :, 24:40, 24:40] = 1.0  # a square
    options = Augmentation(**{**asdict(OFF), "aspect": 0.2})
    moved = move(images, BARConfig(crop_size=64, input_size=64, crop_fraction=1.0), options, drawn(0))[:, 0]
    height, width = moved[:, :, 31:33].mean(2).sum(1), moved[:, 31:33].mean(1).sum(1)  # [400] pixels
    assert torch.log(height / width).std().item() == pytest.approx(0.2, rel=0.12)
    assert (height * width).mean().item() == pytest.approx(256, rel=0.03)  # the area stays


def test_softening_without_strength_changes_nothing():
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(soften(images, OFF, drawn(0)), images)


def test_a_changed_background_leaves_the_face_and_replaces_the_corners():
    options = Augmentation(**{**asdict(OFF), "background_probability": 1.0})
    images = torch.full((16, 3, 48, 48), 0.37)
    images[1::2] = 0.9
    changed = change_background(images, MODEL, options, drawn(0))
    assert (changed - images)[:, :, 20:28, 20:28].abs().max() < 0.01
    assert ((changed - images)[:, :, 0, 0].abs().amax(dim=1) > 0.02).float().mean() > 0.8
    assert torch.equal(change_background(images, MODEL, OFF, drawn(0)), images)


def test_the_background_begins_around_the_face_wherever_it_is():
    options = Augmentation(**{**asdict(OFF), "background_probability": 1.0})
    images = torch.full((64, 3, 80, 80), 0.37)
    changed = (change_background(images, HIGHER, options, drawn(0)) - images).abs().amax(dim=1) > 0.02  # [64, 80, 80]
    part = changed.float().mean(dim=0)  # [80, 80]
    centre = 51  # row of the crop's centre: 11 px below the view's, which is as much higher
    assert part[centre - 15 : centre + 15, 30:50].max() == 0
    assert 0.1 < part[centre + 27, 40] < 0.5 and abs(part[centre - 28, 40] - part[centre + 27, 40]) < 0.1
    assert part[:10].min() > 0.5


def test_compression_keeps_flat_blocks_loses_fine_detail_and_rounds_to_the_stated_step():
    options = Augmentation(**{**asdict(OFF), "jpeg_probability": 1.0})
    flat = torch.full((4, 3, 16, 16), 0.5)
    assert (compress(flat, options, drawn(0)) - flat).abs().max() <= 0.5 * 2 * 8 / 255 / 8 + 1e-6
    faint = flat + 0.002 * (-1.0) ** torch.arange(16)  # a coefficient far below its step
    assert compress(faint, options, drawn(0)).std(dim=3).max() < 1e-5
    images = torch.rand(4, 3, 16, 16, generator=drawn(1)) * 0.4 + 0.3
    error = (compress(images, options, drawn(0)) - images).abs()
    assert 0.001 < error.mean() < 0.12
    part = compress(images[..., :12, :12], options, drawn(0))  # whole blocks do not change, the rest is completed
    assert torch.equal(part[..., :8, :8], compress(images, options, drawn(0))[..., :8, :8])
    assert part.shape == (4, 3, 12, 12) and 0.001 < (part - images[..., :12, :12])[..., 8:, 8:].abs().mean() < 0.12
