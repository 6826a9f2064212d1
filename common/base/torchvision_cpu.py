"""Make `import torchvision` work beside a CPU-only torch.

The torchvision wheel on PyPI is compiled for CUDA. Beside a CPU build of torch its operator library cannot be
loaded, and the import then fails with "operator torchvision::nms does not exist". Its models and transforms
do not need these operators, only their declarations.
"""

import importlib.util
from pathlib import Path

import torch

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")


def operators_load() -> bool:
    """Say whether torchvision's compiled operators load beside the installed torch (without importing it)."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for library in sorted(Path(spec.origin).parent.glob("_C*")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            return False
    return all(hasattr(torch.ops.torchvision, name) for name in OPERATORS)


def allow_torchvision_import() -> list[str]:
    """Declare torchvision's missing operators; call it before the first import of torchvision or timm.

    Returns
    -------
    names of the operators declared by this call: empty on a CUDA build of torch, beside a torchvision whose
    own operators load, and on a second call.
    """
    if torch.version.cuda is not None or operators_load():
        return []
    missing = [name for name in OPERATORS if not hasattr(torch.ops.torchvision, name)]
    for name in missing:
        torch.library.define(f"torchvision::{name}", SCHEMA)
    return missing
