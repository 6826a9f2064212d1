"""Some faces of a prepared folder as a prepared folder of their own, by what its manifest says of them.

    python scripts/select_faces.py --data data/prepared/utkface --without group=asian --out data/prepared/without_asian
    python scripts/select_faces.py --data data/prepared/utkface --only group=asian split=val,calib --out data/asian

--only keeps the faces of which every condition holds, --without then leaves out those of which any does. Splits stay
what they were, so nothing moves from training to test.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.manifest import COLUMNS, load_prepared, write_crops, write_index
from common.errors import DataError, UserError
from common.inference.options import AlsoPositional

Condition = tuple[str, list[str]]


def condition(text: str) -> Condition:
    """Column and values of COLUMN=VALUE[,VALUE]."""
    column, _, values = text.partition("=")
    if column not in COLUMNS or not values:
        raise argparse.ArgumentTypeError(f"must be COLUMN=VALUE[,VALUE] with a column of the manifest, not {text}")
    return column, values.split(",")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", dest="folder", type=Path, metavar="DIR", help="prepared folder")
    add("folder", nargs="?", type=Path, action=AlsoPositional, help=argparse.SUPPRESS)
    add("--only", nargs="+", type=condition, default=[], metavar="C=V", help="keep faces of which all of these hold")
    add("--without", nargs="+", type=condition, default=[], metavar="C=V", help="leave out those of which one holds")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write, new or empty")
    arguments = parser.parse_args(argv)
    if arguments.folder is None:
        parser.error("give a prepared folder with --data DIR")
    return arguments


def chosen(manifest: pd.DataFrame, only: list[Condition], without: list[Condition]) -> np.ndarray:
    """Row numbers [M] of the faces wanted; raises DataError for a value that no face has."""

    def holds(column: str, values: list[str]) -> np.ndarray:
        known = manifest[column].astype(str)
        missing = sorted(set(values) - set(known))
        if missing:
            several = ", ".join(sorted(set(known))[:10])
            raise DataError(f"No face has {column} '{missing[0]}'; there are {several}.")
        return known.isin(values).to_numpy()

    keep = np.ones(len(manifest), bool)
    for column, values in only:
        keep &= holds(column, values)
    for column, values in without:
        keep &= ~holds(column, values)
    if not keep.any():
        raise DataError("No face is left; check --only and --without.")
    return np.flatnonzero(keep)


def select(arguments: argparse.Namespace) -> int:
    """Write the chosen faces; returns how many; raises DataError."""
    prepared, out = load_prepared(arguments.folder), arguments.out
    if out.is_dir() and any(out.iterdir()):
        raise DataError(f"{out} is not empty; give a new folder to --out.")
    rows = chosen(prepared.manifest, arguments.only, arguments.without)
    out.mkdir(parents=True, exist_ok=True)
    write_crops(out / "crops.npy", prepared.crops, rows)
    prepared.manifest.iloc[rows].to_csv(out / "manifest.csv", index=False)
    write_index(out, prepared.manifest["id"].iloc[rows])
    settings = json.loads((arguments.folder / "prepared.json").read_text())
    conditions = {name: dict(getattr(arguments, name)) for name in ("only", "without")}
    (out / "prepared.json").write_text(json.dumps(settings | {"name": out.name, "selected": conditions}, indent=1))
    return len(rows)


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    arguments = parse_arguments(argv)
    try:
        count = select(arguments)
    except UserError as error:
        print(f"select_faces: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.out}: {count} faces")
    return 0


if __name__ == "__main__":
    sys.exit(main())
