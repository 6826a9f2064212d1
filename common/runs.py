"""Run folders: runs/<pipeline>/<time>/ with the config and the data that a training run was started with."""

import json
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


def open_run(kind: type[Config], folder: Path) -> tuple[Config, list[str]]:
    """Config (of dataclass `kind`) and data folders of a run; raises DataError if it is none of this kind."""
    try:
        return read_config(kind, folder / "config.json"), json.loads((folder / "data.json").read_text())
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder} is no run folder that can be resumed ({error}).") from None
