"""One base of two: its scores are the mean of theirs, and everything around a base works with it."""

import json

import numpy as np
import pytest
import skimage.data
import torch
from torch.nn import functional as F

from AgeRegBaseline.AgeRegBaseline__config import PRESETS, AgeRegBaselineConfig
from common.base.model import BAR, BARConfig, central_view, load_backbone_weights
from common.base.onnx import load_onnx
from common.base.onnx_export import export_onnx
from common.base.two_networks import EDGEFACE_WINDOW, MOBILEFACENET_WINDOW, VIEW
from common.base.weights import load_bar, save_bar
from common.errors import WeightsError
from common.files import WEIGHTS
from common.pipeline import AgePredictBasicPipeline
from DiffPipeline6.DiffPipeline6__model import load_model
from scripts.release.join_bases import earlier, exchange, join, main

SIZES = {"mobilefacenet": 92, "edgeface": 112}


def base(backbone: str, **settings) -> BAR:
    """A BAR with random weights and an embedding that is standardised somehow."""
    torch.manual_seed(len(backbone))
    model = BAR(BARConfig(backbone=backbone, input_size=SIZES[backbone], embedding_size=24, **settings)).eval()
    model.centre.normal_()
    model.spread.uniform_(0.5, 2.0)
    with torch.no_grad():
        model.head.weight.mul_(20)
    return model


@pytest.fixture(scope="module")
def pair() -> tuple[BAR, BAR]:
    return base("mobilefacenet"), base("edgeface")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, 120, 120, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("part", [0.5, 0.25])
def test_scores_are_the_weighted_mean_and_embeddings_side_by_side(pair, images, part):
    with torch.inference_mode():
        first = pair[0](F.interpolate(images[:, :, *MOBILEFACENET_WINDOW], (92, 92), mode="bilinear"))
        second = pair[1](images[:, :, *EDGEFACE_WINDOW])
        output = join(*pair, part)(images)
    expected = (part * first.log_probs + (1 - part) * second.log_probs).log_softmax(1)
    assert (first.log_probs - second.log_probs).abs().max() > 0.1
    assert torch.allclose(output.log_probs, expected, atol=1e-4)
    assert torch.allclose(output.embedding, torch.cat([first.embedding, second.embedding], dim=1), atol=1e-4)


def test_a_new_base_takes_the_place_of_the_one_joined_before(pair, images):
    new = base("mobilefacenet", decode="median")
    with torch.no_grad():
        new.head.weight.neg_()
        new.head.bias.add_(torch.linspace(0, 1, len(new.head.bias)))
    exchanged, expected = exchange(new, join(*pair, 0.25), pair[0], 0.25), join(new, pair[1], 0.25)
    assert exchanged.config == expected.config
    for name, tensor in expected.state_dict().items():
        assert torch.allclose(exchanged.state_dict()[name], tensor, atol=1e-6), name
    with torch.inference_mode():
        assert (exchanged(images).age - join(*pair, 0.25)(images).age).abs().max() > 0.1
    with pytest.raises(WeightsError, match="must be of the size"):
        exchange(base("mobilefacenet", crop_fraction=0.9), join(*pair), pair[0], 0.5)
    with pytest.raises(WeightsError, match="not in the history"):
        earlier("0" * 40)


def test_the_command_writes_weights_that_load_and_make_a_graph(pair, images, tmp_path, capsys):
    names = ("first", "second")
    for name, model, data in zip(names, pair, (["a", "b"], ["b", "c"]), strict=True):
        save_bar(model, tmp_path / name, {"data": data})
    words = [str(tmp_path / name) for name in names]
    assert main([*words, "--out", str(tmp_path / "joined")]) == 0
    assert "weights:" in capsys.readouterr().out
    assert json.loads((tmp_path / "joined" / "config.json").read_text())["data"] == ["a", "b", "c"]
    model = load_bar(tmp_path / "joined")
    export_onnx(model, tmp_path / "joined")
    with torch.inference_mode():
        expected, graph = model(images), load_onnx(tmp_path / "joined", model.config)(images.numpy())
    assert np.allclose(graph.ages, expected.age, atol=0.01) and expected.embedding.shape == (3, 48)
    assert main([*reversed(words), "--out", str(tmp_path / "no")]) == 2
    assert "first base must be of mobilefacenet" in capsys.readouterr().err
    assert main([*words, "--part", "1.5", "--out", str(tmp_path / "no")]) == 2
    assert "--part must be between 0 and 1" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_bases_that_speak_of_other_ages_are_not_joined(pair):
    with pytest.raises(WeightsError, match="over the same ages"):
        join(pair[0], base("edgeface", max_age=90))


def test_images_of_another_size_and_a_file_of_weights_are_refused(pair, tmp_path):
    joined = join(*pair)
    with pytest.raises(ValueError, match=r"\[B, 3, 120, 120\]"):
        joined(torch.rand(1, 3, 112, 112))
    (tmp_path / "any.onnx").touch()
    with pytest.raises(WeightsError, match="leave --backbone-weights out"):
        load_backbone_weights(joined, tmp_path / "any.onnx")


@pytest.fixture(scope="module")
def portrait() -> torch.Tensor:
    """The aligned crop [1, 128, 128, 3] uint8 of a face."""
    (face,) = AgePredictBasicPipeline.from_weights(device="cpu").faces(skimage.data.astronaut())
    return torch.from_numpy(face.crop)[None]


@pytest.mark.parametrize(("preset", "window"), [("released", MOBILEFACENET_WINDOW), ("large", EDGEFACE_WINDOW)])
def test_each_network_sees_what_it_was_trained_on(portrait, preset, window):
    alone = central_view(portrait, AgeRegBaselineConfig(**PRESETS[preset]))
    beside = central_view(portrait, BARConfig(backbone="two_networks", **VIEW))[:, :, *window]
    shifted = beside.roll(1, dims=3)
    assert alone.shape == beside.shape
    assert (alone - beside).abs().mean() < 0.01 < (alone - shifted).abs().mean()


def test_the_released_larger_weights_estimate_and_correct(portrait):
    corrector = load_model(WEIGHTS / "DiffPipeline6-large", "cpu")
    pipeline = corrector.pipeline
    assert pipeline.graph is not None and pipeline.config.backbone == "two_networks"
    base = pipeline.predict(portrait.numpy())
    with torch.inference_mode():
        expected = pipeline.model(central_view(portrait, pipeline.config))
    assert base.ages[0] == pytest.approx(expected.age.item(), abs=0.01)
    released = AgePredictBasicPipeline.from_weights(device="cpu").predict(portrait.numpy())
    assert 0 < abs(base.ages[0] - released.ages[0]) < 8
