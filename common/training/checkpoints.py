"""Training states (torch, weights only), written whole or not at all."""

from pathlib import Path
from typing import Any

import torch

from common.errors import WeightsError
from common.files import WEIGHTS as WEIGHTS
from common.files import replacing


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training state so that a kill at any moment leaves either the old or the new file.

    Raises WeightsError if that place cannot be written.
    """
    try:
        with replacing(path) as whole:
            torch.save(state, whole)
    except (OSError, RuntimeError) as error:  # a full disk is a RuntimeError here
        reason = str(error).splitlines()[0]
        raise WeightsError(f"The checkpoint {path} cannot be written ({reason}); is the disk full?") from None


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a training state on the CPU; raises WeightsError if there is none or it is no checkpoint."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"There is no checkpoint at {path}; check --resume.") from None
    except Exception as error:  # torch raises pickle, zip and runtime errors for a file that is none of its own
        raise WeightsError(f"{path} is no checkpoint ({type(error).__name__}).") from None
