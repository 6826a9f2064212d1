"""Banks whose labels are corrected, dated, contradictory or attacked: what enters, what is left out, what is said."""

import errno
import os
import resource
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from common.difference.bank import load_bank
from common.errors import DataError
from common.files import only_writer
from scripts import build_reference_bank
from scripts.build_reference_bank import build, parse_arguments
from tests.bank_checks import Brightness, Colours, draw, words

ZOE = unicodedata.normalize("NFD", "Zoë")  # as a Mac names the folder


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    monkeypatch.setattr(build_reference_bank, "IdentityEncoder", Colours)
    monkeypatch.setattr("scripts.references.entries.threshold", lambda rate, comparisons: 0.3)


@pytest.fixture
def album(tmp_path):
    """Photos of Anna (born 1980) at 30 and 40 and of Zoë (born 1990-01-01) at 20."""
    draw(tmp_path / "album" / "anna" / "a.png", (30, 10, 10), taken="2010:07:02 12:00:00")
    draw(tmp_path / "album" / "anna" / "b.png", (40, 10, 10), taken="2020:07:02 12:00:00")
    draw(tmp_path / "album" / ZOE / "c.png", (20, 90, 10), taken="2010:01:01 12:00:00")
    (tmp_path / "births.csv").write_text("\ufeffPerson; Birth Date;\nANNA;1980;\nzoë;1.1.1990;\n", encoding="utf-8")
    return tmp_path


def made(folder, *more: str):
    births = ["--births", str(folder / "births.csv")]
    problems = build(words(folder / "album", folder / "bank.npz", *births, *more), Brightness())
    return load_bank(folder / "bank.npz", "abc"), problems


def test_births_of_any_spreadsheet_and_spelling_date_the_photos(album, capsys):
    bank, problems = made(album)
    assert not problems and sorted(bank.ages.tolist()) == pytest.approx([20, 30, 40], abs=0.01)
    assert bank.people == ["Zoë", "anna"]
    printed = capsys.readouterr().out
    assert "3 dated by EXIF\n" in printed and "3 references of 2 named people, ages 20 to 40" in printed


def test_births_of_a_family_tree_date_the_photos_and_soft_ones_leave_them_out(album, capsys):
    tree = album / "births.ged"
    tree.write_text(
        "0 HEAD\n1 CHAR UTF-8\n0 INDI\n1 NAME Anna /Huber/\n1 BIRT\n2 DATE 1980\n"
        "0 INDI\n1 NAME Zoe\n1 BIRT\n2 DATE ABT 1990\n0 TRLR\n"
    )
    problems = build(words(album / "album", album / "bank.npz", "--births", str(tree)), Brightness())
    assert load_bank(album / "bank.npz", "abc").ages.tolist() == pytest.approx([30, 40], abs=0.01)
    assert len(problems) == 1 and "'ABT 1990' is no date like 1987-06-30" in problems[0]
    said = f"{tree}: by given name or nickname alone, anna is Anna Huber (born 1980)\n"
    assert capsys.readouterr().err == said


def test_append_with_corrected_births_corrects_the_ages(album, capsys):
    before, _ = made(album)
    assert made(album, "--append")[1] == []
    assert "in the bank already: 3 of 3 images" in capsys.readouterr().out
    (album / "births.csv").write_text("person,birth_date\nanna,1985\nZoë,1990-01-01\n")
    bank, problems = made(album, "--append")
    assert not problems and sorted(bank.ages.tolist()) == pytest.approx([20, 25, 35], abs=0.01)
    printed = capsys.readouterr().out
    assert "2 ages corrected\n" in printed and "in the bank already: 1 of 3 images" in printed
    assert bank.id.tolist() == before.id.tolist()


def test_append_corrects_a_person_and_keeps_one_that_the_table_does_not_name(album, capsys):
    made(album)
    table = album / "people.csv"
    table.write_text("path,age,person\nalbum/anna/a.png,30,Annabella\nalbum/anna/b.png,40,\n")
    assert build(words(table, album / "bank.npz", "--append"), Brightness()) == []
    assert "1 person corrected\n" in capsys.readouterr().out
    assert load_bank(album / "bank.npz", "abc").people == ["Annabella", "Zoë", "anna"]


def test_a_photo_that_is_left_out_now_is_said_to_be_in_the_bank_still(album):
    made(album)
    (album / "births.csv").write_text("person,birth_date\nanna,2015\nzoë,1990-01-01\n")
    problem = made(album, "--append")[1][0]
    assert problem.startswith("anna/a.png: impossible date: '2010:07:02 12:00:00' is before the birth on 2015.")
    assert problem.endswith("(the bank keeps it from before, as 30.0 years)")


def test_append_adds_identities_where_the_bank_has_them_and_refuses_where_it_has_none(album):
    made(album, "--identities")
    draw(album / "album" / "anna" / "d.png", (35, 10, 10), taken="2015:07:02 12:00:00")
    bank, _ = made(album, "--append")
    assert bank.identity.shape == (4, 2)
    replace(bank, identity=None).save(album / "bank.npz")
    with pytest.raises(DataError, match="holds no identities, so none can be added"):
        made(album, "--append", "--identities")


def test_two_birth_dates_of_one_person_are_named(album):
    (album / "births.csv").write_text("person,birth_date\nAnna,1980\nZoë,1990\nanna ,1985\nZOË,1990-01-01\n")
    with pytest.raises(DataError, match=r"two birth dates of anna \(1980 and 1985\), ZOË \(1990 and 1990-01-01\)"):
        made(album)
    (album / "births.csv").write_text("person,birth_date\nAnna,1.7.1980\nZoë,1990-01-01\nanna,1980-07-01\n")
    assert made(album)[1] == []


def test_the_second_of_two_writers_is_refused_and_nothing_is_lost(album):
    made(album)
    whole = (album / "bank.npz").read_bytes()
    with only_writer(album / "bank.npz"), pytest.raises(DataError, match="is being written by another process"):
        made(album, "--append")
    assert (album / "bank.npz").read_bytes() == whole


def test_of_two_appends_at_once_none_is_lost(album):
    made(album)
    for name in ("x", "y"):
        draw(album / name / "anna" / f"{name}.png", (50, 10, ord(name)), taken="2030:07:02 12:00:00")
        draw(album / name / "anna" / f"{name}.png", (35, 10, ord(name)), taken="2015:07:02 12:00:00")

    def append(name: str) -> bool:
        births = ["--births", str(album / "births.csv"), "--append"]
        try:
            return build(words(album / name, album / "bank.npz", *births), Brightness()) == []
        except DataError as error:
            assert "another process" in str(error)
            return False

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(append, ["x", "y"]))
    assert any(done) and len(load_bank(album / "bank.npz", "abc")) == 3 + sum(done)


@pytest.mark.parametrize("out", ["photo.jpg", "album", "link.npz", "album/anna/a.png/bank.npz", "folder.npz"])
def test_out_never_replaces_what_is_no_bank(album, out):
    (album / "link.npz").symlink_to(album / "nothing")
    (album / "folder.npz").mkdir()
    with pytest.raises(DataError, match=r"must end in .npz|link to nothing|is no file|cannot be made"):
        build(words(album / "album", album / out, "--births", str(album / "births.csv"), "--append"), Brightness())
    assert not (album / "nothing").exists()


def test_a_read_only_place_is_one_sentence(album, monkeypatch):
    def refuse(*arguments, **more):
        raise OSError(errno.EROFS, "Read-only file system")

    births = ["--births", str(album / "births.csv")]
    with pytest.raises(DataError, match="The folder /proc/nothing of the bank cannot be made"):
        build(words(album / "album", Path("/proc/nothing/bank.npz"), *births), Brightness())
    monkeypatch.setattr("common.files.FileLock.acquire", refuse)
    with pytest.raises(DataError, match=r"bank.npz cannot be written \(Read-only file system\)"):
        build(words(album / "album", album / "bank.npz", *births), Brightness())


def test_a_full_disk_is_one_sentence_and_the_old_bank_stays_whole(album):
    before, _ = made(album)
    draw(album / "album" / "anna" / "d.png", (35, 10, 10), taken="2015:07:02 12:00:00")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        with pytest.raises(DataError, match="bank.npz cannot be written"):
            made(album, "--append")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_bank(album / "bank.npz", "abc").id.tolist() == before.id.tolist()
    assert not list(album.glob("*.partial*")) and not list(album.glob(".*partial*"))


def test_bad_cells_cost_their_row_and_an_interval_is_said(tmp_path):
    for number in range(6):
        draw(tmp_path / f"{number}.png", (30, 10, number))
    table = tmp_path / "people.csv"
    table.write_text(
        "Path;AGE ;Person;\n0.png;30;Anna;\n1.png;25-32;;\n2.png;nan;;\n3.png;2014;;\n4.png;-5;;\n5.png;31;anna;\n"
    )
    problems = build(words(table, tmp_path / "bank.npz"), Brightness())
    assert problems == [
        "1.png: no age: 25 to 32 is an interval, and a bank needs an exact age.",
        "2.png: no age: its cell is empty.",
        "3.png: impossible age 2014: ages run from 0 to 120 years.",
        "4.png: impossible age -5: ages run from 0 to 120 years.",
    ]
    bank = load_bank(tmp_path / "bank.npz", "abc")
    assert bank.people == ["Anna"] and bank.ages.tolist() == [30, 31]


def test_a_pipe_or_a_table_without_end_is_not_read(album):
    os.mkfifo(album / "births.fifo")
    with open(album / "births.sparse", "wb") as file:
        file.truncate(300 << 20)
    for name in ("births.fifo", "births.sparse"):
        for source, more in ((album / "album", ["--births", str(album / name)]), (album / name, [])):
            with pytest.raises(DataError, match=f"{name} is no table: it is no regular file of at most 256 MB"):
                build(words(source, album / "x.npz", *more), Brightness())


def test_a_column_may_be_named_as_the_table_writes_it(tmp_path):
    draw(tmp_path / "a.png", (30, 1, 1))
    table = tmp_path / "people.csv"
    table.write_text("path,Age,Alter in Jahren,Wer\na.png,99,31,anna\n")
    columns = ["--column", "age=Alter in Jahren", "--column", "person=Wer"]
    assert build(words(table, tmp_path / "x.npz", *columns), Brightness()) == []
    bank = load_bank(tmp_path / "x.npz", "abc")
    assert bank.ages.tolist() == [31] and bank.people == ["anna"]
    with pytest.raises(DataError, match="no column 'alter'; it has path, age, Alter in Jahren, Wer"):
        build(words(table, tmp_path / "y.npz", "--column", "age=alter"), Brightness())


def test_a_folder_without_pictures_is_said(album):
    (album / "empty").mkdir()
    with pytest.raises(DataError, match="empty names no images"):
        build(words(album / "empty", album / "x.npz", "--age-pattern", r"(\d)"), Brightness())


def test_birth_dates_in_a_table_with_the_dates_of_the_photos(tmp_path):
    draw(tmp_path / "a.png", (30, 1, 1), taken="2010:07:02 12:00:00")
    draw(tmp_path / "b.png", (20, 1, 1), taken="2010:07:02 12:00:00")
    table = tmp_path / "people.csv"
    table.write_text("path,birth_date,Photo Date\na.png,2.7.1980,\nb.png,1980,2.7.2000\nc.png,1980,2000-13\n")
    (problem,) = build(words(table, tmp_path / "x.npz"), Brightness())
    assert problem == "c.png: no age: '2000-13' is an impossible date."
    assert load_bank(tmp_path / "x.npz", "abc").ages.tolist() == pytest.approx([30, 20], abs=0.01)


def test_names_and_folders_date_after_exif_and_are_counted(tmp_path, capsys):
    album = tmp_path / "album"
    draw(album / "anna" / "1990" / "a.png", (10, 1, 1))
    draw(album / "anna" / "2000-06 sea.png", (20, 1, 1))
    draw(album / "2010" / "anna" / "b.png", (30, 1, 1))
    draw(album / "anna" / "1990" / "c.png", (40, 1, 1), taken="2020:07:01 12:00:00")
    draw(album / "anna" / "IMG_2005.png", (25, 1, 1))
    (tmp_path / "births.csv").write_text("person,birth_date\nanna,1980\n")
    bank, (problem,) = made(tmp_path)
    assert sorted(bank.ages.tolist()) == pytest.approx([10, 20, 30, 40], abs=0.1) and bank.people == ["anna"]
    assert problem.startswith("anna/IMG_2005.png: no age: its photo date is not known; date it by EXIF")
    assert "1 dated by EXIF\n3 dated by name\n" in capsys.readouterr().out
    bank, problems = made(tmp_path, "--append", "--year-pattern", r"IMG_(\d{4})")
    assert not problems and sorted(bank.ages.tolist()) == pytest.approx([10, 20, 25, 30, 40], abs=0.1)
    assert "4 dated by name\n" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--age-pattern", "--year-pattern"])
@pytest.mark.parametrize(
    ("text", "said"),
    [("(", "is no regular expression"), (r"\d+", "has no group"), (r"(?P<person>\d+)A(\d+)", "has 2 groups")],
)
def test_patterns_are_checked_when_they_are_read(option, text, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_arguments([option, text])
    assert stopped.value.code == 2 and said in capsys.readouterr().err.splitlines()[-1]


def test_a_group_that_took_no_part_is_that_photos_problem(tmp_path):
    draw(tmp_path / "album" / "x_31y.png", (30, 1, 1))
    draw(tmp_path / "album" / "x_y.png", (30, 1, 2))
    arguments = words(tmp_path / "album", tmp_path / "bank.npz", "--age-pattern", r"_(\d+)?y")
    assert build(arguments, Brightness()) == ["x_y.png: no age: --age-pattern finds no number in it."]


def test_of_several_faces_the_persons_own_enters(album):
    father, anna = (70, 50, 50), (42, 11, 10)
    draw(album / "album" / "anna" / "both.png", father, anna, taken="2022:07:02 12:00:00")
    bank, problems = made(album)
    assert not problems and bank.estimates[bank.ages > 41].tolist() == [42]  # not the 70 of the father


def test_much_smaller_faces_in_the_background_are_not_used_and_that_is_said(tmp_path, capsys):
    draw(tmp_path / "album" / "a_30y.png", (30, 1, 1), (60, 200, 1))
    assert build(words(tmp_path / "album", tmp_path / "b.npz", "--age-pattern", r"_(\d+)y"), Brightness()) == []
    assert load_bank(tmp_path / "b.npz", "abc").estimates.tolist() == [30]
    told = "background: of 1 images faces less than a quarter as large as the largest were not used"
    assert told in capsys.readouterr().out


def test_several_faces_that_nobody_can_tell_apart_are_left_out(album):
    draw(album / "album" / "anna" / "twins.png", (42, 11, 10), (41, 10, 10), taken="2022:07:02 12:00:00")
    draw(album / "album" / "ben" / "first.png", (42, 50, 50), (41, 10, 10), taken="2022:07:02 12:00:00")
    draw(album / "album" / "1999.png", (20, 1, 1), (20, 1, 1))
    (album / "births.csv").write_text("person,birth_date\nanna,1980\nzoë,1990\nben,1980\n")
    problems = made(album, "--age-pattern", r"(\d\d)\.png")[1]
    unclear = "and not exactly one of them looks like {}'s other photos; cut the right one out."
    assert problems == [
        "1999.png shows 2 faces and nobody is named; cut the right one out.",
        f"anna/twins.png shows 2 faces {unclear.format('anna')}",
        f"ben/first.png shows 2 faces {unclear.format('ben')}",
    ]


def test_an_estimate_that_is_no_number_leaves_its_photo_out(tmp_path):
    for name, red in (("a_30y", 30), ("b_30y", 255)):
        draw(tmp_path / "album" / f"{name}.png", (red, 1, 1))
    problems = build(words(tmp_path / "album", tmp_path / "b.npz", "--age-pattern", r"_(\d+)y"), Brightness())
    assert problems == ["b_30y.png: the base's estimate of it is no number."]
