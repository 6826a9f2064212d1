"""Writing a pooled difference head as an ONNX graph."""

import copy
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from common.base.weight_files import CONFIG_FILE, fingerprint, vouch, writing
from common.difference.heads import PooledDifferenceHead, Query, References
from common.difference.onnx_head import HEAD_FILE, HEAD_OF, INPUTS, OUTPUTS
from common.files import replacing, write_whole


class _Flat(nn.Module):
    """A head that takes the parts of query and references one by one."""

    def __init__(self, head: PooledDifferenceHead):
        super().__init__()
        self.head = head

    def forward(self, embedding: Tensor, estimate: Tensor, *references: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.head(Query(embedding, estimate), References(*references)))


def export_head(head: PooledDifferenceHead, folder: Path) -> Path | None:
    """Write <folder>/head.onnx beside the weights of a head and note of which; None for fc, whose width is fixed."""
    if head.config.aggregation == "fc":
        return None
    size, batch, count = head.config.embedding_size, 3, 4
    ages = 20 + 40 * torch.rand(batch, count)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [False] * 4])
    query = Query(torch.randn(batch, size), 20 + 40 * torch.rand(batch))
    given = References(torch.randn(batch, count, size), ages, ages + 1, ages > 40, mask)
    axes = {name: {0: "B"} for name in (*INPUTS, *OUTPUTS)}
    for name in (*INPUTS[2:], "weight"):
        axes[name][1] = "R"
    with warnings.catch_warnings(), writing(folder), replacing(folder / HEAD_FILE) as whole:
        warnings.simplefilter("ignore")  # the exporter warns of its own successor
        torch.onnx.export(
            _Flat(copy.deepcopy(head).cpu().eval()), (*query, *given), whole, dynamo=False,
            input_names=list(INPUTS), output_names=list(OUTPUTS), dynamic_axes=axes, opset_version=17,
        )  # fmt: skip
    settings = json.loads((folder / CONFIG_FILE).read_text()) | {HEAD_OF: fingerprint(folder)}
    with writing(folder):
        write_whole(folder / CONFIG_FILE, json.dumps(settings, indent=1) + "\n")
    vouch(folder, HEAD_FILE)
    return folder / HEAD_FILE
