"""Labels as people write them: tables of any spreadsheet, ages as numbers or intervals, names of people."""

import csv
import io
import math
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.errors import DataError
from common.files import read_whole

OLDEST = 120.0  # years; the upper end of an interval that is open above ("70 and more")
NUMBERS = ["age", "age_min", "age_max"]
# Columns that are known however they are written ("Photo Date", " AGE").
KNOWN = {"path", "id", "person", "gender", "group", "split", "born", "birth_date", "photo_date", "source", *NUMBERS}
UNKNOWN = {"", "nan", "none", "null", "na", "n/a", "unknown", "?", "-"}
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
INTERVAL = re.compile(rf"[(\[]?\s*({NUMBER})\s*(?:-|–|—|\.\.|to|(?<=\d)\s*,\s+|(?<=\d);)\s*({NUMBER})\s*[)\]]?", re.I)
PAIR = re.compile(rf"[(\[]\s*({NUMBER})\s*,\s*({NUMBER})\s*[)\]]", re.I)
OPEN = re.compile(rf"(?:({NUMBER})\s*(?:\+|and more|or more)|(?:>=|≥)\s*({NUMBER}))", re.I)
LARGEST_TABLE = 2**28  # bytes
SET_MARK = "::"  # between a set's name and a person's, where sets are joined
GROUP_PREFIX = "copy of "  # of the common name of copies of one image whose person is unknown


class Age(NamedTuple):
    """An exact age, or an interval [low, high] whose open end is NaN; all NaN where nothing is known. Years."""

    age: float
    low: float
    high: float


# What the ages of a set are, by how its name begins: of birth and photo dates, or as people guessed them.
KINDS_OF_AGES = {
    "apparent": ("utkface", "fairface", "chalearn", "adience"),
    "real": ("publicfigures", "public_figures", "fgnet", "photos", "morph2", "agedb", "appareal", "imdbclean"),
}


def kind_of_ages(name: str) -> str:
    """`real` or `apparent` for the ages of a set by its name ("utkface_test"), '' for a set that is not known."""
    known = (kind for kind, names in KINDS_OF_AGES.items() if name.lower().startswith(names))
    return next(known, "")


def parse_age(text: str) -> Age:
    """The age a cell states: a number, an interval ("25-32", "(25, 32)", "70+"), or nothing ("", "None").

    Raises ValueError, saying what is wrong, for any other text and for ages outside 0 to OLDEST years.

    Examples
    --------
    >>> parse_age("25"), parse_age("(25, 32)").high, parse_age("70+").low
    (Age(age=25.0, low=nan, high=nan), 32.0, 70.0)
    """
    text = unicodedata.normalize("NFKC", str(text)).strip()
    if text.lower() in UNKNOWN:
        return Age(math.nan, math.nan, math.nan)
    interval, upward = PAIR.fullmatch(text) or INTERVAL.fullmatch(text), OPEN.fullmatch(text)
    if interval:
        low, high = _possible(interval[1]), _possible(interval[2])
        if low > high:
            raise ValueError(f"impossible interval {low:g} to {high:g}")
        return Age(low, math.nan, math.nan) if low == high else Age(math.nan, low, high)
    if upward:
        return Age(math.nan, _possible(upward[1] or upward[2]), math.nan)
    return Age(_possible(text), math.nan, math.nan)


def _possible(text: str) -> float:
    try:
        age = float(text)
    except ValueError:
        raise ValueError(f"'{text}' is no age") from None
    if not 0 <= age <= OLDEST:  # NaN is not
        raise ValueError(f"impossible age {age:g}: ages run from 0 to {OLDEST:g} years")
    return age


class Ages(NamedTuple):
    """NUMBERS of N rows, [N, 3] float64 with NaN for unknown, and by row number what is wrong with a bad one."""

    values: np.ndarray
    problems: dict[int, str]


def parse_ages(table: pd.DataFrame) -> Ages:
    """The ages of a table of texts (columns NUMBERS, missing ones unknown); a row with a bad cell has none."""
    values, problems = np.full((len(table), 3), np.nan), {}
    columns = [table[name].tolist() if name in table.columns else [""] * len(table) for name in NUMBERS]
    for row, cells in enumerate(zip(*columns, strict=True)):
        try:
            values[row] = row_age(*cells)
        except ValueError as error:
            problems[row] = str(error)
    return Ages(values, problems)


def row_age(exact: str, lowest: str, highest: str) -> Age:
    """The age that the three cells of NUMBERS state together; raises ValueError, see `parse_age`."""
    stated, low, high = parse_age(exact), parse_age(lowest), parse_age(highest)
    if not all(math.isnan(bound) for bound in (low.low, low.high, high.low, high.high)):
        raise ValueError("age_min and age_max each take one number")
    if low.age > high.age:
        raise ValueError(f"impossible interval {low.age:g} to {high.age:g}")
    if math.isnan(stated.low):
        return Age(stated.age, low.age, high.age)
    if not (math.isnan(low.age) and math.isnan(high.age)):
        raise ValueError("it has an interval in `age` and another in age_min and age_max")
    return stated


def read_table(path: str | Path, kind: str = "table") -> pd.DataFrame:
    """A CSV as texts [N rows], whatever a spreadsheet made of it: BOM, semicolons or tabs, trailing commas, capitals.

    One named .csv.gz is unpacked. KNOWN columns come in their own spelling. A row with more cells than the header has
    gets an unreadable age, so that it is reported with its path. Raises DataError if it cannot be read, or names a
    column twice.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() and path.stat().st_size <= LARGEST_TABLE):
        raise DataError(f"{path} is no table: it is no regular file of at most {LARGEST_TABLE >> 20} MB.")
    try:
        text = read_whole(path, LARGEST_TABLE).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"There is no {kind} at {path}; check the name.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no UTF-8 text; save the table as 'CSV UTF-8'.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read as a CSV table ({error.strerror or error}).") from None
    return parse_table(text, str(path))


def parse_table(text: str, name: str) -> pd.DataFrame:
    """The table of `read_table` from its text; `name` is what errors call it."""
    header_line = text.split("\n", 1)[0]
    separator = max(",;\t", key=header_line.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(row)]
    except csv.Error as error:
        raise DataError(f"{name} cannot be read as a CSV table ({error}).") from None
    if not rows:
        raise DataError(f"{name} cannot be read as a CSV table (it is empty).")
    header = [known_column(column) for column in rows[0]]
    while header and not header[-1]:
        header.pop()
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise DataError(f"{name} names the column '{twice[0]}' twice.")
    return pd.DataFrame([_fitted(row, header) for row in rows[1:]], columns=header, dtype=object).astype(str)


def known_column(name: str) -> str:
    """The name of a column without spaces around it, in our own spelling if it is one of KNOWN."""
    name = name.strip()
    ours = re.sub(r"[\s-]+", "_", name.lower())
    return ours if ours in KNOWN else name


def _fitted(row: list[str], header: list[str]) -> list[str]:
    while len(row) > len(header) and not row[-1].strip():
        row = row[:-1]
    if len(row) <= len(header):
        return row + [""] * (len(header) - len(row))
    path = header.index("path") if "path" in header else 0
    told = {"age": f"more cells than columns: {','.join(row)}"}
    return [row[place] if place == path else told.get(column, "") for place, column in enumerate(header)]


def person_name(text: str) -> str:
    """A person's name as it is kept: composed characters (NFC), single spaces."""
    return " ".join(unicodedata.normalize("NFC", str(text)).split())


def person_key(text: str) -> str:
    """What two spellings of one name have in common: composed characters, no capitals."""
    return unicodedata.normalize("NFC", person_name(text).casefold())


def is_group(name: str) -> bool:
    """Whether this is the common name of copies of one image, and no person."""
    return name.startswith(GROUP_PREFIX)
