"""Train the base regressor.

python AgeRegBaseline__main.py                                    # on drawn faces, no download
python AgeRegBaseline__main.py --data data/prepared/utkface --epochs 8
python AgeRegBaseline__main.py --resume runs/AgeRegBaseline/2026-11-23_17-00-00
"""

import json
import sys
from datetime import datetime
from pathlib import Path

from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig, parse_arguments
from AgeRegBaseline.AgeRegBaseline__train import fit, start_run
from common.checkpoints import REPOSITORY, settings_of
from common.config import read_config
from common.errors import DataError, UserError
from scripts.prepare_data import main as prepare_data

SYNTHETIC = REPOSITORY / "data" / "prepared" / "synthetic"


def new_run(config: AgeRegBaselineConfig, folders: list[str]) -> Path:
    """Make runs/AgeRegBaseline/<timestamp>/ with its config.json and data.json."""
    root = Path(config.runs) if config.runs else REPOSITORY / "runs"
    folder = root / "AgeRegBaseline" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings_of(config), indent=1))
    (folder / "data.json").write_text(json.dumps([str(Path(name).resolve()) for name in folders], indent=1))
    return folder


def open_run(folder: Path) -> tuple[AgeRegBaselineConfig, list[str]]:
    """Config and data of a run folder; raises DataError if it is none."""
    try:
        return read_config(AgeRegBaselineConfig, folder / "config.json"), json.loads((folder / "data.json").read_text())
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder} is no run folder that can be resumed ({error}).") from None


def synthetic_data() -> list[str]:
    """Prepare 2,000 drawn faces once; returns their folder."""
    print("No --data given: training on 2,000 drawn faces (see README to train on photos).")
    if prepare_data(["synthetic", "--count", "2000", "--out", str(SYNTHETIC)]):
        raise DataError(f"The drawn faces could not be prepared in {SYNTHETIC}.")
    return [str(SYNTHETIC)]


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done, 130 stopped by Ctrl-C."""
    config, options = parse_arguments(argv)
    folder = None
    try:
        if options.resume:
            folder = Path(options.resume)
            config, folders = open_run(folder)
        else:
            folders = options.data or synthetic_data()
            folder = new_run(config, folders)
        run = start_run(config, folders, folder, resume=bool(options.resume))
        print(f"{len(run.faces)} faces to train on, {len(run.validation)} to select by; run folder {folder}")
        weights = fit(run)
    except UserError as error:
        print(f"AgeRegBaseline: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nStopped. Go on with: python AgeRegBaseline__main.py --resume {folder}", file=sys.stderr)
        return 130
    print(f"Best validation error {run.progress.best:.2f} years; weights in {weights}")
    print(f"Try them: python AgeRegBaseline__infer2.py PHOTO --weights {weights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
