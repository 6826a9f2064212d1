"""An analysis report as one self-contained HTML file: pictures inlined as base64, nothing loaded from elsewhere.

The pages are well-formed XML too, so that a test can read the figures back.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from common.errors import DataError
from common.metrics import summarise
from common.tables import with_interval
from scripts import report_figures as figures
from scripts import report_numbers as measure
from scripts.report_numbers import SCORE_LIMITS

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } caption { text-align: left; color: #555; padding-bottom: 0.3rem }
th, td { padding: 0.15rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child, td:first-child { text-align: left } img { max-width: 100% } .scroll { overflow-x: auto }
.faces { display: flex; flex-wrap: wrap; gap: 0.8rem } .faces figure { margin: 0; width: 8.2rem; font-size: 0.8rem }
.faces img { width: 128px } .faces figcaption { overflow-wrap: anywhere; line-height: 1.3 } .note { color: #555 }
"""
INTERVALS_NOTE = "In brackets: 95 % intervals (Student's t, clustered by person where known); none for one person."


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f'<p class="note">{escape(text)}</p>'


def section(heading: str, *parts: str) -> str:
    """A heading and ready HTML below it."""
    return "\n".join([f"<h2>{escape(heading)}</h2>", *parts])


def html_table(name: str, caption: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text; `name` is its HTML id."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table id="{escape(name)}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def html_picture(data: bytes, text: str) -> str:
    """A PNG inlined; `text` describes it to those who cannot see it."""
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{base64.b64encode(data).decode()}"/>'


def page(title: str, subtitle: str, sections: list[str]) -> str:
    """The whole document."""
    head = f'<meta charset="utf-8"/><title>{escape(title)}</title><style>{escape(STYLE, quote=False)}</style>'
    body = "\n".join([f"<h1>{escape(title)}</h1>", paragraph(subtitle), *sections])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def write_page(text: str, path: Path) -> None:
    """Write a document; raises DataError if that place cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"The report cannot be written to {path} ({error.strerror}).") from None


def parts_table(name: str, caption: str, table: pd.DataFrame) -> str:
    """The rows of `report_numbers.measure_parts` as HTML."""
    rows = [
        [
            row.part, str(row.faces), with_interval(row.mae, row.mae_low, row.mae_high),
            with_interval(row.bias, row.bias_low, row.bias_high, "+.2f"), f"{row.rmse:.2f}", f"{row.cs5:.1f}",
        ]
        for row in table.itertuples()
    ]  # fmt: skip
    return html_table(name, caption, ["", "faces", "MAE (years)", "bias (years)", "RMSE (years)", "CS@5 (%)"], rows)


def analysis_sections(table: pd.DataFrame, crops: dict[str, np.ndarray], probability: float | None) -> list[str]:
    """Everything a report says of one checked predictions table.

    `crops` has pictures [S, S, 3] uint8 by id (of the worst faces; may be empty); `probability` is what the intervals
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
    return [text for text in sections if text]


def overall_section(rows: pd.DataFrame) -> str:
    """MAE, RMSE, bias, CS@1 … 10, the histogram of errors and estimates against true ages."""
    error = rows["error"].to_numpy(float)
    scores = [f"{score:.1f}" for score in measure.cumulative_scores(error)]
    limits = [f"CS@{limit}" for limit in SCORE_LIMITS]
    return section(
        "Errors",
        parts_table("overall", INTERVALS_NOTE, measure.measure_parts(rows, measure.everything(rows))),
        html_table("scores", "CS@k: faces with an error of at most k years, in %", limits, [scores]),
        html_picture(figures.draw_errors(error), "Cumulative score over allowed error; histogram of errors in years."),
        html_picture(
            figures.draw_density(rows["truth"].to_numpy(float), rows["age"].to_numpy(float)),
            "Density of estimated against true age in years.",
        ),
    )


def decade_section(rows: pd.DataFrame) -> str:
    """Bias and MAE by decade and by band of true age."""
    table = measure.measure_parts(rows, measure.decades(rows["truth"]))
    by_band = measure.measure_parts(rows, measure.bands(rows))
    return section(
        "By true age",
        parts_table("decades", f"Decades of true age (years). {INTERVALS_NOTE}", table),
        html_picture(figures.draw_parts(table, "true age (years)"), "Bias and MAE in years by decade of true age."),
        parts_table("bands", "Children, adolescents, adults, the old (years)", by_band),
    )


def part_section(rows: pd.DataFrame) -> str:
    """Errors by gender and group; nothing where the table knows neither."""
    table = measure.measure_parts(rows, measure.genders_and_groups(rows))
    if table.empty:
        return ""
    return section(
        "By gender and group",
        paragraph(
            "Labels of observers, as in the data. The parts differ in age too, and errors grow with age: a difference "
            "between two parts is not by itself an effect of gender or group."
        ),
        parts_table("parts", INTERVALS_NOTE, table),
        html_picture(figures.draw_parts(table, "gender and group"), "Bias and MAE in years by gender and group."),
    )


def confusion_section(rows: pd.DataFrame) -> str:
    """Children taken for adults and adults taken for children."""
    cells = [
        [*map(str, (row.truth, row.faces, row.child, row.adult)), with_interval(row.wrong, row.low, row.high, ".1f")]
        for row in measure.confusion_at(rows).itertuples()
    ]
    headers = ["true age (years)", "faces", "estimated below 18", "estimated 18 and older", "on the wrong side (%)"]
    return section(
        "Child or adult: confusion at 18",
        paragraph(
            "The estimates are no evidence of minority or majority; this table says how often they would be wrong. "
            "In brackets: 95 % Wilson intervals."
        ),
        html_table("confusion", "Faces by true and by estimated age", headers, cells),
    )


def coverage_section(rows: pd.DataFrame, probability: float | None) -> str:
    """How often the prediction intervals hold the true age; nothing where there are none."""
    table = measure.coverage(rows)
    if table.empty:
        return ""
    cells = [
        [row.part, str(row.faces), with_interval(row.coverage, row.low, row.high, ".1f"), f"{row.width:.1f}"]
        for row in table.itertuples()
    ]
    headers = ["estimated age (years)", "faces", "coverage (%)", "mean width (years)"]
    return section(
        "Reliability of the prediction intervals",
        html_table("coverage", "In brackets: 95 % Wilson intervals", headers, cells),
        html_picture(figures.draw_coverage(table, probability), "Coverage in percent by decade of estimated age."),
    )


def worst_section(rows: pd.DataFrame, crops: dict[str, np.ndarray]) -> str:
    """The worst faces: a table, and their crops where there are any."""
    worst = measure.worst_faces(rows)
    headers = ["picture", "true age (years)", "estimate (years)", "error (years)", "id"]
    cells = [
        [row.path, f"{row.truth:g}", f"{row.age:.1f}", f"{row.error:+.1f}", row.id[:12]] for row in worst.itertuples()
    ]
    faces = [
        f"<figure>{html_picture(_picture(crops[row.id]), 'face')}"
        f"<figcaption>true {row.truth:g}, estimate {row.age:.0f} years</figcaption></figure>"
        for row in worst.itertuples()
        if row.id in crops
    ]
    note = paragraph("Faces of real people may follow: keep this file to those who may see the data.")
    shown = [note, f'<div class="faces">{"".join(faces)}</div>'] if faces else []
    caption = "Largest errors first; wrong labels and badly cut faces often lead this list"
    return section(f"The worst {len(worst)} faces", *shown, html_table("worst", caption, headers, cells))


def _picture(crop: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, format="PNG")
    return buffer.getvalue()


def interval_label_section(summary: dict) -> str:
    """Faces whose label is a range of years: how often the estimate is inside, and how far from it."""
    parts = {"all": summary["all"]} | summary.get("by_gender", {}) | summary.get("by_group", {})
    cells = [[name, str(row["n"]), f"{row['hit_rate']:.1f}", f"{row['distance']:.2f}"] for name, row in parts.items()]
    headers = ["", "faces", "estimate inside (%)", "mean distance to the range (years)"]
    return section("Faces labelled with a range of years", html_table("ranges", "", headers, cells))
