"""Faces with ages as the table that is written: all columns for a manifest, few for people; CSV or JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.data.manifest import age_bounds
from common.data.predictions import COLUMNS, to_csv, to_short
from common.files import plain_name
from common.inference.estimates import FaceAge
from common.inference.options import SHORT

OWN_ID = "own_id"  # column of a manifest's ids where they are not those of the images' bytes
MARK = "\ufeff"  # begins a CSV that spreadsheets shall read as UTF-8
STOPPED = "stopped before it was estimated"


def predictions_of(faces: Sequence[FaceAge], manifest: pd.DataFrame) -> pd.DataFrame:
    """The predictions table (COLUMNS, then those of a pipeline's own) of faces, whose `row` is that of the manifest.

    Inputs without any entry were not reached; they get a row that says so.
    """
    reached = {face.row for face in faces}
    missing = [
        FaceAge(path, status=STOPPED, row=row) for row, path in enumerate(manifest["path"]) if row not in reached
    ]
    faces = [*faces, *missing]
    rows = np.array([face.row for face in faces], int)
    low, high = (ends[rows] for ends in age_bounds(manifest))
    known = manifest.iloc[rows]
    columns = {
        "id": [face.id for face in faces],
        "path": [face.photo for face in faces],
        "face": pd.array([face.face for face in faces], "Int64"),
        "box": ["" if face.box is None else " ".join(f"{edge:.0f}" for edge in face.box) for face in faces],
        "status": [face.status for face in faces],
        "true_age": np.where(low == high, low, np.nan),
        "base_age": [face.base_age for face in faces],
        "age": [face.age for face in faces],
        "interval_low": [face.low for face in faces],
        "interval_high": [face.high for face in faces],
        "n_references": [face.references for face in faces],
        "reference_ids": [" ".join(face.reference_ids) for face in faces],
        "reference_spread": [face.reference_spread for face in faces],
        **{name: known[name].fillna("").to_numpy() for name in ("person", "gender", "group")},
        "true_age_min": low,
        "true_age_max": high,
    }
    table = pd.DataFrame(columns, columns=COLUMNS)
    own = known["id"].to_numpy(str)
    if ((own != "") & (own != table["id"].to_numpy(str))).any():
        table[OWN_ID] = np.where(own == table["id"].to_numpy(str), "", own)
    if any(face.turned for face in faces):
        table["turned"] = [face.turned for face in faces]
    if any(face.person for face in faces):
        table["matched_person"] = [face.person for face in faces]
    for name in dict.fromkeys(name for face in faces for name in face.further):
        table[name] = [face.further.get(name, np.nan) for face in faces]
    return table


def as_text(table: pd.DataFrame, columns: str, path: Path) -> str:
    """A predictions table as the text of a file of this name: .json, .jsonl, or else CSV.

    `columns`: SHORT or ALL. A short CSV begins with the mark that makes spreadsheets read UTF-8.
    """
    short, kind = columns == SHORT, plain_name(path).suffix.lower()
    if kind not in (".json", ".jsonl"):
        return MARK + to_short(table, guarded=True).to_csv(index=False, float_format="%.2f") if short else to_csv(table)
    plain = to_short(table) if short else table
    records = [{name: _plain(value) for name, value in row.items()} for row in plain.to_dict("records")]
    if kind == ".jsonl":
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return json.dumps(records, ensure_ascii=False, indent=1) + "\n"


def _plain(value: Any) -> Any:
    """A cell as JSON has it: no number is null, floats have two decimals."""
    if value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return round(value, 2) if isinstance(value, float) else int(value) if isinstance(value, np.integer) else value
