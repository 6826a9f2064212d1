"""Pretrained weights that come as an ONNX graph."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from common.errors import WeightsError

if TYPE_CHECKING:
    from onnx import GraphProto


def read_graph(path: Path) -> "tuple[GraphProto, dict[str, Tensor]]":
    """An ONNX graph and its stored tensors by name; raises WeightsError for a file that is none."""
    import onnx
    from onnx.numpy_helper import to_array

    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's own errors for a file that is no graph
        raise WeightsError(f"{path} is no ONNX graph ({type(error).__name__}).") from None
    return graph, {tensor.name: torch.from_numpy(to_array(tensor).copy()) for tensor in graph.initializer}
