"""A solved album as tables, as text and as files: dates, people, faces, contradictions, suggestions for exiftool."""

import json
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from AlbumPipeline.AlbumPipeline__model import AlbumAges, Known, disagreement, implied_age, solve_album
from AlbumPipeline.AlbumPipeline__tables import AlbumTable
from AlbumPipeline.AlbumPipeline__weights import AgeErrors
from common.data.dates import parse_period
from common.data.predictions import check_out, write_table, write_text
from common.errors import DataError

WITHHELD = 40.0  # years between low and high, from which on no date is given
SURE = 1.0  # years between low and high of a date that is stated, not estimated
FEWEST_FACES = 20  # with which the fit of an album is judged
UNLIKE = 1.25  # times the typical median deviation, from which on an album is not like those calibrated on
SHOWN = 20  # lines of a kind that are printed
FILES = {
    "dates.csv": ("photo", "date", "low", "high", "people", "status"),
    "people.csv": ("person", "birth_year", "low", "high", "photos", "status"),
    "faces.csv": ("photo", "face", "person", "estimate", "album_age"),
    "exiftool.csv": ("SourceFile", "XMP-photoshop:DateCreated"),
}
JSON_FILE = "album.json"


class Solved(NamedTuple):
    """An album and its posterior; widening: from the fit of this album (1: as calibrated); alarm [F] bool."""

    table: AlbumTable
    ages: AlbumAges
    errors: AgeErrors
    widening: float
    alarm: np.ndarray

    def half_width(self, sd: np.ndarray, probability: float) -> np.ndarray:
        """Half-widths (years) of intervals that hold the truth with this probability, for standard deviations sd."""
        if not 0 < probability < 1:
            raise DataError(f"--interval takes a probability between 0 and 1, not {probability}.")
        return NormalDist().inv_cdf(0.5 + probability / 2) * self.errors.factor * self.widening * sd


def solve_table(table: AlbumTable, errors: AgeErrors) -> Solved:
    """Solve an album; where the middle of its deviations is larger than it should be, intervals widen with it."""
    ages = solve_album(table.album, errors)
    ratio = float(np.median(np.abs(ages.deviation))) / errors.typical
    widening = ratio if len(ages.deviation) >= FEWEST_FACES and ratio > UNLIKE else 1.0
    return Solved(table, ages, errors, widening, disagreement(table.album, ages, errors) > errors.alarm)


def dates_table(solved: Solved, probability: float) -> pd.DataFrame:
    """One row for each photo: photo, stated, date, low, high (decimal years), people it rests on, status.

    status: stated (to a year or better), narrowed (stated more coarsely, with faces), estimated, or unknown.
    """
    table, ages = solved.table, solved.ages
    known, count = table.album.taken, len(table.photo)
    date, low, high = _bounded(ages.taken, solved.half_width(ages.taken_sd, probability), known)
    album, right = table.album, ~solved.alarm
    people, born = np.bincount(album.photo[right], minlength=count), np.full(count, -np.inf)
    np.maximum.at(born, album.photo[right], album.born.low[album.person[right]])
    born = np.minimum(born, known.high)  # what is stated of the photo stays
    date, low, high = (np.maximum(end, born) for end in (date, low, high))  # nobody is in a photo before being born
    sharp = known.sd * 12**0.5 <= SURE + 0.01
    stated = np.isfinite(known.sd)
    lost = ~(high - low < WITHHELD) | (~stated & (people == 0))
    status = np.select([sharp, lost, stated], ["stated", "unknown", "narrowed"], "estimated")
    result = pd.DataFrame(
        {
            "photo": table.photo, "stated": table.taken, "date": date, "low": low, "high": high,
            "people": people, "status": status,
        }
    )  # fmt: skip
    result.loc[result["status"] == "unknown", ["date", "low", "high"]] = np.nan
    return result


def people_table(solved: Solved, probability: float) -> pd.DataFrame:
    """One row for each person: person, stated, birth_year, low, high (decimal years), photos, status as of dates."""
    table, ages = solved.table, solved.ages
    known = table.album.born
    born, low, high = _bounded(ages.born, solved.half_width(ages.born_sd, probability), known)
    stated, sharp = np.isfinite(known.sd), known.sd * 12**0.5 <= SURE + 0.01
    status = np.select([sharp, ~(high - low < WITHHELD), stated], ["stated", "unknown", "narrowed"], "estimated")
    photos = np.bincount(table.album.person, minlength=len(table.person))
    result = pd.DataFrame(
        {
            "person": table.person, "stated": table.born, "birth_year": born, "low": low, "high": high,
            "photos": photos, "status": status,
        }
    )  # fmt: skip
    result.loc[result["status"] == "unknown", ["birth_year", "low", "high"]] = np.nan
    return result


def faces_table(solved: Solved, probability: float) -> pd.DataFrame:
    """One row for each named face: what it was made of, and album_age, low, high, alone (years), deviation, alarm.

    It can be given to --faces again, with names corrected.
    """
    ages, album = solved.ages, solved.table.album
    half = solved.half_width(ages.age_sd, probability)
    faces = solved.table.faces.copy()
    faces["album_age"], faces["alone"] = ages.age, implied_age(album, solved.errors)
    faces["low"], faces["high"] = np.maximum(ages.age - half, 0), ages.age + half
    faces.loc[~np.isfinite(ages.born_sd[album.person]), ["album_age", "low", "high"]] = np.nan  # rests on no date
    faces["deviation"], faces["contradiction"] = ages.deviation, np.where(solved.alarm, "yes", "")
    return faces


def _bounded(value: np.ndarray, half: np.ndarray, known: Known) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values [N], low and high ends within the bounds of what is known."""
    ends = (value, value - half, value + half)
    middle, low, high = (np.clip(end, known.low, known.high) for end in ends)
    return middle, low, high


def contradictions(solved: Solved) -> list[str]:
    """A sentence for each face that fits nobody's dates, the worst first."""
    table, ages, album = solved.table, solved.ages, solved.table.album
    alone, faces = implied_age(album, solved.errors), np.bincount(album.photo, minlength=len(table.photo))
    wrong = np.bincount(album.photo[solved.alarm], minlength=len(table.photo))
    rows = np.flatnonzero(solved.alarm)
    sentences = []
    for row in rows[np.argsort(-np.abs(ages.deviation[rows]), kind="stable")]:
        photo, name = album.photo[row], table.person[album.person[row]]
        whole = wrong[photo] > 1 and wrong[photo] == faces[photo]  # everybody in it is wrong, so its date is
        year = np.median((ages.born[album.person] + alone)[album.photo == photo])
        cause = f"the date of the photo, its faces say {year:.0f}" if whole else "the person or the date"
        sentences.append(
            f"{table.photo[photo]}: {name} looks {alone[row]:.0f} and would be {ages.age[row]:.0f} there by all else "
            f"({abs(ages.deviation[row]):.1f} times the usual error of such a face); check {cause}"
        )
    return sentences


def summary(solved: Solved, probability: float) -> list[str]:
    """What to print: people, photos whose date was unknown, contradictions."""
    people, dates = people_table(solved, probability), dates_table(solved, probability)
    asked, wrong = dates[dates["status"] != "stated"], contradictions(solved)
    count = f"{len(people)} people, {len(dates)} photos, {len(solved.table.faces)} named faces"
    lines = [f"{count}; the years in brackets hold with {100 * probability:.0f} % probability", "", "People:"]
    lines += _shown([_line(row.person, "born", row.birth_year, row) for row in people.itertuples()])
    lines += ["", f"Photos without a stated year: {len(asked)}"]
    seen = [(row, f", from {row.people} face{'' if row.people == 1 else 's'}") for row in asked.itertuples()]
    lines += _shown([_line(row.photo, "taken", row.date, row, faces) for row, faces in seen])
    lines += ["", f"Contradictions: {len(wrong)}", *_shown(wrong)]
    return [*lines, *(["", fit] if (fit := fit_of(solved)) else [])]


def fit_of(solved: Solved) -> str:
    """What is to be said of how well the album fits, '' if it is as usual."""
    if solved.widening == 1:
        return ""
    return f"This album fits worse than those calibrated on: intervals are {solved.widening:.2f} times wider."


def _line(name: str, verb: str, year: float, row: Any, more: str = "") -> str:
    if row.status == "unknown":
        return f"{name}: not known (nothing connects it to a date, or too little)"
    if row.status == "stated":
        return f"{name}: {verb} {row.stated} (stated)"
    return f"{name}: {verb} {int(year)} ({years_between(row.low, row.high)}, {row.status}{more})"


def years_between(low: float, high: float) -> str:
    """The years from `low` up to `high`, both decimal; the end of a year is not the next one.

    Examples
    --------
    >>> years_between(1933.4, 1940.0), years_between(1987.0, 1987.9)
    ('1933 to 1939', '1987')
    """
    first, last = int(low), int(high - 1e-6)
    return f"{first}" if first >= last else f"{first} to {last}"


def _shown(lines: list[str]) -> list[str]:
    more = [f"… and {len(lines) - SHOWN} more (--out writes all)"] if len(lines) > SHOWN else []
    return [f"  {line}" for line in [*lines[:SHOWN], *more]]


def suggestions(dates: pd.DataFrame) -> pd.DataFrame:
    """For `exiftool -csv=`: SourceFile, the year alone as DateCreated, and low and high in words; only estimates."""
    unread = dates["stated"].map(_unreadable).astype(bool)  # somebody stated a date: no guess replaces it
    good = dates[dates["status"].isin(["estimated", "narrowed"]) & ~unread].round({"date": 2})  # as dates.csv says it
    said = [f"estimated by age-album: {years_between(row.low, row.high)}" for row in good.itertuples()]
    return pd.DataFrame(
        {
            "SourceFile": good["photo"],
            "XMP-photoshop:DateCreated": [str(int(year)) for year in good["date"]],
            "XMP-photoshop:Instructions": said,
        }
    )


def _unreadable(stated: str) -> bool:
    if not stated.strip():
        return False
    try:
        parse_period(stated)
    except ValueError:
        return True
    return False


def check_folder(folder: Path) -> None:
    """Raise DataError for a place where the results cannot be written, or would replace what is none of ours."""
    if folder.suffix.lower() == ".csv" or (folder.exists() and not folder.is_dir()):
        raise DataError(f"--out {folder} must be a folder: dates.csv, people.csv and others are written into it.")
    for name, columns in FILES.items():
        check_out(folder / name, columns)
    check_out(folder / JSON_FILE, ())


def write_results(solved: Solved, probability: float, folder: Path, notes: dict[str, Any]) -> None:
    """Write FILES and album.json into a folder; raises DataError if it cannot be written."""
    dates, people = dates_table(solved, probability), people_table(solved, probability)
    faces = faces_table(solved, probability)
    tables = {"dates.csv": dates, "people.csv": people, "faces.csv": faces, "exiftool.csv": suggestions(dates)}
    for name, table in tables.items():
        write_table(table, folder / name, 2)
    document = {"settings": {"interval": probability, "widening": round(solved.widening, 3), **notes}}
    document |= {"people": _records(people), "photos": _records(dates), "faces": _records(faces)}
    document["contradictions"] = contradictions(solved)
    write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", folder / JSON_FILE)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, numbers with two decimals, None where there is none."""
    rounded = table.round(2).astype(object)
    return rounded.where(table.notna(), None).to_dict("records")
