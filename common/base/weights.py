"""Released weights: safetensors and config.json."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from common.base.config import read_config
from common.base.model import BAR, BARConfig
from common.base.weight_files import CONFIG_FILE, MODEL_FILE, shapes_in, verified, vouch, writing
from common.base.weight_files import fingerprint as fingerprint
from common.base.weight_files import require as require
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


def load_into(make: Callable[[], nn.Module], path: Path, kind: str) -> nn.Module:
    """The module that `make` makes, with the tensors of a verified safetensors file as float32.

    Names and shapes are compared before any memory is taken for either. Raises WeightsError if they do not fit, or if
    a number is not finite.
    """
    data = verified(path)
    try:
        with torch.device("meta"):
            wanted = {name: tuple(value.shape) for name, value in make().state_dict().items()}
        stored = shapes_in(data)
        if stored != wanted:
            name = next(iter(sorted(set(stored.items()) ^ set(wanted.items()))))[0]
            raise RuntimeError(f"{name} is {stored.get(name, 'missing')}, should be {wanted.get(name, 'absent')}")
        tensors: dict[str, Tensor] = {name: value.float() for name, value in load(data).items()}
        module = make()
        module.load_state_dict(tensors)
    except WeightsError:
        raise
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, MemoryError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} does not hold {kind} that fits its {CONFIG_FILE} ({reason}).") from None
    if not all(value.isfinite().all() for value in module.state_dict().values()):
        raise WeightsError(f"{path} holds numbers that are not finite; get the weights again.")
    return module


def load_bar(folder: str | Path, device: str | torch.device = "cpu") -> BAR:
    """Load a BAR written by `save_bar`, in evaluation mode and float32; raises WeightsError if it is unusable."""
    folder = Path(folder)
    require(folder, (MODEL_FILE, CONFIG_FILE), "released")
    config = read_config(folder)
    model = load_into(lambda: BAR(config), folder / MODEL_FILE, "a base regressor")
    return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # torch's stubs lack it


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
