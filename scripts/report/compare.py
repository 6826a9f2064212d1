"""Several predictions side by side on the faces they have in common, with the paired bootstrap against the first."""

import numpy as np
import pandas as pd

from common.data.predictions import read_csv
from common.errors import DataError
from common.evaluation.metrics import paired_bootstrap
from common.evaluation.tables import markdown, with_interval
from scripts.report.figures import draw_scores
from scripts.report.html import Picture, Section, Table
from scripts.report.numbers import (
    bands,
    cumulative_scores,
    exact_rows,
    load_predictions,
    mean_interval,
    named_path,
    numbers,
)

HEADERS = ["predictions", "faces of its own", "MAE (years)", "CS@5 (%)", "bias (years)", "gain over the first (years)"]


def read_entry(pair: str) -> tuple[str, pd.DataFrame]:
    """NAME=CSV as the name and a table id, age and, of a predictions table, truth (years) and person.

    Any CSV with the columns id and age is taken; its empty ages are left out. Raises DataError.
    """
    name, path = named_path(pair)
    table = read_csv(path, dtype={"id": str, "path": str})
    if {"status", "true_age_min", "true_age_max"} <= set(table.columns):
        return name, entry(load_predictions(path), path)
    for column in ("id", "age"):
        if column not in table.columns:
            raise DataError(f"{path} has no column '{column}'; to be compared, a CSV needs id and age.")
    table = table[["id", "age"]].assign(age=numbers(table["age"], path)).dropna()
    return name, _one_row_each(table.drop_duplicates(), path)


def entry(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """The exactly labelled, estimated faces of a checked predictions table: id, age, truth (years), person."""
    rows = exact_rows(table)[["id", "age", "truth", "person"]]
    return _one_row_each(rows[rows["id"] != ""].drop_duplicates(["id", "age", "truth"]), source)


def _one_row_each(table: pd.DataFrame, source: str) -> pd.DataFrame:
    twice = table.loc[table["id"].duplicated(), "id"]
    if len(twice):
        raise DataError(f"{source} has several ages for the face {twice.iloc[0]}; give one row for each face.")
    return table


def common_faces(entries: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Faces that every entry has: truth (years), person, and a column `age NAME` (years) for each entry, by id.

    Raises DataError if there are none, if no entry knows true ages, or if two give different ones.
    """
    labelled = [table[["id", "truth", "person"]] for table in entries.values() if "truth" in table]
    if not labelled:
        raise DataError("None of the files knows true ages; compare at least one predictions table with labels.")
    labels = pd.concat(labelled)
    span = labels.groupby("id")["truth"].agg(["min", "max"])
    apart = span.index[span["max"] - span["min"] > 0.011]  # tables store two decimals
    if len(apart):
        raise DataError(f"The files give different true ages for the face {apart[0]}; they are not of the same data.")
    faces = labels.sort_values("person", ascending=False, kind="stable").drop_duplicates("id").set_index("id")
    for name, table in entries.items():
        faces = faces.join(table.set_index("id")["age"].rename(f"age {name}"), how="inner")
    if faces.empty:
        raise DataError(f"{', '.join(entries)} have no exactly labelled face in common (they are joined by id).")
    return faces.sort_index()


def compare(entries: dict[str, pd.DataFrame], faces: pd.DataFrame) -> pd.DataFrame:
    """One row for each entry, on the common faces; intervals are of 95 %.

    Columns: name, own (faces it has), mae, mae_low, mae_high, cs5 (%), bias, gain, low, high (years). The first has no
    gain (NaN).
    """
    person = faces["person"].to_numpy(str)
    errors = entry_errors(entries, faces)
    first = next(iter(errors.values()))
    rows = []
    for place, (name, error) in enumerate(errors.items()):
        low, high = mean_interval(np.abs(error), person)
        row = {"name": name, "own": len(entries[name]), "mae": np.abs(error).mean(), "mae_low": max(low, 0.0)}
        row |= {"mae_high": high, "cs5": cumulative_scores(error)[4], "bias": error.mean()}
        gain = paired_bootstrap(first, error, person) if place else dict.fromkeys(("gain", "low", "high"), np.nan)
        rows.append(row | gain)
    return pd.DataFrame(rows)


def entry_errors(entries: dict[str, pd.DataFrame], faces: pd.DataFrame) -> dict[str, np.ndarray]:
    """Errors [N] in years of each entry on the common faces."""
    return {name: (faces[f"age {name}"] - faces["truth"]).to_numpy(float) for name in entries}


def comparison(entries: dict[str, pd.DataFrame]) -> tuple[Section, list[str]]:
    """The section of the report and the Markdown lines of a comparison; raises DataError if it cannot be made."""
    if len(entries) < 2:
        raise DataError("A comparison needs two or more predictions of different names.")
    faces = common_faces(entries)
    cells = [
        [
            row.name, row.own, with_interval(row.mae, row.mae_low, row.mae_high), f"{row.cs5:.1f}",
            f"{row.bias:+.2f}", with_interval(row.gain, row.low, row.high, "+.2f"),
        ]
        for row in compare(entries, faces).itertuples(index=False)
    ]  # fmt: skip
    caption = (
        f"On the {len(faces)} exactly labelled faces that all have. Gain: |error of the first| − |error|, with the "
        "paired bootstrap's 95 % interval (10,000 resamples, persons drawn together)."
    )
    errors = entry_errors(entries, faces)
    scores = Picture(draw_scores(errors), "Cumulative scores of the compared predictions.")
    parts = [Table("comparison", caption, HEADERS, cells), scores, band_table(errors, faces)]
    return Section("Comparison", parts), [f"On the {len(faces)} faces in common:", "", *markdown(HEADERS, cells)]


def band_table(errors: dict[str, np.ndarray], faces: pd.DataFrame) -> Table:
    """MAE of each entry by band of true age."""
    masks = {name: mask.to_numpy() for name, mask in bands(faces).items() if mask.any()}
    headers = ["MAE (years) by true age", *(f"{name} ({mask.sum()} faces)" for name, mask in masks.items())]
    cells = [
        [name, *(f"{np.abs(error[mask]).mean():.2f}" for mask in masks.values())] for name, error in errors.items()
    ]
    return Table("comparison-bands", "On the faces in common", headers, cells)


def read_entries(pairs: list[str]) -> dict[str, pd.DataFrame]:
    """Entries by name from NAME=CSV words; raises DataError, also for a name given twice."""
    entries: dict[str, pd.DataFrame] = {}
    for pair in pairs:
        name, table = read_entry(pair)
        if name in entries:
            raise DataError(f"The name '{name}' is given twice in --compare.")
        entries[name] = table
    return entries
