"""Run folders: runs/<pipeline>/<time>/ with the config and the data that a training run was started with."""

import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from common.checkpoints import REPOSITORY, settings_of
from common.config import read_config
from common.errors import DataError
from common.files import write_whole

Config = TypeVar("Config")


def new_run(config: Any, pipeline: str, folders: list[str]) -> Path:
    """Make <runs>/<pipeline>/<time>/ with config.json and data.json; `config.runs` empty means runs/ here."""
    root = Path(config.runs) if config.runs else REPOSITORY / "runs"
    folder = root / pipeline / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
    folder.mkdir(parents=True)
    write_whole(folder / "config.json", json.dumps(settings_of(config), indent=1))
    write_whole(folder / "data.json", json.dumps([str(Path(name).resolve()) for name in folders], indent=1))
    return folder


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
