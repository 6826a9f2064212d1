"""What a folder or a table says of the images that are to enter a bank: files, ages, people."""

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.births import read_births
from common.data.dates import UNDATED, age_between, exif_date, folder_date, name_date
from common.data.labels import known_column, parse_age, parse_ages, person_key, person_name, read_table
from common.data.manifest import renamed
from common.errors import DataError
from common.faces.photo_files import list_pictures, not_looked_at

BY_EXIF, BY_NAME = "EXIF", "name"


@dataclass(frozen=True)
class Picture:
    """One image to enter: its file, the name it is reported by, its age in years (or why there is none), person.

    `dated` says what its date was read from (BY_EXIF, BY_NAME), if one was.
    """

    file: Path
    name: str
    age: float | str
    person: str
    dated: str = ""


def expression(text: str) -> re.Pattern:
    """A regular expression with one group, for argparse; raises argparse.ArgumentTypeError saying what is wrong."""
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no regular expression ({error}).") from None
    if not pattern.groups:
        raise argparse.ArgumentTypeError(rf"'{text}' has no group; put the number in brackets, as in '_(\d+)y'.")
    if pattern.groups > 1:
        wrong = f"'{text}' has {pattern.groups} groups; leave brackets around the number alone, (?:…) around the rest."
        raise argparse.ArgumentTypeError(wrong)
    return pattern


def list_sources(arguments: argparse.Namespace) -> list[Picture]:
    """The images of a folder or of a CSV; raises DataError if these say no ages at all."""
    pictures = pictures_of_folder(arguments) if arguments.source.is_dir() else pictures_of_table(arguments)
    if not pictures:
        raise DataError(f"{arguments.source} names no images.")
    for source in (BY_EXIF, BY_NAME):
        count = sum(picture.dated == source for picture in pictures)
        if count:
            print(f"{count} dated by {source}")
    return pictures


def births_by_key(path: Path | None, people: Iterable[str]) -> dict[str, str]:
    """Birth dates as texts by `person_key`, of a CSV or a family tree; raises DataError as `read_births`."""
    if path is None:
        return {}
    stated, remarks, refused = read_births(path, people)
    print("".join(f"{said}\n" for said in remarks + refused), end="", file=sys.stderr)
    return {person_key(name): text for name, text in stated.items()}


def pictures_of_table(arguments: argparse.Namespace) -> list[Picture]:
    """Images named by a CSV, whose paths are relative to it; dates it does not state are looked for in the photos."""
    table = own_columns(read_table(arguments.source), arguments)
    births = births_by_key(arguments.births, table["person"] if "person" in table.columns else ())
    by_date = "birth_date" in table.columns or arguments.births is not None
    if "path" not in table.columns or not (by_date or {"age", "age_min", "age_max"} & set(table.columns)):
        raise DataError(
            f"{arguments.source} needs the columns 'path' and 'age' (or birth_date and photo_date); it has "
            f"{', '.join(table.columns)}. Name them with --column age=THEIRS."
        )
    ages = parse_ages(table)
    pictures = []
    for row, cells in enumerate(table.to_dict("records")):
        file, person = arguments.source.parent / cells["path"].strip(), person_name(cells.get("person", ""))
        age, dated = ages.problems.get(row) or stated_age(ages.values[row]), ""
        if age is None:
            birth = cells.get("birth_date", "").strip() or births.get(person_key(person), "")
            parts = Path(cells["path"].strip()).parts
            age, dated = age_of_file(file, parts, birth, arguments, cells.get("photo_date", "").strip())
            age = age if by_date else "no age: its cell is empty"
        name = cells["path"].strip() or f"row {row + 1} of {arguments.source.name}, without a path"
        pictures.append(Picture(file, name, age, person, dated))
    return pictures


def own_columns(table: pd.DataFrame, arguments: argparse.Namespace) -> pd.DataFrame:
    """A table with the columns that --column names under our names; raises DataError."""
    if any("=" not in pair for pair in arguments.column):
        raise DataError("--column must look like age=THEIR_NAME.")
    columns = dict(pair.split("=", 1) for pair in arguments.column)
    ours = {name: theirs if theirs in table.columns else known_column(theirs) for name, theirs in columns.items()}
    for name, theirs in ours.items():
        if theirs not in table.columns:
            raise DataError(f"{arguments.source} has no column '{theirs}'; it has {', '.join(table.columns)}.")
        if name != theirs and name in table.columns:
            table = table.drop(columns=name)
    return renamed(table, ours, str(arguments.source))


def stated_age(numbers: np.ndarray) -> float | str | None:
    """The exact age of age, age_min, age_max [3] float; what is wrong with an interval; None if nothing is stated."""
    exact, low, high = numbers.tolist()
    if exact == exact:
        return exact
    if low != low and high != high:
        return None
    stated = f"{low:g} to {high:g}" if low == low and high == high else f"{low:g}+" if low == low else f"up to {high:g}"
    return f"no age: {stated} is an interval, and a bank needs an exact age"


def pictures_of_folder(arguments: argparse.Namespace) -> list[Picture]:
    """Images of a folder; one below a folder within it shows the person of that folder's name (if it is no date)."""
    if not (arguments.births or arguments.age_pattern):
        raise DataError("A folder needs ages: give --births CSV or --age-pattern REGEX (or a CSV as --source).")
    listing, pictures = list_pictures(arguments.source), []
    for said in (not_looked_at(listing), *(f"{folder}: {why}" for folder, why in listing.unreadable.items())):
        if said:
            print(said, file=sys.stderr)
    names = [file.relative_to(arguments.source) for file in listing.files]
    people = [person_name(next((part for part in name.parts[:-1] if not folder_date(part)), "")) for name in names]
    if not any(people):
        print(f"nobody is named: people are named by folders in {arguments.source}; is it itself one?", file=sys.stderr)
    births = births_by_key(arguments.births, people)
    for file, name, person in zip(listing.files, names, people, strict=True):
        parts = (arguments.source.resolve().name, *name.parts)
        age, dated = age_of_file(file, parts, births.get(person_key(person), ""), arguments)
        pictures.append(Picture(file, str(name), age, person, dated))
    return pictures


def age_of_file(
    file: Path, parts: tuple[str, ...], birth: str, arguments: argparse.Namespace, taken: str = ""
) -> tuple[float | str, str]:
    """Age of who is shown, or the reason why there is none, and what the date was read from.

    The photo's date is `taken`, else of EXIF, else of its name or folders (`parts`); the age is that between `birth`
    and this date, and what --age-pattern finds in the name where one of both is not known.
    """
    dated, problem = "", ""
    if birth and not taken:
        taken = exif_date(file, arguments.trust_edit_date)
        dated = BY_EXIF if taken else ""
    if birth and not taken:
        try:
            taken = name_date(parts, arguments.year_pattern)
            dated = BY_NAME if taken else ""
        except ValueError as error:
            problem = f"no age: {error}"
    if (birth and taken) or problem:
        age = problem or age_between(birth, taken)
        return (age, "") if isinstance(age, str) else (age, dated)
    if arguments.age_pattern:
        return _age_in_name(parts[-1], arguments.age_pattern), ""
    return (UNDATED if birth else "no age: its birth date is not known"), ""


def _age_in_name(name: str, pattern: re.Pattern) -> float | str:
    match = pattern.search(name)
    if not match:
        return "no age: its name does not match --age-pattern"
    try:
        age = stated_age(np.array(parse_age(match[1] or "")))
    except ValueError as error:
        return f"no age: {error}"
    return "no age: --age-pattern finds no number in it" if age is None else age
