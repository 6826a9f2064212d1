"""A pooled difference head as an ONNX graph, run on a CPU without torch."""

from pathlib import Path
from typing import Any

import numpy as np

from common.base.onnx import default_threads
from common.base.weight_files import MODEL_FILE, check_graph, fingerprint, read_settings, verified
from common.difference.parts import DifferenceOutput, HeadConfig, Query, References
from common.errors import WeightsError

HEAD_FILE = "head.onnx"
HEAD_OF = "head_onnx_of"  # key of config.json: of which weights the graph was made
ENDS = {  # axes of what the graph takes and gives
    "query": 2, "estimate": 1, "references": 3, "reference_age": 2, "reference_estimate": 2, "seen": 2, "mask": 2,
    "levels": 2, "difference": 1, "weight": 2, "age": 1, "probabilities": 2,
}  # fmt: skip
INPUTS, OUTPUTS = tuple(ENDS)[:7], tuple(ENDS)[7:]


class OnnxHead:
    """The graph of a head; `config` is the one it was made from. Raises WeightsError unless it fits."""

    def __init__(self, folder: Path, config: HeadConfig, threads: int | None = None):
        import onnxruntime

        self.config = config
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or default_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        graph = verified(folder / HEAD_FILE)
        check_graph(graph, folder / HEAD_FILE, ENDS)
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        size, nothing = config.embedding_size, np.zeros((1, 1), np.float32)
        blank = References(np.zeros((1, 1, size), np.float32), nothing, nothing, nothing > 0, nothing > 0)
        output = self(Query(np.zeros((1, size), np.float32), np.zeros(1, np.float32)), blank)
        if output.levels.shape != (1, 2 * config.level_radius):
            raise WeightsError(f"{folder / HEAD_FILE} does not fit the config.json beside it.")

    def __call__(self, query: Query, references: References) -> DifferenceOutput:
        """What the head predicts of queries [B] with references [B, R], all arrays; see DifferenceOutput."""
        count = references.mask.shape[1]
        if not count:  # a graph needs one, and it may be masked
            references = References(*(np.zeros((len(part), 1, *part.shape[2:]), part.dtype) for part in references))
        output = DifferenceOutput(*self.session.run(None, dict(zip(INPUTS, (*query, *references), strict=True))))
        return output if count else output._replace(weight=output.weight[:, :0])


def load_graph_head(folder: Path, settings: dict[str, Any], threads: int | None = None) -> OnnxHead | None:
    """The graph beside a head's weights, None where there is none; raises WeightsError if it is of other weights."""
    if not (folder / HEAD_FILE).is_file():
        return None
    verified(folder / MODEL_FILE)
    if read_settings(folder).get(HEAD_OF) != fingerprint(folder):
        raise WeightsError(f"{folder / HEAD_FILE} was not made of the weights beside it; run scripts/export_onnx.py.")
    try:
        return OnnxHead(folder, HeadConfig(**settings), threads)
    except WeightsError:
        raise
    except Exception as error:  # onnxruntime raises classes of its own
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{folder / HEAD_FILE} cannot be loaded ({reason}); run scripts/export_onnx.py.") from None
