"""The backbone that was trained to recognise faces: its weights, and how its slopes fade."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import Conv2d

from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig
from AgeRegBaseline.AgeRegBaseline__train import fit, slope_share, start_run
from common.bar import BAR, BARConfig, load_backbone_weights
from common.checkpoints import load_checkpoint
from common.errors import WeightsError
from common.mobilefacenet import (
    FadingPReLU,
    MobileFaceNet,
    fade,
    load_mobilefacenet,
    recognition_graph,
    with_depthwise_stem,
)


def pretrained() -> MobileFaceNet:
    network = MobileFaceNet()
    load_mobilefacenet(network)
    return network.eval()


def test_features_equal_those_of_the_published_graph():
    graph = onnx.load(str(recognition_graph()))
    last = [node for node in graph.graph.node if node.op_type == "PRelu"][-2].output[0]  # [B, 512, 7, 7]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    images = np.random.default_rng(0).normal(size=(1, 3, 112, 112)).astype(np.float32)
    (expected,) = session.run([last], {session.get_inputs()[0].name: images})
    with torch.inference_mode():
        features = pretrained()(torch.from_numpy(images))
    assert expected.shape == (1, 512, 7, 7) and expected.std() > 0.01
    assert np.abs(features.numpy() - expected.mean(axis=(2, 3))).max() < 1e-5


def test_slopes_fade_from_prelu_to_relu():
    layer = FadingPReLU(2)
    features = torch.tensor([-2.0, 3.0]).view(1, 1, 1, 2).expand(1, 2, 1, 2)
    layer.slopes.copy_(torch.tensor([0.5, -0.25]))
    for share, expected in ((0.0, [0.0, 0.0]), (0.5, [-0.5, 0.25]), (1.0, [-1.0, 0.5])):
        fade(layer, share)
        assert layer(features)[0, :, 0].tolist() == [[expected[0], 3.0], [expected[1], 3.0]]
    assert not layer.state_dict()


def test_a_network_without_pretrained_weights_is_a_relu_network():
    model = BAR(BARConfig(backbone="mobilefacenet", input_size=32))
    assert all(module.share == 0 for module in model.modules() if isinstance(module, FadingPReLU))
    load_backbone_weights(model)
    assert all(module.share == 1 for module in model.modules() if isinstance(module, FadingPReLU))
    assert model(torch.zeros(2, 3, 32, 32)).embedding.shape == (2, 256)


def test_the_stem_of_the_graph_is_the_same_function():
    network = pretrained()
    fade(network, 0.0)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(images)
        assert network.layers[2].groups == 64
        quick = with_depthwise_stem(network)
        assert all(layer.groups in (1, layer.in_channels) for layer in quick.modules() if isinstance(layer, Conv2d))
        assert torch.allclose(quick(images), expected, atol=1e-6) and expected.std() > 1e-3


def test_a_file_of_another_network_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(WeightsError, match="no ONNX graph"):
        load_mobilefacenet(MobileFaceNet(), tmp_path / "text.onnx")
    graph = onnx.load(str(recognition_graph()))
    del graph.graph.node[0]
    onnx.save(graph, tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match="does not hold the MobileFaceNet"):
        load_mobilefacenet(MobileFaceNet(), tmp_path / "other.onnx")


def test_training_fades_and_keeps_only_weights_of_the_finished_network(synthetic_set, tmp_path):
    config = AgeRegBaselineConfig(
        backbone="mobilefacenet", crop_size=48, input_size=32, fade=0.5, epochs=4, batch_size=16, limit=64,
        learning_rate=1e-4, augmentation=0.0, device="cpu", precision="no",
    )  # fmt: skip
    run = start_run(config, [str(synthetic_set)], tmp_path, resume=False)
    steps = run.order.steps
    assert slope_share(run, 0) == 1 and slope_share(run, steps) == 0.5
    assert slope_share(run, 2 * steps) == 0 == slope_share(run, 4 * steps)
    assert slope_share(replace(run, config=replace(config, fade=0.0)), 0) == 0
    fit(run)
    assert run.progress.best_epoch >= 2 and len(run.progress.history) == 4
    assert not any("slopes" in key for key in load_checkpoint(tmp_path / "best_model.ckpt")["model"])
