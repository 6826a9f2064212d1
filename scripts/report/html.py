"""An analysis report as one self-contained HTML file: images inlined as base64, nothing loaded from elsewhere.

The pages are well-formed XML too, so that a test can read the figures back.
"""

import io
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from common.errors import DataError
from common.evaluation.metrics import summarise
from common.evaluation.tables import with_interval
from scripts.report import figures
from scripts.report import numbers as measure
from scripts.report.numbers import SCORE_LIMITS

PAGE = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, keep_trailing_newline=True,
).get_template("page.html.jinja")  # fmt: skip
INTERVALS_NOTE = "In brackets: 95 % intervals (Student's t, clustered by person where known); none for one person."


class Table(NamedTuple):
    """A table of plain text or numbers; `name` is its HTML id."""

    name: str
    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[object]]


class Picture(NamedTuple):
    """A PNG; `text` describes it to those who cannot see it, `caption` is shown below a face."""

    data: bytes
    text: str
    caption: str = ""

    @property
    def base64(self) -> str:
        """The PNG as text, to be inlined."""
        return b64encode(self.data).decode()


class Section(NamedTuple):
    """A heading and what is below it: a str is a paragraph, a list of images a gallery of faces."""

    heading: str
    parts: Sequence[str | Table | Picture | list[Picture]]


def write_page(path: Path, title: str, subtitle: str, sections: Sequence[Section]) -> None:
    """Write the whole document; raises DataError if that place cannot be written."""
    text = PAGE.render(title=title, subtitle=subtitle, sections=sections)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"The report cannot be written to {path} ({error.strerror}).") from None


def parts_table(name: str, caption: str, table: pd.DataFrame) -> Table:
    """The rows of `report_numbers.measure_parts`."""
    rows = [
        [
            row.part, row.faces, with_interval(row.mae, row.mae_low, row.mae_high),
            with_interval(row.bias, row.bias_low, row.bias_high, "+.2f"), f"{row.rmse:.2f}", f"{row.cs5:.1f}",
        ]
        for row in table.itertuples()
    ]  # fmt: skip
    return Table(name, caption, ["", "faces", "MAE (years)", "bias (years)", "RMSE (years)", "CS@5 (%)"], rows)


def analysis_sections(table: pd.DataFrame, crops: dict[str, np.ndarray], probability: float | None) -> list[Section]:
    """Everything a report says of one checked predictions table.

    `crops` has images [S, S, 3] uint8 by id (of the worst faces; may be empty); `probability` is what the intervals
    of the table aim at. Raises DataError if no estimated face has a known age.
    """
    rows = measure.exact_rows(table)
    summary = summarise(table)
    if rows.empty and "interval" not in summary:
        raise DataError("No estimated face has a known age, so there is nothing to hold the estimates against.")
    sections = []
    if len(rows):
        sections += [overall_section(rows), decade_section(rows), part_section(rows), confusion_section(rows)]
        sections += [coverage_section(rows, probability), worst_section(rows, crops)]
    if "interval" in summary:
        sections.append(interval_label_section(summary["interval"]))
    return [found for found in sections if found]


def overall_section(rows: pd.DataFrame) -> Section:
    """MAE, RMSE, bias, CS@1 … 10, the histogram of errors and estimates against true ages."""
    error = rows["error"].to_numpy(float)
    scores = [f"{score:.1f}" for score in measure.cumulative_scores(error)]
    limits = [f"CS@{limit}" for limit in SCORE_LIMITS]
    density = figures.draw_density(rows["truth"].to_numpy(float), rows["age"].to_numpy(float))
    parts = [
        parts_table("overall", INTERVALS_NOTE, measure.measure_parts(rows, measure.everything(rows))),
        Table("scores", "CS@k: faces with an error of at most k years, in %", limits, [scores]),
        Picture(figures.draw_errors(error), "Cumulative score over allowed error; histogram of errors in years."),
        Picture(density, "Density of estimated against true age in years."),
    ]
    return Section("Errors", parts)


def decade_section(rows: pd.DataFrame) -> Section:
    """Bias and MAE by decade and by band of true age."""
    table = measure.measure_parts(rows, measure.decades(rows["truth"]))
    by_band = measure.measure_parts(rows, measure.bands(rows))
    parts = [
        parts_table("decades", f"Decades of true age (years). {INTERVALS_NOTE}", table),
        Picture(figures.draw_parts(table, "true age (years)"), "Bias and MAE in years by decade of true age."),
        parts_table("bands", "Children, adolescents, adults, the old (years)", by_band),
    ]
    return Section("By true age", parts)


def part_section(rows: pd.DataFrame) -> Section | None:
    """Errors by gender and group; nothing where the table knows neither."""
    table = measure.measure_parts(rows, measure.genders_and_groups(rows))
    if table.empty:
        return None
    note = (
        "Labels of observers, as in the data. The parts differ in age too, and errors grow with age: a difference "
        "between two parts is not by itself an effect of gender or group."
    )
    picture = Picture(figures.draw_parts(table, "gender and group"), "Bias and MAE in years by gender and group.")
    return Section("By gender and group", [note, parts_table("parts", INTERVALS_NOTE, table), picture])


def confusion_section(rows: pd.DataFrame) -> Section:
    """Children taken for adults and adults taken for children."""
    cells = [
        [row.truth, row.faces, row.child, row.adult, with_interval(row.wrong, row.low, row.high, ".1f")]
        for row in measure.confusion_at(rows).itertuples()
    ]
    headers = ["true age (years)", "faces", "estimated below 18", "estimated 18 and older", "on the wrong side (%)"]
    note = (
        "The estimates are no evidence of minority or majority; this table says how often they would be wrong. "
        "In brackets: 95 % Wilson intervals."
    )
    confusion = Table("confusion", "Faces by true and by estimated age", headers, cells)
    return Section("Child or adult: confusion at 18", [note, confusion])


def coverage_section(rows: pd.DataFrame, probability: float | None) -> Section | None:
    """How often the prediction intervals hold the true age; nothing where there are none."""
    table = measure.coverage(rows)
    if table.empty:
        return None
    cells = [
        [row.part, row.faces, with_interval(row.coverage, row.low, row.high, ".1f"), f"{row.width:.1f}"]
        for row in table.itertuples()
    ]
    headers = ["estimated age (years)", "faces", "coverage (%)", "mean width (years)"]
    found = Table("coverage", "In brackets: 95 % Wilson intervals", headers, cells)
    picture = Picture(figures.draw_coverage(table, probability), "Coverage in percent by decade of estimated age.")
    return Section("Reliability of the prediction intervals", [found, picture])


def worst_section(rows: pd.DataFrame, crops: dict[str, np.ndarray]) -> Section:
    """The worst faces: a table, and their crops where there are any."""
    worst = measure.worst_faces(rows)
    headers = ["picture", "true age (years)", "estimate (years)", "error (years)", "id"]
    cells = [
        [row.path, f"{row.truth:g}", f"{row.age:.1f}", f"{row.error:+.1f}", row.id[:12]] for row in worst.itertuples()
    ]
    faces = [
        Picture(_png(crops[row.id]), "face", f"true {row.truth:g}, estimate {row.age:.0f} years")
        for row in worst.itertuples()
        if row.id in crops
    ]
    note = "Faces of real people may follow: keep this file to those who may see the data."
    shown = [note, faces] if faces else []
    caption = "Largest errors first; wrong labels and badly cut faces often lead this list"
    return Section(f"The worst {len(worst)} faces", [*shown, Table("worst", caption, headers, cells)])


def _png(crop: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, format="PNG")
    return buffer.getvalue()


def interval_label_section(summary: dict) -> Section:
    """Faces whose label is a range of years: how often the estimate is inside, and how far from it."""
    parts = {"all": summary["all"]} | summary.get("by_gender", {}) | summary.get("by_group", {})
    cells = [[name, row["n"], f"{row['hit_rate']:.1f}", f"{row['distance']:.2f}"] for name, row in parts.items()]
    headers = ["", "faces", "estimate inside (%)", "mean distance to the range (years)"]
    return Section("Faces labelled with a range of years", [Table("ranges", "", headers, cells)])
