"""Ages, names and tables as people write them."""

import math

import pytest

from common.data.labels import parse_age, parse_ages, person_key, read_table
from common.errors import DataError


@pytest.mark.parametrize(
    ("text", "age", "low", "high"),
    [
        ("25", 25, None, None), (" 25.5 ", 25.5, None, None), ("0", 0, None, None), ("25-32", None, 25, 32),
        ("25 – 32", None, 25, 32), ("(25, 32)", None, 25, 32), ("[25,32]", None, 25, 32), ("25 to 32", None, 25, 32),
        ("70+", None, 70, None), (">=70", None, 70, None), ("NaN", None, None, None), ("None", None, None, None),
        ("", None, None, None), ("25-25", 25, None, None),
    ],
)  # fmt: skip
def test_readable_ages(text, age, low, high):
    for value, expected in zip(parse_age(text), (age, low, high), strict=True):
        assert math.isnan(value) if expected is None else value == expected


@pytest.mark.parametrize("text", ["-1", "2014", "inf", "1e30", "young", "25,5", "32-25", "(25, 2014)", "25-32-40"])
def test_unreadable_ages_say_so(text):
    with pytest.raises(ValueError, match="age|interval"):
        parse_age(text)


def test_a_bad_cell_costs_its_row_alone(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes("\ufeffPath ; AGE;Photo Date;;\na.jpg;31;;;\nb.jpg;(25, 32);;;\nc.jpg;2014;;;\n".encode())
    table = read_table(path)
    assert list(table.columns) == ["path", "age", "photo_date"]
    ages = parse_ages(table)
    assert ages.values[0, 0] == 31 and ages.values[1, 1:].tolist() == [25, 32]
    assert list(ages.problems) == [2] and "impossible age 2014" in ages.problems[2]


def test_trailing_and_surplus_cells_never_shift_a_row(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("path,age\na.jpg,31,\nb.jpg,(25, 32)\nc.jpg,40\nd.jpg\n")
    table = read_table(path)
    assert table["path"].tolist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    ages = parse_ages(table)
    assert ages.values[:, 0].tolist()[::2] == [31, 40] and list(ages.problems) == [1]
    path.write_text("path,age,Age\na.jpg,1,2\n")
    with pytest.raises(DataError, match="'age' twice"):
        read_table(path)


def test_one_name_in_two_spellings_is_one_person():
    assert person_key("Zoe\u0308") == person_key("ZO\u00cb ") != person_key("Zoe")
