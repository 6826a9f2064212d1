"""The base regressor as an ONNX graph: on a CPU, ONNX Runtime is two to three times as fast as torch."""

import copy
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from common.bar import BAR, BAROutput
from common.checkpoints import CONFIG_FILE, fingerprint
from common.errors import WeightsError

ONNX_FILE, MADE_OF = "model.onnx", "onnx_of"


class _Float(nn.Module):
    def forward(self, stored: Tensor) -> Tensor:
        return stored.float()


def _half_stored(model: BAR) -> BAR:
    """A copy of a BAR on the CPU, in evaluation mode, that keeps its state as float16 and uses it as float32."""
    model = copy.deepcopy(model).cpu().eval()
    for path, value in model.state_dict().items():
        if value.is_floating_point():
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own successor
        torch.onnx.export(
            _half_stored(model), (torch.rand(2, 3, size, size),), folder / ONNX_FILE, dynamo=False,
            do_constant_folding=False,
            input_names=names[:1], output_names=names[1:], dynamic_axes={name: {0: "B"} for name in names},
            opset_version=17, training=torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    settings = json.loads((folder / CONFIG_FILE).read_text()) | {MADE_OF: fingerprint(folder)}
    (folder / CONFIG_FILE).write_text(json.dumps(settings, indent=1) + "\n")
    return folder / ONNX_FILE


class OnnxBase:
    """Stands in for a BAR in evaluation on a CPU; `config` is that of the BAR."""

    def __init__(self, folder: Path, model: BAR):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(folder / ONNX_FILE, options, providers=["CPUExecutionProvider"])
        self.config = model.config

    def __call__(self, images: Tensor) -> BAROutput:
        """What the BAR says of images [B, 3, I, I] float32 in 0..1."""
        return BAROutput(*map(torch.from_numpy, self.session.run(None, {"images": images.contiguous().numpy()})))


def load_onnx(folder: str | Path, model: BAR) -> OnnxBase | None:
    """The graph beside released weights, or None where there is none; raises WeightsError if it is of other weights."""
    folder = Path(folder)
    if not (folder / ONNX_FILE).is_file():
        return None
    if json.loads((folder / CONFIG_FILE).read_text()).get(MADE_OF) != fingerprint(folder):
        raise WeightsError(
            f"{folder / ONNX_FILE} was not made of the weights beside it; run scripts/export_onnx.py, or delete it."
        )
    return OnnxBase(folder, model)
