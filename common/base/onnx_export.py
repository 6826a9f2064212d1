"""Writing a base regressor as ONNX graphs: in float32, and in INT8 (nearly twice as fast, not quite the same ages)."""

import contextlib
import copy
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from common.base.config import BARConfig, read_config
from common.base.mobilefacenet import MobileFaceNet, made_for_onnx
from common.base.model import BAR
from common.base.onnx import FAST_FILE, MADE_OF, ONNX_FILE
from common.base.weight_files import CONFIG_FILE, fingerprint, vouch, writing
from common.faces.alignment import TEMPLATE, TEMPLATE_SIZE
from common.files import replacing, write_whole

OUTLIERS = 99.99  # percent of what a layer puts out that 8 bits must be able to hold


class _Float(nn.Module):
    def forward(self, stored: Tensor) -> Tensor:
        return stored.float()


def _half_stored(model: BAR) -> BAR:
    """The BAR with its state kept as float16 where that loses nothing and used as float32, changed in place."""
    for path, value in model.state_dict().items():
        if value.is_floating_point() and torch.equal(value.half().float(), value.float()):
            owner, _, name = path.rpartition(".")
            module = model.get_submodule(owner)
            getattr(module, name).data = value.half()
            parametrize.register_parametrization(module, name, _Float(), unsafe=True)
    return model


def export_onnx(model: BAR, folder: str | Path) -> Path:
    """Write a BAR with released weights in `folder` as <folder>/model.onnx and note of what in config.json.

    The graph takes images [B, 3, I, I] float32 in 0..1 and gives age [B], log_probs [B, n_ages], embedding [B, E].
    """
    folder = Path(folder)
    size = model.config.input_size
    names = ["images", "age", "log_probs", "embedding"]
    model = copy.deepcopy(model).cpu().eval()
    for network in [module for module in model.modules() if isinstance(module, MobileFaceNet)]:
        made_for_onnx(network)
    model = _half_stored(model)
    with warnings.catch_warnings(), writing(folder), replacing(folder / ONNX_FILE) as whole:
        warnings.simplefilter("ignore")  # the exporter warns of its own successor
        torch.onnx.export(
            model, (torch.rand(2, 3, size, size),), whole, dynamo=False,
            do_constant_folding=False,
            input_names=names[:1], output_names=names[1:], dynamic_axes={name: {0: "B"} for name in names},
            opset_version=17, training=torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
        describe(whole, model.config)
    return _note(folder, ONNX_FILE)


def describe(path: Path, config: BARConfig) -> None:
    """Write into a graph what who runs it without this code has to know: which crop it takes, and what it gives."""
    import onnx

    graph = onnx.load(path)
    onnx.helper.set_model_props(graph, {
        "images": f"[B, 3, {config.input_size}, {config.input_size}] float32, RGB, 0..1, an aligned face",
        "alignment": f"eyes, nose, mouth corners at {TEMPLATE} in a crop of {TEMPLATE_SIZE} px, scaled to its side",
        "crop_fraction": str(config.crop_fraction), "crop_rise": str(config.crop_rise),
        "crop_size": str(config.crop_size), "input_size": str(config.input_size),
        "ages": f"{config.min_age}..{config.max_age}", "decode": config.decode, "mirror": str(config.mirror).lower(),
        "age": "[B] float32, years", "log_probs": "[B, ages] float32",
    })  # fmt: skip
    onnx.save(graph, path)


def _note(folder: Path, file: str) -> Path:
    """Note in config.json which weights a graph was made of; returns where the graph is."""
    settings = json.loads((folder / CONFIG_FILE).read_text()) | {MADE_OF[file]: fingerprint(folder)}
    with writing(folder):
        write_whole(folder / CONFIG_FILE, json.dumps(settings, indent=1) + "\n")
    vouch(folder, file)
    return folder / file


def export_fast(folder: str | Path, images: Tensor) -> Path:
    """Write <folder>/model_int8.onnx: the graph model.onnx with its backbone in INT8.

    `images` [N, 3, I, I] float32 in 0..1 are faces as the base sees them; what the layers say of them decides which
    range of numbers the 8 bits stand for.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folder = Path(folder)
    with tempfile.TemporaryDirectory() as work:
        prepared = Path(work) / "prepared.onnx"
        quant_pre_process(folder / ONNX_FILE, prepared, skip_symbolic_shape=True)
        nodes = onnx.load(prepared).graph.node
        last = max(number for number, node in enumerate(nodes) if node.op_type == "Conv")
        with (
            writing(folder),
            replacing(folder / FAST_FILE) as whole,
            contextlib.redirect_stdout(None),
        ):  # it reports every batch
            quantize_static(
                prepared, whole, _Calibration(images), op_types_to_quantize=["Conv", "Add", "Relu"],
                nodes_to_exclude=[node.name for node in nodes[last + 1 :]], per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": OUTLIERS, "CalibStridedMinMax": 1},
                reduce_range=True,  # 7 bits of weight: sums of 8 overflow on processors without VNNI, in silence
            )  # fmt: skip
            describe(whole, read_config(folder))
    return _note(folder, FAST_FILE)


class _Calibration:
    """Hands images to onnxruntime's calibration, batch by batch, so that no more is kept than one batch puts out."""

    def __init__(self, images: Tensor):
        self.batches = images.split(16)
        self.numbers = iter(range(len(self.batches)))

    def __len__(self) -> int:
        return len(self.batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.numbers = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, np.ndarray] | None:
        number = next(self.numbers, None)
        return None if number is None else {"images": self.batches[number].contiguous().numpy()}
