"""Released weights: safetensors and config.json."""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from common.base.model import BAR, BARConfig
from common.base.weight_files import CONFIG_FILE, MODEL_FILE, load_into, read_settings, vouch, writing
from common.errors import WeightsError
from common.files import REPOSITORY, replacing, write_whole
from common.files import WEIGHTS as WEIGHTS


def save_bar(model: BAR, folder: str | Path, notes: dict[str, Any]) -> Path:
    """Write a BAR as float16 safetensors beside a config.json {"model": BARConfig, **notes}; returns the folder."""
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in model.state_dict().items()
    }
    write_tensors(tensors, folder / MODEL_FILE)
    own = {field.name: getattr(model.config, field.name) for field in fields(BARConfig)}
    with writing(folder):
        write_whole(folder / CONFIG_FILE, json.dumps({"model": own, **notes}, indent=1) + "\n")
    vouch(folder)
    return folder


def write_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file, an older one staying whole until then; raises WeightsError if it cannot be written."""
    try:
        with replacing(path) as whole:
            save_file(tensors, whole)
    except (OSError, SafetensorError) as error:  # a full disk is a SafetensorError here
        raise WeightsError(f"The weights {path} cannot be written ({error}); is the disk full?") from None


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


def load_bar(folder: str | Path, device: str | torch.device = "cpu") -> BAR:
    """Load a BAR written by `save_bar`, in evaluation mode and float32; raises WeightsError if it is unusable."""
    folder = Path(folder)
    require(folder, (MODEL_FILE, CONFIG_FILE), "released")
    try:
        config = BARConfig(**read_settings(folder)["model"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{folder / CONFIG_FILE} does not describe a base regressor ({error}).") from None
    model = load_into(lambda: BAR(config), folder / MODEL_FILE, "a base regressor")
    return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # torch's stubs lack it


def fingerprint(folder: str | Path) -> str:
    """SHA-1 of a released model file: what a reference bank is tied to."""
    return hashlib.sha1((Path(folder) / MODEL_FILE).read_bytes()).hexdigest()


def trained_on(folder: str | Path) -> list[str] | None:
    """Names of the prepared folders that released base weights were trained on; None if they do not say."""
    return json.loads((Path(folder) / CONFIG_FILE).read_text()).get("data")


def git_commit() -> str:
    """Commit of this checkout ('' outside git), with '+' if files differ from it."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def settings_of(config: Any) -> dict[str, Any]:
    """A config dataclass as plain JSON values."""
    return json.loads(json.dumps(asdict(config), default=str))
