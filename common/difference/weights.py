"""Released weights of a difference pipeline: head (safetensors), settings, bank, and which base they are for."""

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from common.base.regressor import RELEASED as BASE_RELEASED
from common.base.regressor import AgePredictBasicPipeline
from common.base.weight_files import (
    BANK,
    BANK_FILE,
    CONFIG_FILE,
    MODEL_FILE,
    folder_name,
    read_settings,
    require,
    stored_at,
    verified,
    vouch,
    writing,
)
from common.difference.bank import ReferenceBank, load_bank
from common.errors import WeightsError
from common.files import WEIGHTS, write_whole

if TYPE_CHECKING:
    from torch import nn

OWN_BASE = "base"


class FolderOfWeights(NamedTuple):
    """What a folder of weights holds beside its head, whose settings these are; window, per_bin: of retrieval."""

    folder: Path
    pipeline: AgePredictBasicPipeline
    bank: ReferenceBank
    window: float
    per_bin: int
    settings: dict[str, Any]


class DifferenceWeights(NamedTuple):
    """What a folder of weights holds: base pipeline, head in evaluation mode, bank; window, per_bin: of retrieval."""

    pipeline: AgePredictBasicPipeline
    head: "nn.Module"
    bank: ReferenceBank
    window: float
    per_bin: int


def save_difference(folder: Path, head: "nn.Module", bank: ReferenceBank, base: Path, notes: dict[str, Any]) -> Path:
    """Write head (float16), bank and config.json; a base that is not one of weights/ is copied into <folder>/base.

    `head.config` is the dataclass the head was made from; `notes["training"]` are the settings of the training.
    """
    from common.base.weights import write_tensors

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.half().cpu().contiguous() for name, value in head.state_dict().items()}
    write_tensors(tensors, folder / MODEL_FILE)
    bank.save(folder / BANK_FILE)
    config: Any = head.config
    own = {field.name: getattr(config, field.name) for field in fields(config)}
    released = base.resolve().parent == WEIGHTS.resolve()
    name = {"base": base.resolve().name} if released else {}
    document = {"head": own, **name, "base_fingerprint": bank.fingerprint, **notes}
    with writing(folder):
        write_whole(folder / CONFIG_FILE, json.dumps(document, indent=1) + "\n")
        vouch(folder)
        if not released and base.resolve() != (folder / OWN_BASE).resolve():
            shutil.copytree(base, folder / OWN_BASE, dirs_exist_ok=True)
    return folder


def base_of(folder: Path) -> Path:
    """Where the base of a difference regressor is: in its folder, or the one of weights/ that its config.json names.

    Older files name none: theirs is AgeRegBaseline. Raises WeightsError for a file that is none.
    """
    if (folder / OWN_BASE).is_dir():
        return folder / OWN_BASE
    return WEIGHTS / folder_name(read_settings(folder).get("base", BASE_RELEASED.name))


def share_bank(folder: Path) -> None:
    """Leave the bank of released weights to another folder of weights/ that has the same one, and name that folder.

    Does nothing if there is none. Its hash stays in config.json. Raises WeightsError if that cannot be written.
    """
    own = folder / BANK_FILE
    for other in sorted(WEIGHTS.glob(f"*/{BANK_FILE}")) if own.is_file() else ():
        if other.parent.resolve() != folder.resolve() and other.read_bytes() == own.read_bytes():
            with writing(folder):
                settings = read_settings(folder) | {BANK: other.parent.name}
                write_whole(folder / CONFIG_FILE, json.dumps(settings, indent=1) + "\n")
                own.unlink()
            return


def load_weights(
    folder: str | Path, pipeline_name: str, device: str = "auto", threads: int | None = None
) -> FolderOfWeights:
    """All of what `save_difference` wrote but the head; raises WeightsError.

    The base (see `base_of`) must be the one the bank was made with; the bank may be in another folder (`stored_at`).
    """
    folder = Path(folder)
    require(folder, (MODEL_FILE, CONFIG_FILE), pipeline_name)
    if "model" in read_settings(folder):
        raise WeightsError(f"{folder} holds a base regressor alone: estimate with AgeRegBaseline__infer2.py.")
    stored = stored_at(folder, BANK_FILE)
    require(stored.parent, (BANK_FILE,), pipeline_name)
    pipeline = AgePredictBasicPipeline.from_weights(base_of(folder), device, threads)
    verified(folder / BANK_FILE)
    bank = load_bank(stored, pipeline.fingerprint)
    settings = read_settings(folder)
    try:
        window, how = float(settings["training"]["reference_window"]), dict(settings["head"])
        per_bin = int(settings["training"].get("per_bin", 0))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder} does not hold a difference regressor that fits its config ({error}).") from None
    return FolderOfWeights(folder, pipeline, bank, window, per_bin, how)


def load_head(loaded: FolderOfWeights, make_head: "Callable[[dict[str, Any]], nn.Module]") -> "nn.Module":
    """The head of a folder of weights in torch; `make_head` makes one from the stored settings; raises WeightsError."""
    from common.base.weights import load_into

    head = load_into(lambda: make_head(loaded.settings), loaded.folder / MODEL_FILE, "a difference regressor")
    return head.to(loaded.pipeline.device).eval()


def load_difference(
    folder: str | Path, pipeline_name: str, make_head: "Callable[[dict[str, Any]], nn.Module]", device: str = "auto"
) -> DifferenceWeights:
    """What `save_difference` wrote, the head in torch; see `load_weights` and `load_head`; raises WeightsError."""
    loaded = load_weights(folder, pipeline_name, device)
    return DifferenceWeights(loaded.pipeline, load_head(loaded, make_head), loaded.bank, loaded.window, loaded.per_bin)
