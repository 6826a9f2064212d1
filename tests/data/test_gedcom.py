"""Births from family trees: names that match or do not, dates as they become intervals, and files of enemies."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from common.data import gedcom
from common.data.births import read_births
from common.data.dates import Period, parse_period
from common.errors import DataError
from common.files import REPOSITORY

HEADER = "0 HEAD\n1 SOUR test\n1 GEDC\n2 VERS 5.5.1\n1 CHAR {}\n"
PEOPLE = """0 @I1@ INDI
1 NAME Anna /Huber/
2 NICK Nannerl
1 BIRT
2 PLAC Wien
2 DATE 12 MAR 1931
2 DATE 1950
1 DEAT
2 DATE 2001
0 @I2@ INDI
1 NAME Zoë Marie /Müller/
1 NAME Zoë /Huber/
1 BIRT
2 DATE ABT 1931
0 @I3@ INDI
1 NAME Karl /Huber/
1 BIRT
2 DATE 1901
0 @I4@ INDI
1 NAME Karl /Huber/ Jr.
1 BIRT
2 DATE BET 1920 AND 1925
0 @I5@ INDI
1 NAME Karl /Maier/
0 @I6@ INDI
1 NAME /Straße/ Iwan
1 BIRT
2 DATE @#DJULIAN@ 12 MAR 1899
0 @F1@ FAM
1 HUSB @I3@
1 MARR
2 DATE 1900
0 TRLR
"""


def tree(folder: Path, people: str = PEOPLE, encoding: str = "UTF-8", name: str = "family.ged") -> Path:
    path = folder / name
    path.write_text(HEADER.format(encoding) + people, encoding="utf-8")
    return path


def one(folder: Path, born: str) -> gedcom.Births:
    return read_births(tree(folder, f"0 @I1@ INDI\n1 NAME Ada /Ray/\n1 BIRT\n2 DATE {born}\n0 TRLR\n"), ["Ada"])


@pytest.mark.parametrize(
    ("name", "born"),
    [
        ("Anna Huber", "12 MAR 1931"), ("ANNA  huber", "12 MAR 1931"), ("anna", "12 MAR 1931"),
        ("Nannerl", "12 MAR 1931"), ("nannerl huber", "12 MAR 1931"), ("Zoe Marie Muller", "ABT 1931"),
        ("zoe\u0308 hu\u0308ber", "ABT 1931"), ("zoe marie", "ABT 1931"), ("Karl Huber Jr.", "BET 1920 AND 1925"),
    ],
)  # fmt: skip
def test_names_match_in_full_or_by_a_given_name_that_is_unique(tmp_path, name, born):
    births = read_births(tree(tmp_path), [name, "", name.upper()])
    assert list(births.stated.values()) == [born] and births.refused == []


def test_a_match_by_given_name_and_people_without_a_birth_are_said_once(tmp_path):
    path = tree(tmp_path)
    births = read_births(path, ["anna", "Karl Maier", "Otto", "otto", "Hube", *"cdefg"])
    assert births == (
        {"anna": "12 MAR 1931"},
        [
            f"{path}: nobody is called Hube, Otto, c, d, e and 2 more",
            f"{path}: no birth date of Karl Maier",
            f"{path}: by given name or nickname alone, anna is Anna Huber (born 12 MAR 1931)",
        ],
        [],
    )


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("karl huber", "2 people of that name, Karl Huber (born 1901), Karl Huber Jr. (born BET 1920 AND 1925);"),
        ("Karl", "3 people of that name, Karl Huber (born 1901), Karl Huber Jr. (born BET 1920 AND 1925), Karl M"),
    ],
)  # fmt: skip
def test_an_ambiguous_name_is_refused_with_its_candidates(tmp_path, name, candidates):
    stated, remarks, refused = read_births(tree(tmp_path), [name, "Anna Huber"])
    assert stated == {"Anna Huber": "12 MAR 1931"} and remarks == [] and len(refused) == 1
    assert refused[0].startswith(f"{name}: ") and candidates in refused[0]
    assert refused[0].endswith("; use the full name or a CSV of births; it is taken as unknown")


@pytest.mark.parametrize(
    ("born", "period"),
    [
        ("12 MAR 1931", Period(date(1931, 3, 12), date(1931, 3, 12))),
        ("MAR 1931", Period(date(1931, 3, 1), date(1931, 3, 31))),
        ("1931", Period(date(1931, 1, 1), date(1931, 12, 31))),
        ("ABT 1931", Period(date(1928, 1, 1), date(1934, 12, 31), True)),
        ("EST 1931", Period(date(1928, 1, 1), date(1934, 12, 31), True)),
        ("INT 1931 (a (very) old letter)", Period(date(1928, 1, 1), date(1934, 12, 31), True)),
        ("BET 1920 AND 1925", Period(date(1920, 1, 1), date(1925, 12, 31))),
        ("FROM MAR 1920 TO 3 JUN 1925", Period(date(1920, 3, 1), date(1925, 6, 3))),
        ("BEF 1940", Period(None, date(1939, 12, 31))),
        ("AFT 12 MAR 1931", Period(date(1931, 3, 13), None)),
        ("@#DGREGORIAN@ 12 MAR 1931", Period(date(1931, 3, 12), date(1931, 3, 12))),
        ("BET GREGORIAN 1920 AND GREGORIAN 1925", Period(date(1920, 1, 1), date(1925, 12, 31))),
        ("1970s", Period(date(1970, 1, 1), date(1979, 12, 31))),
    ],
)
def test_dates_become_the_intervals_of_the_album(tmp_path, born, period):
    assert parse_period(one(tmp_path, born).stated["Ada"]) == period


@pytest.mark.parametrize(
    "born", ["@#DJULIAN@ 12 MAR 1899", "BET @#DHEBREW@ TSH 5680 AND 1925", "@#DFRENCH R@ 3 VENT 8", "JULIAN 1899"]
)
def test_other_calendars_are_refused_per_person(tmp_path, born):
    assert one(tmp_path, born) == (
        {}, [], [f"Ada: '{born}' is no date of the Gregorian calendar; it is taken as unknown"],
    )  # fmt: skip


@pytest.mark.parametrize("born", ["", "UNKNOWN", "31 FEB 1931", "12 MAR 44 B.C.", "(in the war)", "9" * 5000])
def test_what_is_no_date_stays_unread(tmp_path, born):
    said = one(tmp_path, born)
    assert said.refused == [] and len(said.stated) == bool(born)
    with pytest.raises(ValueError, match="no date|impossible"):
        parse_period(said.stated.get("Ada", ""))


def test_encodings_line_ends_and_blank_lines(tmp_path):
    path, text = tmp_path / "Family.GED", PEOPLE.replace("\n", "\r\n\r\n")
    for codec, said in (("cp1252", "ANSI"), ("utf-8-sig", "UTF-8"), ("utf-8", "UTF-8"), ("utf-8", "ANSEL")):
        path.write_bytes((HEADER.format(said) + text).encode(codec) + b"\r\n\x1a")
        assert read_births(path, ["Zoë Marie Müller"]).stated == {"Zoë Marie Müller": "ABT 1931"}
    path.write_text("0 HEAD\r1 GEDC\r2 VERS 7.0\r" + PEOPLE.replace("\n", "\r"), encoding="utf-8", newline="")
    assert read_births(path, ["zoe marie muller"]).stated == {"zoe marie muller": "ABT 1931"}
    ansel = (HEADER.format("ANSEL") + PEOPLE).encode("utf-8").replace("ë".encode(), b"\xe8e")
    path.write_bytes(ansel.replace("ü".encode(), b"\xe8u").replace("ß".encode(), b"\xcf"))
    assert str(gedcom.read_individuals(path)[1]) == "Zoë Marie Müller (born ABT 1931)"


def test_cycles_and_long_notes_cost_nothing(tmp_path):
    note = "1 NOTE x\n" + "2 CONC " + "\n2 CONC ".join(["y" * 200] * 20_000) + "\n"
    cycle = "1 FAMC @F1@\n1 ASSO @I1@\n1 NOTE @N1@\n0 @F1@ FAM\n1 CHIL @I1@\n1 HUSB @I1@\n0 @N1@ NOTE @N1@\n"
    path = tree(tmp_path, f"0 @I1@ INDI\n1 NAME Ada /Ray/\n{note}1 BIRT\n2 DATE 1931\n{cycle}0 TRLR\n")
    assert read_births(path, ["Ada"]).stated == {"Ada": "1931"}


def test_a_tree_is_read_anew_each_time(tmp_path):
    assert one(tmp_path, "1931").stated == {"Ada": "1931"}
    assert one(tmp_path, "1932").stated == {"Ada": "1932"}


def test_names_of_strangers_cannot_write_to_the_terminal(tmp_path):
    people = "".join(f"0 @I{n}@ INDI\n1 NAME Ada\x1b[2J\u202e /{'x' * 5000}/\n" for n in range(2))
    said = read_births(tree(tmp_path, people), ["Ada [2J"]).refused[0]
    assert "\x1b" not in said and "\u202e" not in said and len(said) < 600


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no GEDCOM file"), (bytes(range(256)) * 99, "is no GEDCOM file"), (b"person,born\nAda,1\n", "no GED"),
        (b"0 HEAD", "cannot|no GEDCOM"), (b"0 HEAD\n1 CHAR UTF-8\n0 TRLR\n", "names nobody"),
        (b"0 HEAD\n1 CHAR UTF-8\n0 INDI\n1 SEX F\n0 TRLR\n", "names nobody"),
        (b"0 HEAD\n1 CHAR UTF-8\n0 INDI\n1 NAME M\xfcller\n", "that is not utf-8"),
        (b"0 HEAD\n1 CHAR ANSEL\n0 INDI\n1 NAME \x81\xff\xfe\n", "that is not ANSEL"),
        ("0 HEAD\n1 CHAR UNICODE\n0 INDI\n".encode("utf-16"), "UTF-16"), (b"0 HEAD\n1 CHAR orc\n0 INDI\n", "orc"),
        (b"0 HEAD\n1 CHAR punycode\n0 INDI\n", "punycode"), (b"0 HEAD\n1 CHAR zlib\n0 INDI\n", "written in zlib"),
        (b"0 HEAD\n1 CHAR UTF-8\n0 INDI\n3 NAME A\n", "illegal level nesting at line 4"),
        (b"0 HEAD\n1 CHAR UTF-8\n0 INDI\n1 NAME A\nno level\n", "Invalid syntax at line 5"),
        (b"0 HEAD\n1 CHAR UTF-8\n" + b"1" * 90_000 + b"!\n", "line 3 is too long, or begins"),
        (b"0 HEAD\n1 CHAR UTF-8\n1 NOTE " + b"x" * 2**20 + b"\n", "line 3 is too long, or begins"),
        (b"0 HEAD\n1 CHAR UTF-8\n\xff\xfe\x00\x80\n\x00", "no GEDCOM file that can be read"),
        (b"0 HEAD\n1 CHAR UTF-8\n0 @I\xff@ INDI\n", "not utf-8"),
    ],
)  # fmt: skip
def test_a_broken_or_hostile_file_is_one_sentence(tmp_path, content, said):
    (tmp_path / "f.ged").write_bytes(content)
    with pytest.raises(DataError, match=said) as raised:
        read_births(tmp_path / "f.ged", ["Ada"])
    assert str(raised.value).count("\n") == 0 and len(str(raised.value)) < 400


def test_files_that_are_none_or_too_large_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="There is no family tree at"):
        read_births(tmp_path / "no.ged", [])
    os.mkfifo(tmp_path / "pipe.ged")
    for path in (tmp_path / "pipe.ged", tmp_path / "folder.ged"):
        (tmp_path / "folder.ged").mkdir(exist_ok=True)
        with pytest.raises(DataError, match="is no regular file"):
            read_births(path, [])
    with (tmp_path / "large.ged").open("wb") as file:
        file.truncate(gedcom.LARGEST + 1)
    with pytest.raises(DataError, match="is larger than 64 MB"):
        read_births(tmp_path / "large.ged", [])
    monkeypatch.setattr(gedcom, "MOST_NAMES", 13)
    with pytest.raises(DataError, match="more than 13 people"):
        read_births(tree(tmp_path), [])


def test_ged4py_is_imported_for_a_tree_alone_and_its_absence_names_the_command(tmp_path, monkeypatch):
    path = tree(tmp_path)
    script = "import sys, AlbumPipeline.AlbumPipeline__infer2, common.data.gedcom; print('ged4py' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    monkeypatch.setitem(sys.modules, "ged4py.parser", None)
    with pytest.raises(DataError, match=f"{path} is read by ged4py; install it: pip install ged4py"):
        read_births(path, ["Anna"])
