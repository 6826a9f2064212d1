from dataclasses import replace

import pytest
import torch
from torch import nn

from common.base import weight_files
from common.base.distribution import gaussian_log_probs
from common.base.model import BAR, BARConfig, central_view, estimate, estimate_views, load_backbone_weights
from common.base.weight_files import vouch
from common.base.weights import fingerprint, load_bar, save_bar
from common.errors import WeightsError
from common.training.checkpoints import load_checkpoint, save_checkpoint

SMALL = {"backbone": "tiny", "crop_size": 48, "input_size": 48}


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("head", ["distribution", "mean_variance", "regression"])
def test_output_shapes_and_sums(head):
    model = BAR(BARConfig(head=head, min_age=1, max_age=100, **SMALL)).eval()
    output = model(images(3))
    assert [tuple(part.shape) for part in output] == [(3,), (3, 100), (3, 256)]
    assert model.ages[[0, -1]].tolist() == [1, 100]
    assert output.log_probs.exp().sum(dim=1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert torch.isfinite(output.log_probs).all()


def test_evaluation_repeats_its_bits_and_training_draws():
    model = BAR(BARConfig(dropout=0.5, **SMALL)).eval()
    assert torch.equal(model(images()).age, model(images()).age)
    model.train()
    assert not torch.equal(model(images()).log_probs, model(images()).log_probs)


def test_an_estimate_is_the_same_for_a_face_and_its_mirror_image():
    model = BAR(BARConfig(mirror=True, **SMALL)).eval()
    output, mirrored = estimate(model, images()), estimate(model, images().flip(3))
    assert torch.allclose(output.age, mirrored.age, atol=1e-4)
    assert torch.allclose(output.log_probs.exp().sum(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose((output.log_probs.exp() * model.ages).sum(dim=1), output.age, atol=1e-3)
    alone = BAR(BARConfig(**SMALL)).eval()
    assert torch.equal(estimate(alone, images()).age, alone(images()).age)


def test_standardised_embeddings_tell_the_same_ages():
    model, batch = BAR(BARConfig(**SMALL)).eval(), images(40)
    before = model(batch)
    model.standardise(before.embedding.detach())
    for _ in range(2):  # a second time changes nothing
        after = model(batch)
        assert torch.allclose(after.embedding.mean(dim=0), torch.zeros(256), atol=1e-3)
        deviation = before.embedding.std(dim=0)
        varying = deviation > max(1.1e-3, 0.11 * deviation.mean().item())
        assert varying.any()
        assert torch.allclose(after.embedding.std(dim=0)[varying], torch.ones(int(varying.sum())), atol=1e-3)
        assert torch.allclose(after.log_probs, before.log_probs, atol=1e-3)
        assert torch.allclose(model.read(after.embedding).log_probs, after.log_probs)
        model.standardise(after.embedding.detach())


def test_regression_head_spreads_its_distribution_around_its_age():
    model = BAR(BARConfig(head="regression", sigma=3.0, **SMALL)).eval()
    output = model(images())
    assert torch.equal(output.log_probs, gaussian_log_probs(output.age, model.ages, 3.0))


def test_central_view_keeps_the_centre_and_drops_the_margin():
    crops = torch.zeros(1, 100, 100, 3, dtype=torch.uint8)
    crops[:, 10:90, 10:90, 1] = 255
    view = central_view(crops, BARConfig(crop_size=100, crop_fraction=0.8, input_size=40))
    assert view.shape == (1, 3, 40, 40)
    assert view[0, 1].min() == 1.0 and view[0, 0].max() == 0.0
    whole = central_view(crops, BARConfig(crop_size=100, crop_fraction=1.0, input_size=100))
    assert torch.equal(whole[0].permute(1, 2, 0) * 255, crops[0].float())


def test_a_view_beyond_the_crop_repeats_its_edges():
    crops = torch.arange(64, dtype=torch.uint8).view(1, 8, 8, 1).expand(1, 8, 8, 3).contiguous()
    view = central_view(crops, BARConfig(crop_size=8, crop_fraction=1.5, crop_rise=0.25, input_size=12))
    rows = [0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]  # 2 px more on each side, all 2 px higher
    columns = [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 7]
    assert torch.equal(view[0, 0] * 255, crops[0, :, :, 0].float()[rows][:, columns])
    lower = central_view(crops, BARConfig(crop_size=8, crop_fraction=1.0, crop_rise=-0.25, input_size=8))
    assert torch.equal(lower[0, 0] * 255, crops[0, :, :, 0].float()[[2, 3, 4, 5, 6, 7, 7, 7]])


@pytest.mark.parametrize(("key", "value"), [("crop_fraction", 0.0), ("crop_fraction", 2.5), ("crop_rise", 0.6)])
def test_config_refuses_views_that_hold_no_face(key, value):
    with pytest.raises(ValueError, match="crop_fraction must be above 0 and up to 2, crop_rise from -0.5 to 0.5"):
        BARConfig(**{key: value})


def test_central_view_refuses_other_sizes():
    with pytest.raises(ValueError, match=r"\[B, 48, 48, 3\], not \(1, 64, 64, 3\)"):
        central_view(torch.zeros(1, 64, 64, 3, dtype=torch.uint8), BARConfig(**SMALL))


@pytest.mark.parametrize(("key", "value"), [("head", "kl"), ("backbone", "resnet"), ("decode", "mode")])
def test_config_names_the_allowed_values(key, value):
    with pytest.raises(ValueError, match=f"{key} must be one of .*, not '{value}'"):
        BARConfig(**{key: value})


def test_backbone_weights_that_do_not_fit_are_refused(tmp_path):
    model = BAR(BARConfig(backbone="vgg16"))
    with pytest.raises(WeightsError, match="no backbone weights file at"):
        load_backbone_weights(model, tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsError, match="no torch weights file"):
        load_backbone_weights(model, tmp_path / "text.pth")
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not hold torchvision's VGG16"):
        load_backbone_weights(model, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="tiny has no pretrained weights"):
        load_backbone_weights(BAR(BARConfig(**SMALL)), tmp_path / "other.pth")


def test_released_weights_give_the_same_ages_to_float16(tmp_path):
    torch.manual_seed(0)
    model = BAR(BARConfig(**SMALL)).eval()
    save_bar(model, tmp_path, {"note": "a test"})
    loaded = load_bar(tmp_path)
    assert loaded.config == model.config
    assert not loaded.training
    assert (loaded(images()).age - model(images()).age).abs().max() < 0.05
    assert len(fingerprint(tmp_path)) == 40


def test_unusable_weights_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(WeightsError, match="holds no released weights"):
        load_bar(tmp_path)
    save_bar(BAR(BARConfig(**SMALL)), tmp_path, {})
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"max_age": 100', '"max_age": 90'))
    with pytest.raises(WeightsError, match="that fits its config.json") as caught:
        load_bar(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="does not describe a base regressor"):
        load_bar(tmp_path)
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "model.safetensors").write_bytes(b"12345678901234567890")
    vouch(tmp_path, "model.safetensors")
    with pytest.raises(WeightsError, match="it is no safetensors file"):
        load_bar(tmp_path)


def test_checkpoint_round_trip_and_errors(tmp_path):
    save_checkpoint(tmp_path / "a.ckpt", {"step": 3, "best": float("inf"), "weights": torch.arange(3)})
    state = load_checkpoint(tmp_path / "a.ckpt")
    assert state["step"] == 3 and state["best"] == float("inf") and state["weights"].tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    with pytest.raises(WeightsError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "b.ckpt")
    (tmp_path / "c.ckpt").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="is no checkpoint"):
        load_checkpoint(tmp_path / "c.ckpt")


def test_six_views_are_averaged():
    torch.manual_seed(0)
    model = BAR(BARConfig(**SMALL)).eval()
    crops = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        seen = [central_view(crops, replace(model.config, crop_fraction=part)) for part in (0.8836, 0.94, 0.9964)]
        alone = [model(view) for images in seen for view in (images, images.flip(3))]
        together = estimate_views(model, crops)
    assert torch.allclose(together.age, sum(output.age for output in alone) / 6, atol=1e-5)
    assert torch.allclose(together.log_probs.exp(), sum(output.log_probs.exp() for output in alone) / 6, atol=1e-6)
    assert torch.allclose(together.embedding, sum(output.embedding for output in alone) / 6, atol=1e-6)


def test_an_installation_without_weights_says_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files, "WEIGHTS", tmp_path / "site-packages" / "weights")
    with pytest.raises(WeightsError, match="no weights in this installation .*clone of the repository"):
        load_bar(tmp_path / "site-packages" / "weights" / "AgeRegBaseline")
    with pytest.raises(WeightsError, match="There is no folder .*nowhere"):
        load_bar(tmp_path / "nowhere")
