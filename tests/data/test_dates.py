"""When a photo was taken: dates as people, cameras and folders write them, and dates that cannot be."""

import struct
from datetime import date

import pytest
from PIL import ExifTags, Image

from common.data.dates import (
    age_between,
    decimal_year,
    exif_date,
    folder_date,
    name_date,
    parse_date,
    parse_period,
    parse_span,
)  # fmt: skip

TAKEN, DIGITIZED, EDITED = (
    ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTimeDigitized, ExifTags.Base.DateTime,
)  # fmt: skip


def photo(path, dates: dict[int, str]):
    exif = Image.Exif()
    for tag, text in dates.items():
        (exif if tag == EDITED else exif.get_ifd(ExifTags.IFD.Exif))[tag] = text
    Image.new("RGB", (32, 32)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("1987-06-30", date(1987, 6, 30)), ("1987:06:30 12:00:01", date(1987, 6, 30)), ("19870630", date(1987, 6, 30)),
        ("30.6.1940", date(1940, 6, 30)), ("3.6.1940", date(1940, 6, 3)), ("1987-06", date(1987, 6, 15)),
        ("1987", date(1987, 7, 2)), ("1987-02", date(1987, 2, 14)), (" 1987 ", date(1987, 7, 2)),
        ("1987:06:00 00:00:00", date(1987, 6, 15)), ("1987-12", date(1987, 12, 16)),
        ("30 JUN 1987", date(1987, 6, 30)), ("June 1987", date(1987, 6, 15)), ("3 Sept. 1940", date(1940, 9, 3)),
    ],
)  # fmt: skip
def test_dates_as_they_are_written(text, day):
    assert parse_date(text) == day


@pytest.mark.parametrize("text", ["1987-13-01", "30.2.1987", "1987-02-30", "0000-01-01", "31.6.1940", "19871330"])
def test_days_that_never_were_are_impossible(text):
    with pytest.raises(ValueError, match=f"'{text}' is an impossible date"):
        parse_span(text)


@pytest.mark.parametrize(
    "text", ["6/30/1940", "about 1980", "30.6.40", "", "1987-06-30-01", "Mayor 1987", "30 Ju 1987", "1" * 5000]
)
def test_other_texts_are_no_dates(text):
    with pytest.raises(ValueError, match="is no date like 1987-06-30"):
        parse_span(text)


def test_a_year_that_a_table_took_for_a_number_is_a_year():
    assert parse_span("1952.0") == parse_span("1952")
    with pytest.raises(ValueError, match="1952.5"):
        parse_span("1952.5")


def test_ages_from_dates():
    assert age_between("1980-06-30", "2000-06-30") == pytest.approx(20, abs=0.001)
    assert age_between("30.6.1980", "2000-06-30") == pytest.approx(20, abs=0.001)
    assert age_between("1980", "2000:01:02 10:11:12") == pytest.approx(19.5, abs=0.01)
    assert age_between("", "2000") == "no age: its birth date is not known"
    assert age_between("about 1980", "2000") == "no age: 'about 1980' is no date like 1987-06-30, 30.6.1987 or 1987"


def test_a_year_that_overlaps_the_birth_is_age_0_and_earlier_or_future_dates_are_impossible():
    assert age_between("2000-10-01", "2000") == 0.0
    assert age_between("2000", "1999-12-31") == "impossible date: '1999-12-31' is before the birth on 2000"
    assert age_between("1980", "2999-01-01") == "impossible date: '2999-01-01' is in the future"


def test_no_date_names_the_ways_out():
    said = age_between("1980", "")
    for way in (
        "its photo date is not known",
        "EXIF",
        "folder",
        "1987-06",
        "photo_date",
        "--year-pattern",
        "--age-pat",
    ):
        assert way in said


def test_the_date_of_editing_counts_only_on_request(tmp_path):
    edited = photo(tmp_path / "scan.jpg", {EDITED: "2019:05:01 10:00:00"})
    assert exif_date(edited) == "" and exif_date(edited, trust_edit_date=True) == "2019:05:01 10:00:00"
    taken = photo(tmp_path / "a.jpg", {EDITED: "2019:05:01 10:00:00", TAKEN: "1999:05:01 10:00:00"})
    assert exif_date(taken) == exif_date(taken, trust_edit_date=True) == "1999:05:01 10:00:00"
    assert exif_date(photo(tmp_path / "b.jpg", {DIGITIZED: "2001:01:01 00:00:00"})) == "2001:01:01 00:00:00"
    unknown = photo(tmp_path / "c.jpg", {TAKEN: "0000:00:00 00:00:00", DIGITIZED: "    :  :     :  :  "})
    assert exif_date(unknown) == ""


def test_hostile_exif_is_no_date(tmp_path):
    data = bytearray(photo(tmp_path / "a.jpg", {TAKEN: "1999:05:01", EDITED: "2019:05:01"}).read_bytes())
    start = data.index(b"Exif\0\0") + 6
    for place in range(start, start + 120):
        for value in (b"\xff\xff", struct.pack(">H", 2**15), b"\0\0"):
            broken = bytearray(data)
            broken[place : place + 2] = value
            (tmp_path / "x.jpg").write_bytes(broken)
            assert isinstance(exif_date(tmp_path / "x.jpg"), str)
    assert exif_date(tmp_path / "missing.jpg") == exif_date(tmp_path) == ""
    (tmp_path / "no.jpg").write_bytes(b"no image")
    assert exif_date(tmp_path / "no.jpg") == ""


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        (("1987", "a.jpg"), "1987"), (("anna", "1987", "a.jpg"), "1987"), (("anna", "1987-06.jpg"), "1987-06"),
        (("anna", "scan 19870630 b.jpg"), "19870630"), (("1987-06 Summer", "anna", "a.jpg"), "1987-06"),
        (("1987", "1987_06_30.jpg"), "1987-06-30"), (("IMG_20190630_121212.jpg",), "20190630"),
        (("1987", "1990", "a.jpg"), "1990"), (("IMG_1987.jpg",), ""), (("anna1987", "a.jpg"), ""),
        (("DSC01987.jpg",), ""), (("1987-0612.jpg",), ""), (("20190630121212345.jpg",), ""), (("3000", "a.jpg"), ""),
    ],
)  # fmt: skip
def test_folders_and_date_patterns_in_names_count_and_bare_numbers_do_not(parts, found):
    assert name_date(parts) == found


def test_a_name_that_contradicts_its_folder_is_said():
    with pytest.raises(ValueError, match="its name says 2019 and its folder 1987"):
        name_date(("1987", "scan 2019-06-30.jpg"))
    assert folder_date("1987") == "1987" and folder_date("anna") == "" and folder_date("1987.06.30 Sea") == "1987-06-30"


@pytest.mark.parametrize(
    ("text", "first", "last", "about"),
    [
        ("1970s", date(1970, 1, 1), date(1979, 12, 31), False),
        ("the 1970's", date(1970, 1, 1), date(1979, 12, 31), False),
        ("ABT 1931", date(1928, 1, 1), date(1935, 1, 1), True),
        ("ca. 1931-05", date(1928, 5, 1), date(1934, 6, 1), True),
        ("BET 1920 AND 1925", date(1920, 1, 1), date(1925, 12, 31), False),
        ("1920-1925", date(1920, 1, 1), date(1925, 12, 31), False),
        ("from 1920 to 3.6.1940", date(1920, 1, 1), date(1940, 6, 3), False),
        ("before 2004", None, date(2003, 12, 31), False), ("BEF 1950-06-30", None, date(1950, 6, 29), False),
        ("AFT 1950", date(1951, 1, 1), None, False),
        ("BET 3 MAR 1920 AND APR 1921", date(1920, 3, 3), date(1921, 4, 30), False),
        ("1987-06", date(1987, 6, 1), date(1987, 6, 30), False),
    ],
)  # fmt: skip
def test_periods_as_genealogists_write_them(text, first, last, about):
    found = parse_period(text)
    assert found.first is not None and abs((found.first - first).days) <= 1 if first else found.first is None
    assert abs((found.last - last).days) <= 1 if last else found.last is None
    assert found.about == about


@pytest.mark.parametrize(
    "text", ["", "soon", "1925-1920", "BET 1920", "about", "x" * 5000, "before", "BET 1 AND 2", "ABT 9999"]
)
def test_other_texts_are_no_periods(text):
    with pytest.raises(ValueError, match="is no date|ends before|impossible"):
        parse_period(text)


def test_middles_and_decimal_years():
    assert parse_date("1970s") == date(1974, 12, 31) and parse_date("BET 1920 AND 1925") == date(1922, 12, 31)
    with pytest.raises(ValueError, match="open on one side"):
        parse_date("before 2004")
    assert decimal_year(date(2004, 12, 31)) == pytest.approx(2004 + 365 / 366)
