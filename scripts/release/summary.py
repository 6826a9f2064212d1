"""The tables of README.md and of the model cards, from what lies in weights/: nothing is estimated.

    python scripts/release/summary.py
    python scripts/release/summary.py --groups weights/DiffPipeline6/predictions/utkface_test.csv.gz

The first line prints the error of each way to an age on each test set; the second the error by group and gender, then
also by decade of true age. Exit status: 0 done, 2 a file is missing.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.predictions import read_predictions
from common.errors import DataError, UserError
from common.evaluation.metrics import estimated
from common.evaluation.tables import DASH, markdown
from common.files import WEIGHTS

SETS = {  # test set: heading
    "utkface_test": "UTKFace test",
    "publicfigures_test": "public figures",
    "fgnet_dev": "FG-NET",
    "photos": "portraits",
}
WAYS = {  # folder of weights/: what it is in the table
    "AgeRegBaseline": "base",
    "DiffPipeline6": "base + training references (default)",
    "AgeRegBaseline-large": "base, `-large`",
    "DiffPipeline6-large": "base + training references, `-large`",
}
OWN = {  # variant of scripts/evaluate_references.py: what it is in the table
    "domain bank": "default + other people's dated photos of the kind",
    "domain + personal bank": "default + the person's own dated photos too",
}
ALBUM = "album, all ages: album"  # row of AlbumPipeline__infer.py
FEWEST = 5  # faces of a cell


def exact_errors(path: Path) -> pd.DataFrame:
    """Rows of a predictions table with an exact label and a finite age, with `error` = age - true age (years)."""
    table = read_predictions(path)
    exact = table["true_age_min"].notna() & (table["true_age_min"] == table["true_age_max"])
    good = table[exact & estimated(table)].copy()
    good["error"] = good["age"].astype(float) - good["true_age_min"].astype(float)
    return good


def way_row(folder: str, name: str) -> list[str]:
    """Name, MAE on each of SETS and milliseconds per crop of released weights; a dash where nothing is stored."""
    cells = [name]
    for key in SETS:
        path = WEIGHTS / folder / "predictions" / f"{key}.csv.gz"
        cells.append(f"{exact_errors(path)['error'].abs().mean():.2f}" if path.is_file() else DASH)
    metrics = WEIGHTS / folder / "metrics.json"
    speed = json.loads(metrics.read_text()).get("speed", {}) if metrics.is_file() else {}
    return [*cells, str(speed.get("ms_per_crop_one_core", DASH))]


def fgnet_row(name: str, error: float) -> list[str]:
    """A row that is measured on FG-NET alone."""
    return [name, *(f"{error:.2f}" if key == "fgnet_dev" else DASH for key in SETS), DASH]


def ways() -> list[str]:
    """Markdown table of the MAE (years) of each way to an age; raises DataError if a file is missing."""
    own_file = WEIGHTS / "DiffPipeline6" / "references_fgnet_dev" / "predictions.csv"
    album_file = WEIGHTS / "AlbumPipeline" / "evaluation.csv"
    for path in (own_file, album_file):
        if not path.is_file():
            raise DataError(f"{path} is missing; scripts/release/train_release.py makes it.")
    rows = [way_row(folder, name) for folder, name in WAYS.items()]
    own = pd.read_csv(own_file)
    size = (own["age"] - own["true_age"]).abs().groupby(own["variant"]).mean()
    rows += [fgnet_row(name, size[variant]) for variant, name in OWN.items()]
    album = pd.read_csv(album_file).set_index("what")
    rows.append(fgnet_row("album of dated photos, birth years unknown", float(album.loc[ALBUM, "album"])))
    faces = {key: len(exact_errors(WEIGHTS / "AgeRegBaseline" / "predictions" / f"{key}.csv.gz"))
             for key in SETS if (WEIGHTS / "AgeRegBaseline" / "predictions" / f"{key}.csv.gz").is_file()}  # fmt: skip
    heads = [f"{name} ({faces.get(key, DASH)})" for key, name in SETS.items()]
    return markdown(["MAE in years (faces)", *heads, "ms per crop, one core"], rows)


def group_tables(path: Path) -> list[str]:
    """Markdown tables of a predictions table with groups and genders: MAE and bias of each, then MAE by decade."""
    table = exact_errors(path)
    table = table[(table["group"] != "") & (table["gender"] != "")]
    if table.empty:
        raise DataError(f"{path} names no group and gender of a face of exact age.")
    groups, genders = sorted(table["group"].unique()), sorted(table["gender"].unique())
    parts = {key: part for key, part in table.groupby(["group", "gender"])}
    rows = [[group, *(_cell(parts.get((group, gender)), True) for gender in genders)] for group in groups]
    rows.append(["all", *(_cell(table[table["gender"] == gender], True) for gender in genders)])
    decade = (table["true_age_min"] // 10 * 10).astype(int)
    by_decade = {key: part for key, part in table.groupby([decade, "group", "gender"])}
    columns = [(group, gender) for group in groups for gender in genders]
    decades = [
        [f"{start}–{start + 9}", *(_cell(by_decade.get((start, *key)), False) for key in columns)]
        for start in sorted(decade.unique())
    ]
    heads = [f"{group}, {gender}" for group, gender in columns]
    first = markdown(["MAE, bias in years (faces)", *genders], rows)
    return [*first, "", *markdown(["true age: MAE (faces)", *heads], decades)]


def _cell(part: pd.DataFrame | None, biased: bool) -> str:
    if part is None or len(part) < FEWEST:
        return DASH
    error = part["error"].to_numpy(float)
    bias = f", {round(error.mean(), 1) + 0.0:+.1f}" if biased else ""
    return f"{np.abs(error).mean():.1f}{bias} ({len(part)})"


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=Path, metavar="CSV", help="the tables by group of these predictions")
    arguments = parser.parse_args(argv)
    try:
        print("\n".join(group_tables(arguments.groups) if arguments.groups else ways()))
    except UserError as error:
        print(f"summary: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
