"""Birth dates that a table or a family tree states of people: one for each, or an error that names both."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from common.data.dates import parse_period
from common.data.gedcom import Births, births_in_tree
from common.data.labels import person_key, person_name, read_table
from common.errors import DataError

COLUMNS = ("born", "birth_date")
TREE = ".ged"  # ends the name of a family tree, in any case


def read_births(path: str | Path, people: Iterable[str]) -> Births:
    """Births of a CSV (columns person and born or birth_date), or of these people in a family tree (.ged).

    Raises DataError for a file that cannot be read, and for a CSV as `births_of`.
    """
    if Path(path).suffix.lower() == TREE:
        return births_in_tree(path, people)
    return Births(births_of(read_table(path, "table of people"), path), [], [])


def births_of(table: pd.DataFrame, path: str | Path) -> dict[str, str]:
    """Births as written, by person, of a table's columns `person` (`name`) and `born` or `birth_date`.

    Empty ones are left out. A person goes by the first spelling of the name. Raises DataError naming `path` without
    these columns, and for people with two different births.
    """
    if "person" not in table.columns:
        table = table.rename(columns={name: "person" for name in table.columns if name.lower() == "name"})
    columns = [name for name in COLUMNS if name in table.columns]
    if "person" not in table.columns or not columns:
        raise DataError(
            f"{path} needs the columns person and born (or birth_date); it has {', '.join(table.columns)}: rename them."
        )
    births: dict[str, str] = {}
    spelling: dict[str, str] = {}
    twice = []
    for column in columns:
        for name, text in zip(table["person"], table[column].str.strip(), strict=True):
            key = person_key(name)
            if key and text and not _same(births.setdefault(spelling.setdefault(key, person_name(name)), text), text):
                twice.append(f"{person_name(name)} ({births[spelling[key]]} and {text})")
    if twice:
        raise DataError(f"{path} has two birth dates of {', '.join(dict.fromkeys(twice))}; leave the right one in it.")
    return births


def _same(first: str, second: str) -> bool:
    try:
        return first == second or parse_period(first) == parse_period(second)
    except ValueError:
        return False
