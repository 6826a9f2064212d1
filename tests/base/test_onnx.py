import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import skimage.data
import torch
from onnx.numpy_helper import to_array
from PIL import Image

from AgeRegBaseline.AgeRegBaseline__infer2 import main as infer2
from common.base.model import BAR, BARConfig
from common.base.onnx import FAST_FILE, MADE_OF, ONNX_FILE
from common.base.onnx_export import export_fast, export_onnx
from common.base.weight_files import vouch
from common.base.weights import load_bar, save_bar
from common.data.synthetic import render_face, sample_identity
from common.errors import WeightsError
from common.pipeline import RELEASED, AgePredictBasicPipeline
from scripts.export_onnx import main as export_main
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Random weights of a small input, with batch statistics that are not those of a fresh network, and their graph."""
    torch.manual_seed(0)
    model = BAR(BARConfig(backbone="tiny", crop_size=48, input_size=48, decode="median", mirror=True))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2.0)
            module.running_mean.normal_(0, 0.2)
    folder = save_bar(model, tmp_path_factory.mktemp("onnx"), {})
    export_onnx(load_bar(folder), folder)
    return folder


def crops(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 7, 19])  # one pass with the mirrors, two passes, several chunks
def test_the_graph_says_what_the_weights_say(folder, count):
    fast, slow = (AgePredictBasicPipeline.from_weights(folder, "cpu") for _ in range(2))
    assert fast.graph is not None
    slow.graph = None
    for one, other in zip(fast.predict(crops(count)), slow.predict(crops(count)), strict=True):
        assert np.abs(one - other).max() < 1e-3 and np.abs(other).max() > 0
    assert np.array_equal(fast.predict(crops(count)).ages, fast.predict(crops(count)).ages)


@pytest.fixture(scope="module")
def fast_folder(folder, tmp_path_factory):
    """The same weights with a second graph in INT8, calibrated on other crops than it is tried on."""
    fast = shutil.copytree(folder, tmp_path_factory.mktemp("fast") / "weights")
    images = torch.from_numpy(np.random.default_rng(3).random((40, 3, 48, 48), np.float32))
    export_fast(fast, images)
    return fast


def test_the_graph_in_8_bits_says_about_the_same(fast_folder):
    exact, fast = (AgePredictBasicPipeline.from_weights(fast_folder, "cpu") for _ in range(2))
    fast.use_int8()
    one, other = exact.predict(crops(19)), fast.predict(crops(19))
    assert fast.graph is not exact.graph and np.array_equal(fast.predict(crops(19)).ages, other.ages)
    apart = np.linalg.norm(one.embeddings - other.embeddings, axis=1) / np.linalg.norm(one.embeddings, axis=1)
    assert 1e-4 < apart.mean() < 0.1


def test_convolutions_are_in_8_bits_and_the_head_is_not(fast_folder):
    nodes = onnx.load(fast_folder / FAST_FILE).graph.node
    after = {name: node.op_type for node in nodes for name in node.output}
    inputs = {kind: [after.get(node.input[0]) for node in nodes if node.op_type == kind] for kind in ("Conv", "Gemm")}
    assert set(inputs["Conv"]) == {"DequantizeLinear"} and "DequantizeLinear" not in inputs["Gemm"]
    assert len(inputs["Gemm"]) == 2


def test_without_a_graph_in_8_bits_one_sentence_says_how_to_make_it(folder, capsys):
    with pytest.raises(WeightsError, match=r"export_onnx\.py --weights DIR --fast"):
        AgePredictBasicPipeline.from_weights(folder, "cpu").use_int8()
    assert infer2(["--weights", str(folder), "--fast"]) == 2
    assert "export_onnx.py --weights DIR --fast" in capsys.readouterr().err


def test_a_broken_graph_is_one_sentence(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / ONNX_FILE).write_bytes(b"no graph")
    vouch(broken, ONNX_FILE)
    with pytest.raises(WeightsError, match="no ONNX graph") as caught:
        AgePredictBasicPipeline.from_weights(broken, "cpu")
    assert "\n" not in str(caught.value)


def test_ages_of_a_graph_of_the_released_weights_are_those_of_torch(tmp_path):
    folder = shutil.copytree(RELEASED, tmp_path / "released")
    export_onnx(load_bar(folder), folder)
    fast, slow = (AgePredictBasicPipeline.from_weights(folder, "cpu") for _ in range(2))
    slow.graph = None
    random = np.random.default_rng(0)
    faces = np.stack([render_face(sample_identity(random), age, 0, random) for age in np.linspace(1, 90, 24)])
    assert np.abs(fast.predict(faces).ages - slow.predict(faces).ages).max() <= 0.05
    assert slow.predict(faces).ages.std() > 1


def test_without_a_graph_torch_estimates(folder, tmp_path):
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / ONNX_FILE).unlink()
    assert AgePredictBasicPipeline.from_weights(bare, "cpu").graph is None


@pytest.mark.parametrize("file", [ONNX_FILE, FAST_FILE])
def test_a_graph_of_other_weights_is_refused(fast_folder, tmp_path, file):
    other = shutil.copytree(fast_folder, tmp_path / "other")
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(settings | {MADE_OF[file]: "0" * 40}))
    with pytest.raises(WeightsError, match=f"{file} was not made of the weights beside it"):
        AgePredictBasicPipeline.from_weights(other, "cpu").use_int8()


def test_the_script_checks_what_it_writes(folder, tmp_path, capsys):
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / ONNX_FILE).unlink()
    assert export_main(["--weights", str(bare)]) == 0
    assert "ages within 0.0" in capsys.readouterr().out and (bare / ONNX_FILE).is_file()
    assert export_main(["--weights", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_released_graph_is_that_of_the_released_weights():
    fast, slow = (AgePredictBasicPipeline.from_weights(RELEASED, "cpu") for _ in range(2))
    assert fast.graph is not None
    slow.graph = None
    some = np.random.default_rng(2).integers(0, 256, (24, 128, 128, 3), dtype=np.uint8)
    assert np.abs(fast.predict(some).ages - slow.predict(some).ages).max() <= 0.05


def test_the_released_graph_in_8_bits_is_near_the_other():
    exact, fast = (AgePredictBasicPipeline.from_weights(RELEASED, "cpu") for _ in range(2))
    fast.use_int8()
    random = np.random.default_rng(0)
    faces = np.stack([render_face(sample_identity(random), age, 0, random) for age in np.linspace(1, 90, 24)])
    apart = np.abs(fast.predict(faces).ages - exact.predict(faces).ages)
    assert 0 < apart.mean() < 4  # synthetic faces are unlike those it is calibrated on: photos differ by 0.5


def test_8_bits_do_not_overflow_whatever_the_processor():
    """Sums of 8-bit products saturate on processors without VNNI: the portrait was then read as 19 instead of 31."""
    exact, fast = (AgePredictBasicPipeline.from_weights(RELEASED, "cpu") for _ in range(2))
    fast.use_int8()
    crop = exact.faces(skimage.data.astronaut())[0].crop
    assert abs(fast.predict([crop]).ages[0] - exact.predict([crop]).ages[0]) < 1.5
    weights = [
        to_array(tensor) for tensor in onnx.load(RELEASED / FAST_FILE).graph.initializer if tensor.data_type == 3
    ]
    kernels = [values for values in weights if values.ndim == 4]
    assert len(kernels) > 40 and max(np.abs(values.astype(int)).max() for values in kernels) <= 64


def test_the_script_says_what_8_bits_cost(folder, synthetic_set, tmp_path, capsys):
    model = BAR(BARConfig(backbone="tiny", crop_size=48, input_size=48))
    weights = save_bar(model, tmp_path / "weights", {})
    assert export_main(["--weights", str(weights), "--fast", str(synthetic_set)]) == 0
    printed = capsys.readouterr().out
    assert "ages differ by" in printed and "Collecting" not in printed and (weights / FAST_FILE).is_file()
    assert export_main(["--weights", str(weights), "--fast", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    larger = save_bar(BAR(BARConfig(backbone="tiny")), tmp_path, {})
    assert export_main(["--weights", str(larger), "--fast", str(synthetic_set)]) == 2
    assert "48 px" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [None, {"crop_fraction": 1.25, "crop_rise": 0.125, "input_size": 40}])
def test_the_example_with_onnxruntime_alone_gives_the_same_age(shape, tmp_path):
    """Exactly scripts/estimate_with_onnx.py, by what the graph says of its input: released, and wider."""
    if shape is None:
        folder = shutil.copytree(RELEASED, tmp_path / "weights")
    else:
        torch.manual_seed(1)
        config = BARConfig(**{"backbone": "tiny", "crop_size": 128, "decode": "median"} | shape)
        folder = save_bar(BAR(config), tmp_path / "weights", {})
    graph = export_onnx(load_bar(folder), folder)
    pipeline = AgePredictBasicPipeline.from_weights(folder, "cpu")
    (face,) = pipeline.faces(skimage.data.astronaut())
    Image.fromarray(face.crop).save(tmp_path / "crop.png")
    words = [sys.executable, "scripts/estimate_with_onnx.py", str(graph), str(tmp_path / "crop.png")]
    told = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert float(told) == pytest.approx(pipeline.predict(face.crop[None]).ages[0], abs=1e-4)
    said = {prop.key: prop.value for prop in onnx.load(graph).metadata_props}
    assert said["ages"] == "0..100" and said["decode"] == pipeline.config.decode and "RGB, 0..1" in said["images"]
    assert float(said["crop_fraction"]) == pipeline.config.crop_fraction
    assert int(said["input_size"]) == pipeline.config.input_size


def test_the_card_shows_the_example_that_is_tested():
    code = (REPOSITORY / "scripts" / "estimate_with_onnx.py").read_text().split('"""\n\n', 1)[1]
    assert code in (RELEASED / "README.md").read_text() and code.count("\n") <= 18
