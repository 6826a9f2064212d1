"""The backbone that was trained to recognise faces: its weights, and its form for ONNX Runtime."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import Conv2d

from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig
from AgeRegBaseline.AgeRegBaseline__train import start_run
from common.base.mobilefacenet import FixedPReLU, MobileFaceNet, load_mobilefacenet, made_for_onnx
from common.base.model import BAR, BARConfig, load_backbone_weights
from common.errors import WeightsError
from common.faces.identity import recognition_graph


def pretrained() -> MobileFaceNet:
    network = MobileFaceNet()
    load_mobilefacenet(network)
    return network.eval()


def test_layers_equal_those_of_the_published_graph():
    graph = onnx.load(str(recognition_graph()))
    last = [node for node in graph.graph.node if node.op_type == "PRelu"][-2].output[0]  # [B, 512, 7, 7]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    images = np.random.default_rng(0).normal(size=(1, 3, 112, 112)).astype(np.float32)
    (expected,) = session.run([last], {session.get_inputs()[0].name: images})
    with torch.inference_mode():
        features = pretrained().layers(torch.from_numpy(images)).numpy()
    assert expected.shape == (1, 512, 7, 7) and expected.std() > 0.01
    assert np.abs(features - expected).max() < 1e-5


def test_slopes_are_loaded_fixed_and_stored():
    layer = FixedPReLU(2)
    layer.slopes.copy_(torch.tensor([0.5, -0.25]))
    features = torch.tensor([-2.0, 3.0]).view(1, 1, 1, 2).expand(1, 2, 1, 2)
    assert layer(features)[0, :, 0].tolist() == [[-1.0, 3.0], [0.5, 3.0]]
    assert list(layer.state_dict()) == ["slopes"] and not list(layer.parameters())
    stored = [module.slopes for module in pretrained().modules() if isinstance(module, FixedPReLU)]
    assert max(slopes.max().item() for slopes in stored) <= 1 and min(slopes.abs().max() for slopes in stored) > 0.2


def test_the_form_for_onnx_is_the_same_function_without_slow_layers():
    network = pretrained()
    network.standardise.running_mean.normal_(generator=torch.Generator().manual_seed(1))
    quick = made_for_onnx(copy.deepcopy(network))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(images)
        assert torch.allclose(quick(images), expected, atol=1e-4) and expected.std() > 0.1
    assert network.layers[2].groups == 64
    assert all(layer.groups in (1, layer.in_channels) for layer in quick.modules() if isinstance(layer, Conv2d))
    assert not any(isinstance(layer, FixedPReLU) for layer in quick.modules())


def test_a_base_on_it_starts_from_the_recognition_weights():
    model = BAR(BARConfig(backbone="mobilefacenet", input_size=32))
    load_backbone_weights(model)
    assert torch.equal(model.backbone.layers[0].weight, pretrained().layers[0].weight)
    assert model.eval()(torch.zeros(2, 3, 32, 32)).embedding.shape == (2, 256)


def test_a_file_of_another_network_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(WeightsError, match="no ONNX graph"):
        load_mobilefacenet(MobileFaceNet(), tmp_path / "text.onnx")
    graph = onnx.load(str(recognition_graph()))
    nodes = list(graph.graph.node)
    for name, kept in (("other", nodes[1:]), ("cut", nodes[:20])):
        del graph.graph.node[:]
        graph.graph.node.extend(kept)
        onnx.save(graph, tmp_path / f"{name}.onnx")
        with pytest.raises(WeightsError, match="does not hold the MobileFaceNet"):
            load_mobilefacenet(MobileFaceNet(), tmp_path / f"{name}.onnx")


def test_the_backbone_has_a_rate_of_its_own(synthetic_set, tmp_path):
    config = AgeRegBaselineConfig(
        pretrained=False, crop_size=48, input_size=32, limit=64, batch_size=16, device="cpu", precision="no",
        learning_rate=0.01, backbone_rate=0.25,
    )  # fmt: skip
    run = start_run(config, [str(synthetic_set)], tmp_path, resume=False)
    below, above = run.descent.optimizer.param_groups
    assert above["max_lr"] == 0.01 and below["max_lr"] == 0.0025
    assert sum(map(len, (below["params"], above["params"]))) == len(list(run.model.parameters()))
