"""When a photo was taken, and how old somebody was then: from EXIF, from names of files and folders, from a table."""

import io
import re
import warnings
from calendar import isleap
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image

from common.errors import ImageError
from common.faces.photo_files import read_bytes

YEAR = 365.2425  # days
EARLIEST = 1800  # no photo, and nobody on one, is older
WHOLE_YEAR = re.compile(r"^(\d{4})\.0+$")  # as a table writes a year that it took for a number
ISO = re.compile(r"(\d{4})(?:([-:])(\d\d?)(?:\2(\d\d?))?)?(?:[ T].*)?", re.DOTALL)
COMPACT = re.compile(r"(\d{4})()(\d\d)(\d\d)")
DAY_FIRST = re.compile(r"(\d\d?)\.\s?(\d\d?)\.\s?(\d{4})")
BY_NAME = re.compile(r"(?:(\d\d?)\s+)?([A-Za-z]{3,9})\.?\s+(\d{4})")
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
YEAR_FOLDER = re.compile(r"(?:18|19|20)\d\d")
# 1987-06, 1987-06-30 (also with _ or . between all three), 19870630; nothing within a longer number
IN_NAME = re.compile(
    r"(?<!\d)(?:(?:18|19|20)\d\d([-_.])\d\d\1\d\d|(?:18|19|20)\d\d-\d\d(?!-\d)|(?:18|19|20)\d{6})(?!\d)"
)
DECADE = re.compile(r"(?:the\s+)?(\d{3})0['’]?s", re.IGNORECASE)
ABOUT = re.compile(r"(?:abt|about|circa|ca|c|est|cal|um|~)\.?\s*(.+)", re.IGNORECASE)
BETWEEN = re.compile(
    r"(?:bet|btw|between|from)\.?\s+(.+?)\s+(?:and|to)\s+(.+)|(\d{4})\s*(?:-|–|\.\.|/)\s*(\d{4})", re.I
)
BEFORE = re.compile(r"(?:bef|before|until|to)\.?\s+(.+)|(?:<=?)\s*(.+)", re.IGNORECASE)
AFTER = re.compile(r"(?:aft|after|since|from)\.?\s+(.+)|(?:>=?)\s*(.+)", re.IGNORECASE)
ROUGHLY = timedelta(days=round(3 * YEAR))  # what ABOUT adds on both sides
LONGEST_TEXT = 60  # characters of a stated date
UNDATED = (
    "no age: its photo date is not known; date it by EXIF, by a folder or name like 1987 or 1987-06, by photo_date "
    "in a CSV, by --year-pattern, or give its age by --age-pattern"
)


class Span(NamedTuple):
    """The first and the last day that a date stated as a day, a month or a year can mean."""

    first: date
    last: date

    @property
    def middle(self) -> date:
        """The day in the middle of it."""
        return self.first + (self.last - self.first) / 2


def parse_span(text: str) -> Span:
    """The days that a date can mean: 1987-06-30, 1987:06:30 (EXIF), 19870630, 30.6.1987 (day first), 1987-06 or 1987.

    Months may have English names, as in GEDCOM: 30 JUN 1987, June 1987. Raises ValueError for anything else, and for
    days that there never were.
    """
    text = WHOLE_YEAR.sub(r"\1", str(text).strip("\0 \t\r\n"))
    shown = f"'{text[:40]}'"
    if match := DAY_FIRST.fullmatch(text):
        day, month, year = (int(part) for part in match.groups())
    elif match := ISO.fullmatch(text) or COMPACT.fullmatch(text):
        year, month, day = int(match[1]), int(match[3] or 0), int(match[4] or 0)
    elif (match := BY_NAME.fullmatch(text)) and (month := _month(match[2])):
        year, day = int(match[3]), int(match[1] or 0)
    else:
        raise ValueError(f"{shown} is no date like 1987-06-30, 30.6.1987 or 1987")
    if year < EARLIEST:
        raise ValueError(f"{shown} is an impossible date")
    try:
        if not month:
            return Span(date(year, 1, 1), date(year, 12, 31))
        if day:
            return Span(date(year, month, day), date(year, month, day))
        following = date(year + month // 12, month % 12 + 1, 1)
        return Span(date(year, month, 1), following - timedelta(days=1))
    except ValueError:
        raise ValueError(f"{shown} is an impossible date") from None


def _month(name: str) -> int:
    """Number of the month that an English name of three letters or more begins, 0 for another word."""
    return next((number for number, month in enumerate(MONTHS, 1) if month.startswith(name.lower())), 0)


class Period(NamedTuple):
    """When something was as people state it: first and last day, None where it is open; about: the ends are soft."""

    first: date | None
    last: date | None
    about: bool = False


def parse_period(text: str) -> Period:
    """The days that a date, an interval or a phrase of genealogists (GEDCOM) can mean.

    Beside what `parse_span` reads: 1970s, ABT 1931, BET 1920 AND 1925, 1920-1925, before 2004, AFT 1950. "before 2004"
    ends with 2003, "after 1950" begins with 1951. Raises ValueError for anything else.

    Examples
    --------
    >>> parse_period("1970s").last, parse_period("before 2004").first
    (datetime.date(1979, 12, 31), None)
    """
    text = " ".join(str(text).strip("\0 \t\r\n").split())
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"'{text[:40]}' is no date like 1987-06-30, 1970s or BET 1920 AND 1925")
    try:
        return _period(text)
    except OverflowError:  # beyond the year 9999
        raise ValueError(f"'{text}' is an impossible date") from None


def _period(text: str) -> Period:
    if match := DECADE.fullmatch(text):
        return Period(parse_span(f"{match[1]}0").first, parse_span(f"{match[1]}9").last)
    if match := BETWEEN.fullmatch(text):
        first, last = (parse_period(part) for part in (match[1] or match[3], match[2] or match[4]))
        if first.first is None or last.last is None or first.first > last.last:
            raise ValueError(f"'{text}' ends before it begins")
        return Period(first.first, last.last)
    if match := BEFORE.fullmatch(text):
        return Period(None, parse_span(match[1] or match[2]).first - timedelta(days=1))
    if match := AFTER.fullmatch(text):
        return Period(parse_span(match[1] or match[2]).last + timedelta(days=1), None)
    if match := ABOUT.fullmatch(text):
        span = parse_span(match[1])
        return Period(span.first - ROUGHLY, span.last + ROUGHLY, about=True)
    return Period(*parse_span(text))


def parse_date(text: str) -> date:
    """The middle of `parse_period`; raises ValueError, also for a period that is open on one side."""
    first, last, _ = parse_period(text)
    if first is None or last is None:
        raise ValueError(f"'{str(text)[:40]}' is open on one side, it has no middle")
    return Span(first, last).middle


def decimal_year(day: date) -> float:
    """A day as a year with its part, 1987.0 being the first of January.

    Examples
    --------
    >>> decimal_year(date(1987, 1, 1)), round(decimal_year(date(1987, 7, 2)), 1)
    (1987.0, 1987.5)
    """
    return day.year + (day.timetuple().tm_yday - 1) / (366 if isleap(day.year) else 365)


def age_between(birth: str, photo: str) -> float | str:
    """Age in years at the photo, or why it is unknown."""
    if not birth.strip():
        return "no age: its birth date is not known"
    if not photo.strip():
        return UNDATED
    try:
        born, taken = parse_span(birth), parse_span(photo)
    except ValueError as error:
        return f"no age: {error}"
    if taken.first > date.today() + timedelta(days=1):  # a day for the time zones
        return f"impossible date: '{photo.strip()}' is in the future"
    if taken.last < born.first:
        return f"impossible date: '{photo.strip()}' is before the birth on {birth.strip()}"
    return max(0.0, (taken.middle - born.middle).days / YEAR)


def exif_date(path: Path, trust_edit_date: bool = False) -> str:
    """The date an image was taken as its camera wrote it (DateTimeOriginal, DateTimeDigitized), '' if it did not.

    `trust_edit_date` also takes DateTime, which programs set when they edit or scan an image.
    """
    try:
        return exif_date_of(read_bytes(path, str(path)), trust_edit_date)
    except ImageError:
        return ""


def exif_date_of(data: bytes, trust_edit_date: bool = False) -> str:
    """As `exif_date`, of the bytes of an image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                exif = image.getexif()
            taken = exif.get_ifd(ExifTags.IFD.Exif)
        stated = [taken.get(ExifTags.Base.DateTimeOriginal), taken.get(ExifTags.Base.DateTimeDigitized)]
        stated += [exif.get(ExifTags.Base.DateTime)] if trust_edit_date else []
        texts = [str(text).strip("\0 ") for text in stated if text]
        return next((text for text in texts if re.search("[1-9]", text)), "")  # "0000:00:00 …" is a camera's unknown
    except Exception:  # whatever a broken or hostile header makes a decoder raise: no date
        return ""


def name_date(parts: tuple[str, ...], pattern: re.Pattern | None = None) -> str:
    """The date that a file's name, or else the innermost of its folders that has one, states; '' if none does.

    `parts` are its folders and its name. `pattern` reads it (its group) from the name instead. Raises ValueError
    if name and folder contradict each other, or for a `pattern` that finds no date.
    """
    *folders, name = parts
    if pattern and (match := pattern.search(name)):
        if not match[1]:
            raise ValueError(f"--year-pattern finds no year in '{name}'")
        return match[1]
    of_name = IN_NAME.search(name)
    dates = [folder_date(folder) for folder in reversed(folders)]
    of_folder = next((found for found in dates if found), "")
    if not of_name:
        return of_folder
    if of_folder and of_folder[:4] != of_name[0][:4]:
        raise ValueError(f"its name says {of_name[0][:4]} and its folder {of_folder[:4]}")
    return re.sub("[_.]", "-", of_name[0])


def folder_date(folder: str) -> str:
    """The date that a folder's name states (1987, 1987-06 Summer), '' if it states none."""
    if YEAR_FOLDER.fullmatch(folder.strip()):
        return folder.strip()
    match = IN_NAME.search(folder)
    return re.sub("[_.]", "-", match[0]) if match else ""
