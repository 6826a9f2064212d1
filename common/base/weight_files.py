"""The files of a folder of weights: each is what config.json vouches for (SHA-256), and fits before it is built.

A hash says that a file is the one that was released; it says nothing of who released it. So every graph but those that
this code itself knows is also held to a list of operators, and every size is bounded before memory is taken.
"""

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from common.errors import WeightsError
from common.files import WEIGHTS, write_whole

MODEL_FILE, CONFIG_FILE, BANK_FILE = "model.safetensors", "config.json", "bank.npz"
BANK = "bank"  # key of config.json: the folder of weights/ that holds the bank, if that is another one
HASHES = "sha256"  # key of config.json: hash by file name
DIFFERENCES_FILE, SETTINGS_FILE = "differences.json", "own_references.json"
READ = (  # what inference reads
    MODEL_FILE, "model.onnx", "model_int8.onnx", "head.onnx", BANK_FILE, "intervals.json", DIFFERENCES_FILE,
    SETTINGS_FILE,
)  # fmt: skip
LARGEST_CONFIG, LARGEST_HEADER, LARGEST_FILE = 2**20, 2**20, 2**30  # bytes
RANKS = {"images": 4, "age": 1, "log_probs": 2, "embedding": 2}  # axes of what a graph takes and gives
RELEASED_GRAPHS = Path(__file__).with_name("released_graphs.txt")  # SHA-256, one a line: scripts/hash_weights.py
OPERATORS = {
    "Abs", "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant",
    "ConstantOfShape", "Conv", "Cos", "CumSum", "DequantizeLinear", "Div", "Equal", "Erf", "Exp", "Expand",
    "Flatten", "Gather", "GatherElements", "Gemm", "GlobalAveragePool", "Greater", "Identity",
    "LayerNormalization", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "MaxPool", "Mul", "Neg", "Not",
    "PRelu", "Pad", "Pow", "QuantizeLinear", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape",
    "Shape", "Sigmoid", "Sin", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "TopK", "Transpose",
    "Unsqueeze", "Where",
}  # fmt: skip


def read_settings(folder: Path) -> dict[str, Any]:
    """config.json of a folder of weights; raises WeightsError if it is none, or too large to be one."""
    path = folder / CONFIG_FILE
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise WeightsError(f"{path} is too large to describe weights; get the weights again.")
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path} describes no weights ({error}).") from None
    if not isinstance(settings, dict) or not isinstance(settings.get(HASHES, {}), dict):
        raise WeightsError(f"{path} describes no weights (it is no table of settings).")
    return settings


def require(folder: Path, names: Iterable[str], kind: str) -> None:
    """Raise WeightsError if there is no such folder of `kind` weights, or if it lacks one of these files."""
    if not WEIGHTS.is_dir() and WEIGHTS in folder.parents:
        raise WeightsError(
            f"There are no weights in this installation ({WEIGHTS}); install from a clone of the repository with "
            "pip install -e ., or give --weights."
        )
    if not folder.is_dir():
        raise WeightsError(f"There is no folder {folder} with {kind} weights; check --weights.")
    for name in names:
        if not (folder / name).is_file():
            raise WeightsError(f"{folder} holds no {kind} weights (no {name}); check --weights.")


def settings_for(kind: type, settings: dict[str, Any], folder: str | Path) -> dict[str, Any]:
    """The stored settings of a dataclass `kind`; raises WeightsError if they name what it has not."""
    strange = sorted(set(settings) - {field.name for field in fields(kind)})
    if strange:
        raise WeightsError(f"{folder} holds weights of another pipeline (they have '{strange[0]}'); check --weights.")
    return settings


def fingerprint(folder: str | Path) -> str:
    """SHA-1 of a released model file: what a reference bank is tied to."""
    return hashlib.sha1((Path(folder) / MODEL_FILE).read_bytes()).hexdigest()


def folder_name(said: object) -> str:
    """The name of a folder of weights/ that a config.json says: of a path the last part, so that none lies outside.

    Raises WeightsError for what names no folder.
    """
    name = Path(str(said)).name
    if name in ("", "..") or "\0" in name or len(name.encode(errors="replace")) > 255:
        raise WeightsError(f"{CONFIG_FILE} names no folder of weights ({str(said)[:60]!r}); get the weights again.")
    return name


def stored_at(folder: Path, name: str) -> Path:
    """Where a file of a folder of weights is: in it; of a bank else in the folder of weights/ that BANK names.

    Raises WeightsError for a config.json that is none.
    """
    path = folder / name
    if name != BANK_FILE or path.exists() or not (folder / CONFIG_FILE).is_file():
        return path
    settings = read_settings(folder)
    return WEIGHTS / folder_name(settings[BANK]) / name if BANK in settings else path


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise WeightsError, one sentence, where a folder of weights cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(f"The weights {folder} cannot be written ({reason}); give a place with room.") from None


def verified(path: Path, largest: int = LARGEST_FILE) -> bytes:
    """The bytes of a file of a folder of weights; raises WeightsError unless config.json beside it vouches for them.

    A bank may be in another folder (see `stored_at`). A folder without any hash is read with one warning.
    """
    folder, name = path.parent, path.name
    path = stored_at(folder, name)
    if path.exists() and not path.is_file():
        raise WeightsError(f"{path} is no regular file; get the weights again.")
    if path.stat().st_size > largest:
        raise WeightsError(f"{path} is too large ({path.stat().st_size / 2**20:.0f} MiB); get the weights again.")
    data = path.read_bytes()
    hashes = read_settings(folder).get(HASHES)
    if hashes is None:
        _warn(folder)
    elif name not in hashes:
        raise WeightsError(f"{path} is not vouched for; if you trust it, run scripts/hash_weights.py {folder}")
    elif hashes[name] != hashlib.sha256(data).hexdigest():
        voucher = f"{CONFIG_FILE} beside it" if path.parent == folder else folder / CONFIG_FILE
        raise WeightsError(f"{path} is not the file that {voucher} vouches for; get the weights again.")
    return data


@cache  # once a folder
def _warn(folder: Path) -> None:
    print(
        f"{folder} has no hashes to verify its files by; python scripts/hash_weights.py {folder} adds them.",
        file=sys.stderr,
    )


def vouch(folder: Path, *names: str) -> None:
    """Note the hashes of these files in config.json; without names those of all that are there (a fresh folder)."""
    settings = read_settings(folder)
    if names and HASHES not in settings:  # an older folder: its other files would be vouched for unseen
        return
    found = {name: stored_at(folder, name) for name in names or READ}
    fresh = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items() if path.is_file()}
    settings[HASHES] = settings.get(HASHES, {}) | fresh if names else fresh
    with writing(folder):
        write_whole(folder / CONFIG_FILE, json.dumps(settings, indent=1) + "\n")


def shapes_in(data: bytes) -> dict[str, tuple[int, ...]]:
    """Shapes by name from the header of a safetensors file; raises ValueError."""
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(LARGEST_HEADER, len(data) - 8):
        raise ValueError("it is no safetensors file")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {name: tuple(entry["shape"]) for name, entry in header.items()}


@cache
def released_graphs() -> frozenset[str]:
    """SHA-256 of the graphs released with this code, which are as trustworthy as it.

    Importing onnx to look through these would take half a second of every start.
    """
    return frozenset(RELEASED_GRAPHS.read_text().split())


def check_graph(data: bytes, path: Path, axes: dict[str, int] = RANKS) -> None:
    """Raise WeightsError for a graph that is not one of `released_graphs` and does not pass `look_through`."""
    if hashlib.sha256(data).hexdigest() not in released_graphs():
        look_through(data, path, axes)


def look_through(data: bytes, path: Path, axes: dict[str, int]) -> None:
    """Raise WeightsError for an ONNX graph with operators that no export of ours has, or with more outside of it.

    `axes` are the number of axes of everything that the graph takes and gives, in order.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own errors for a file that is no graph
        raise WeightsError(f"{path} is no ONNX graph ({type(error).__name__}).") from None
    graph = model.graph
    foreign = sorted({node.op_type for node in graph.node} - OPERATORS)
    inner = any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute)
    outside = any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(graph))
    sparse = any(attribute.HasField("sparse_tensor") for node in graph.node for attribute in node.attribute)
    domains = {node.domain for node in graph.node} - {"", "ai.onnx"}
    if foreign or inner or outside or sparse or domains or model.functions or graph.sparse_initializer:
        what = f"the operator {foreign[0]}" if foreign else "parts that no export of ours has"
        raise WeightsError(f"{path} has {what}; make the graph with scripts/export_onnx.py.")
    ends = [(part.name, len(part.type.tensor_type.shape.dim)) for part in (*graph.input, *graph.output)]
    if ends != list(axes.items()):
        raise WeightsError(f"{path} takes or gives other than {', '.join(axes)}; make it with scripts/export_onnx.py.")
    _check_numbers(graph, path)


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor stored in a graph: its initializers, and those in attributes of its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def _check_numbers(graph: Any, path: Path) -> None:
    import numpy as np
    from onnx.numpy_helper import to_array

    for tensor in _tensors(graph):
        if math.prod(tensor.dims) > LARGEST_FILE:
            raise WeightsError(f"{path} declares a tensor that is too large; get the weights again.")
        values = to_array(tensor)
        if values.dtype.kind == "f" and not np.isfinite(values.astype(np.float32)).all():
            raise WeightsError(f"{path} holds numbers that are not finite; get the weights again.")
