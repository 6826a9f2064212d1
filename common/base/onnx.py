"""A base regressor as an ONNX graph, run on a CPU without torch: two to three times as fast as torch.

A second graph computes in INT8: nearly twice as fast again, and not quite the same ages.
"""

import os
from pathlib import Path

import numpy as np

from common.base.config import BARConfig
from common.base.prediction import AgePrediction
from common.base.weight_files import check_graph, fingerprint, read_settings, verified
from common.errors import WeightsError

ONNX_FILE, FAST_FILE = "model.onnx", "model_int8.onnx"
MADE_OF = {ONNX_FILE: "onnx_of", FAST_FILE: "onnx_int8_reduced_of"}  # keys of config.json: of which weights
CHUNK = 8  # images in one run: what one layer hands to the next then stays in the cache


class OnnxBase:
    """The graph of a base regressor; raises WeightsError unless it is what its folder says."""

    def __init__(self, folder: Path, config: BARConfig, file: str = ONNX_FILE, threads: int | None = None):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or default_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # NumPy works in between
        graph = verified(folder / file)
        check_graph(graph, folder / file)
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        shapes = [array.shape for array in self(np.zeros((1, 3, config.input_size, config.input_size), np.float32))]
        if shapes != [(1,), (1, config.max_age - config.min_age + 1), (1, config.embedding_size)]:
            raise WeightsError(f"{folder / file} does not fit the config.json beside it; run scripts/export_onnx.py.")

    def __call__(self, images: np.ndarray) -> AgePrediction:
        """What the base predicts of images [B, 3, I, I] float32 in 0..1."""
        starts = range(0, len(images), CHUNK)
        parts = [
            self.session.run(None, {"images": np.ascontiguousarray(images[start : start + CHUNK])}) for start in starts
        ]
        return AgePrediction(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def default_threads() -> int:
    """As many threads as OMP_NUM_THREADS says, or as there are cores for this process."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(said) if said.isdecimal() and int(said) else cores


def load_onnx(
    folder: str | Path, config: BARConfig, file: str = ONNX_FILE, threads: int | None = None
) -> OnnxBase | None:
    """The graph beside released weights, or None where there is none; raises WeightsError if it is of other weights."""
    folder = Path(folder)
    if not (folder / file).is_file():
        return None
    if read_settings(folder).get(MADE_OF[file]) != fingerprint(folder):
        raise WeightsError(
            f"{folder / file} was not made of the weights beside it; run scripts/export_onnx.py, or delete it."
        )
    try:
        return OnnxBase(folder, config, file, threads)
    except WeightsError:
        raise
    except Exception as error:  # onnxruntime raises classes of its own
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{folder / file} cannot be loaded ({reason}); run scripts/export_onnx.py.") from None
