"""Run folders: runs/<pipeline>/<time>/ with the config and the data that a training run was started with."""

import json
import math
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from common.base.weights import settings_of
from common.errors import DataError, UserError
from common.files import REPOSITORY, write_whole
from common.training.config import Config, read_config


def new_run(config: Any, pipeline: str, folders: list[str]) -> Path:
    """Make <runs>/<pipeline>/<time>/ with config.json and data.json; `config.runs` empty means runs/ here.

    Raises DataError, leaving no folder of the run, if that place cannot be written.
    """
    root = Path(config.runs) if config.runs else REPOSITORY / "runs"
    folder = root / pipeline / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
    try:
        folder.mkdir(parents=True)
        write_whole(folder / "config.json", json.dumps(settings_of(config), indent=1))
        write_whole(folder / "data.json", json.dumps([str(Path(name).resolve()) for name in folders], indent=1))
    except OSError as error:
        discard_unused(folder)
        raise DataError(f"The run folder {folder} cannot be written ({error.strerror}); give another --runs.") from None
    return folder


def sentence_of(error: UserError | OSError) -> str:
    """What a training says of the error that ended it, such as a disk that is full."""
    if isinstance(error, UserError):
        return str(error)
    place = f"{error.filename} cannot be read or written" if error.filename else "A file cannot be read or written"
    return f"{place} ({error.strerror or error}); the last saved state of the run is whole."


def check_finite(value: float, what: str, epoch: int) -> float:
    """The value; raises DataError, which ends a training, if a loss, gradient or error (`what`) is no finite number.

    `epoch` counts from 1.
    """
    if not math.isfinite(value):
        raise DataError(
            f"The {what} of epoch {epoch} is not finite ({value}); the best weights and the last good state "
            "stay in the run folder. Train with a lower --learning-rate."
        )
    return value


def discard_unused(folder: Path | None) -> None:
    """Remove the folder of a run that never began: all it holds is what `new_run` wrote."""
    if folder and folder.is_dir() and {path.name for path in folder.iterdir()} <= {"config.json", "data.json"}:
        shutil.rmtree(folder)


def beside(entry: str, name: str) -> str:
    """How the script `name` in the folder of the file `entry` is called from the current folder."""
    return os.path.relpath(Path(entry).resolve().with_name(name))


def open_run(kind: type[Config], folder: Path) -> tuple[Config, list[str]]:
    """Config (of dataclass `kind`) and data folders of a run; raises DataError if it is none of this kind."""
    try:
        return read_config(kind, folder / "config.json"), json.loads((folder / "data.json").read_text())
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder} is no run folder that can be resumed ({error}).") from None
