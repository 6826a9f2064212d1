"""A solved album on the page: a timeline for each person, a table of its photos, its contradictions."""

from datetime import date

import altair as alt
import numpy as np
import pandas as pd

from AlbumPipeline.AlbumPipeline__figures import alone_sd
from AlbumPipeline.AlbumPipeline__model import implied_age
from AlbumPipeline.AlbumPipeline__report import Solved, dates_table, people_table, years_between
from common.data.dates import decimal_year
from common.evaluation.tables import DASH
from common.figures import BLUE, ORANGE
from common.inference.terminal import printable
from scripts.page.cards import text_of
from scripts.page.photos import PROBABILITY

DATED, UNDATED, WRONG = "dated", "undated", "contradiction"
GREY = "#888888"  # seen on white and on black


def points_of(solved: Solved, person: int) -> pd.DataFrame:
    """A person's faces [n rows]: year (decimal), taken (the year), alone, low, high (years, of the face alone), photo,
    kind."""
    ages, album = solved.ages, solved.table.album
    rows = np.flatnonzero(album.person == person)
    photo = album.photo[rows]
    alone = implied_age(album, solved.errors)[rows]
    half = solved.half_width(alone_sd(solved)[rows], PROBABILITY)
    kind = np.where(np.isfinite(album.taken.sd[photo]), DATED, UNDATED)
    return pd.DataFrame(
        {
            "year": ages.taken[photo], "taken": ages.taken[photo].astype(int).astype(str),
            "alone": alone, "low": np.maximum(alone - half, 0), "high": alone + half,
            "photo": [printable(solved.table.photo[number]) for number in photo],
            "kind": np.where(solved.alarm[rows], WRONG, kind),
        }
    )  # fmt: skip


def timeline(solved: Solved, person: int) -> alt.LayerChart:
    """Age against date of one person's faces, each alone with its interval, and the line that the album gives.

    Of a person whose birth is known or found.
    """
    points, known = points_of(solved, person), people_table(solved, PROBABILITY).iloc[person]
    first, latest = float(points["year"].min()) - 1, float(points["year"].max())
    last = max(latest, min(latest + 1, decimal_year(date.today())))
    years = alt.Scale(domain=[first, last], nice=False)
    x = alt.X("year:Q", title=None, axis=alt.Axis(format="d", tickMinStep=1), scale=years)
    kinds = alt.Scale(domain=[DATED, UNDATED, WRONG], range=[BLUE, GREY, ORANGE])
    shapes = alt.Scale(domain=[DATED, UNDATED, WRONG], range=["circle", "square", "cross"])
    legend = alt.Legend(orient="bottom", title=None)
    color = alt.Color("kind:N", scale=kinds, legend=legend)
    base = alt.Chart(points).encode(x=x, color=color)
    layers = [
        *_line(first, last, known),
        base.mark_rule(opacity=0.5).encode(y=alt.Y("low:Q", title="age (years)"), y2="high:Q"),
        base.mark_point(filled=True, size=70, opacity=0.9).encode(
            y="alone:Q",
            shape=alt.Shape("kind:N", scale=shapes, legend=legend),
            tooltip=["photo", "taken", alt.Tooltip("alone:Q", format=".0f", title="looks")],
        ),
    ]
    title = f"{printable(known['person'])}, born {span_of(known['low'], known['high'])} ({known['status']})"
    return alt.layer(*layers).properties(title=title, height=330, description=f"Timeline of {title}")


def _line(first: float, last: float, known: pd.Series) -> list[alt.Chart]:
    """The person's age by the album from one decimal year to another, with its interval."""
    ends = np.array([max(first, known["birth_year"]), last])
    line = pd.DataFrame({"year": ends, "age": ends - known["birth_year"]})
    line["least"], line["most"] = np.maximum(ends - known["high"], 0), ends - known["low"]
    base = alt.Chart(line).encode(x="year:Q")
    band = base.mark_area(color=GREY, opacity=0.25).encode(y="least:Q", y2="most:Q")
    return [band, base.mark_line(color=GREY).encode(y="age:Q")]


def span_of(low: float, high: float) -> str:
    """The years between two decimal years, unknown if they are NaN.

    Examples
    --------
    >>> span_of(1931.0, 1932.0), span_of(1931.5, 1940.2), span_of(float("nan"), 1.0)
    ('1931', '1931 to 1940', 'unknown')
    """
    return "unknown" if np.isnan(low) else years_between(low, high)


def photos_table(solved: Solved) -> str:
    """The photos and their dates as an HTML table, those with a contradiction marked."""
    wrong = set(solved.table.album.photo[solved.alarm].tolist())
    rows = []
    for number, row in enumerate(dates_table(solved, PROBABILITY).itertuples()):
        year = row.stated if row.status == "stated" else "" if np.isnan(row.date) else f"{int(row.date)}"
        mark = '<span title="a face contradicts it">⚠</span> ' if number in wrong else ""
        cells = (
            mark + text_of(str(row.photo)),
            text_of(year),
            span_of(row.low, row.high),
            row.people or DASH,
            row.status,
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "<tr><th>photo</th><th>year</th><th>between</th><th>by faces</th><th>status</th></tr>"
    return f'<div class="age-scroll"><table class="age-table">{head}{"".join(rows)}</table></div>'
