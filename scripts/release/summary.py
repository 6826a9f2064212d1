"""The tables of README.md and of the model cards, from what lies in weights/: nothing is estimated.

    python scripts/release/summary.py
    python scripts/release/summary.py --groups weights/DiffPipeline6/predictions/utkface_test.csv.gz

The first line prints the error of each way to an age on each test set; the second the error by group and gender, then
also by decade of true age. Exit status: 0 done, 2 a file is missing.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.predictions import read_csv, read_predictions
from common.errors import DataError, UserError
from common.evaluation.metrics import estimated, paired_bootstrap
from common.evaluation.tables import DASH, markdown
from common.files import WEIGHTS
from common.inference.terminal import until_closed
from scripts.references.ladder import MODEL

SETS = {  # test set: heading
    "utkface_test": "UTKFace test",
    "publicfigures_test": "public figures",
    "fgnet_dev": "FG-NET",
    "photos": "portraits",
}
WAYS = {  # folder of weights/: what it is in the table
    "AgeRegBaseline": "base",
    "DiffPipeline6": "full (default)",
    "AgeRegBaseline-large": "base, `-large`",
    "DiffPipeline6-large": "full, `-large`",
}
CONTROL = "(a) no references"
CONTROLS = {"DiffPipeline6": "its control: no references"}
OWN_COUNTS = (1, 10)
OWN = {  # variant of scripts/evaluate_references.py: what it is in the table
    "domain bank": "base + other people's dated photos",
    "domain + personal bank": "base + those and the person's own",
}
ALBUM = {  # row of AlbumPipeline__infer.py: what it is in the table
    "album, all ages: album": "album: births, all photos dated",
    "half of the dates unknown: dates": "album: years of undated photos",
}
FEWEST = 5  # faces of a cell


def exact_errors(path: Path) -> pd.DataFrame:
    """Rows of a predictions table with an exact label and a finite age, with `error` = age - true age (years)."""
    table = read_predictions(path)
    exact = table["true_age_min"].notna() & (table["true_age_min"] == table["true_age_max"])
    good = table[exact & estimated(table)].copy()
    good["error"] = good["age"].astype(float) - good["true_age_min"].astype(float)
    return good


def way_row(folder: str, name: str) -> list[str]:
    """Name and MAE on each of SETS of released weights; a dash where nothing is stored.

    What corrects the base has the interval of its gain over it in brackets.
    """
    cells = [name]
    for key in SETS:
        path = WEIGHTS / folder / "predictions" / f"{key}.csv.gz"
        table = exact_errors(path) if path.is_file() else None
        cells.append(DASH if table is None else f"{table['error'].abs().mean():.2f}{gain_over_base(table)}")
    return cells


def gain_over_base(table: pd.DataFrame) -> str:
    """' (+0.01 to +0.09)', the interval of the gain (years) over the base; '' if nothing is corrected."""
    base = pd.to_numeric(table["base_age"], errors="coerce").to_numpy(float)
    if np.array_equal(base, table["age"].to_numpy(float)):
        return ""
    return interval_of(base - table["true_age_min"].astype(float), table["error"], table["person"])


def interval_of(before: pd.Series, after: pd.Series, person: pd.Series) -> str:
    """' (+0.01 to +0.09)': the 95 % interval of the gain (years) between errors of the same faces [N]."""
    gain = paired_bootstrap(before.to_numpy(float), after.to_numpy(float), person.fillna("").to_numpy(str))
    return f" ({gain['low']:+.2f} to {gain['high']:+.2f})"


def one_set_row(name: str, key: str, cell: str) -> list[str]:
    """A row that is measured on one of SETS alone."""
    return [name, *(cell if one == key else DASH for one in SETS)]


def control_row(folder: str, name: str) -> list[str]:
    """A head of DiffPipeline6 without references: its MAE and gain over the base on each test set."""
    table = read_csv(stored(f"{folder}/controls.csv.gz"), dtype={"id": str, "person": str})
    table["error"] = table["age"] - table["true_age"]
    mean = table[table["variant"] == CONTROL].groupby("id")["error"].agg(lambda error: error.abs().mean())
    base = table[table["variant"] == "base"].set_index("id")
    cells = []
    for key in SETS:
        path = WEIGHTS / folder / "predictions" / f"{key}.csv.gz"
        ids = mean.index.intersection(exact_errors(path)["id"]) if path.is_file() else []
        part = base.loc[ids]
        gain = interval_of(part["error"], mean[ids], part["person"]) if len(ids) else ""
        cells.append(f"{mean[ids].mean():.2f}{gain}" if len(ids) else DASH)
    return [name, *cells]


def own_rows() -> list[list[str]]:
    """Rows of so many own photos drawn at random, and of whole banks, on FG-NET with the gain over the base."""
    folder = "DiffPipeline6/references_fgnet_dev"
    drawn = read_csv(stored(f"{folder}/own.csv.gz"), dtype={"person": str})
    drawn = drawn[(drawn["method"] == MODEL) & ~drawn["domain"]]
    rows = []
    for count in OWN_COUNTS:
        faces = drawn[drawn["own"] == count].groupby(["row", "person"])[["before", "error"]].mean().reset_index()
        cell = f"{faces['error'].mean():.2f}{interval_of(faces['before'], faces['error'], faces['person'])}"
        fewer = "" if len(faces) == drawn["row"].nunique() else f" ({len(faces)} faces)"
        rows.append(one_set_row(f"base + {count} own dated photo{'s' if count > 1 else ''}{fewer}", "fgnet_dev", cell))
    banks = read_csv(stored(f"{folder}/predictions.csv.gz"), dtype={"id": str, "person": str})
    banks["error"] = banks["age"] - banks["true_age"]
    base = banks[banks["variant"] == "base"].set_index("id")
    for variant, name in OWN.items():
        one = banks[banks["variant"] == variant].set_index("id").loc[base.index]
        cell = f"{one['error'].abs().mean():.2f}{interval_of(base['error'], one['error'], base['person'])}"
        rows.append(one_set_row(name, "fgnet_dev", cell))
    return rows


def album_rows() -> list[list[str]]:
    """Rows of what albums reach on FG-NET."""
    album = read_csv(stored("AlbumPipeline/evaluation.csv")).set_index("what")["album"]
    return [one_set_row(name, "fgnet_dev", f"{float(album[row]):.2f}") for row, name in ALBUM.items()]


def stored(name: str) -> Path:
    """A file below weights/; raises DataError if it is missing."""
    path = WEIGHTS / name
    if not path.is_file():
        raise DataError(f"{path} is missing; scripts/release/train_release.py makes it.")
    return path


def ways() -> list[str]:
    """Markdown table of the MAE (years) of each way to an age; raises DataError if a file is missing."""
    rows = []
    for folder, name in WAYS.items():
        rows.append(way_row(folder, name))
        if folder in CONTROLS:
            rows.append(control_row(folder, CONTROLS[folder]))
    rows += own_rows()
    rows += album_rows()
    faces = {key: len(exact_errors(WEIGHTS / "AgeRegBaseline" / "predictions" / f"{key}.csv.gz"))
             for key in SETS if (WEIGHTS / "AgeRegBaseline" / "predictions" / f"{key}.csv.gz").is_file()}  # fmt: skip
    heads = [f"{name} ({faces.get(key, DASH)})" for key, name in SETS.items()]
    return markdown(["MAE in years (faces)", *heads], rows)


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
    sys.exit(until_closed(main))
