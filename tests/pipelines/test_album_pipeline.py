"""AlbumPipeline from tables and folders to results: what is read, written, refused, and named as not used."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from AlbumPipeline.AlbumPipeline__figures import draw_album
from AlbumPipeline.AlbumPipeline__infer2 import DEMO, main, refuse_corrected
from AlbumPipeline.AlbumPipeline__photos import Photo, cluster, folder_people, photo_dates
from AlbumPipeline.AlbumPipeline__report import (
    contradictions,
    dates_table,
    faces_table,
    people_table,
    solve_table,
    suggestions,
)
from AlbumPipeline.AlbumPipeline__simulate import demo_table
from AlbumPipeline.AlbumPipeline__tables import make_album, parse_known, read_faces_table, with_dates
from AlbumPipeline.AlbumPipeline__weights import AgeErrors
from common.data.births import births_of
from common.errors import DataError
from common.files import REPOSITORY

TODAY = date(2026, 11, 28)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_demo_finds_its_two_planted_errors_and_the_births():
    faces, births, problems = read_faces_table(DEMO)
    table, said = make_album(faces, births, AgeErrors(), TODAY)
    solved = solve_table(table, AgeErrors())
    assert problems == [] and said == [] and solved.widening == 1.0
    assert {sentence[:11] for sentence in contradictions(solved)} == {"box/024.jpg", "box/040.jpg"}
    assert "box/024.jpg: Dora" in contradictions(solved)[1] and "its faces say 196" in contradictions(solved)[1]
    people = people_table(solved, 0.9).set_index("person")
    truth = {"Bruno": 1918.7, "Clara": 1946.2, "Dora": 1949.9, "Frieda": 1979.6}
    for name, born in truth.items():
        assert people.loc[name, "low"] - 0.5 < born < people.loc[name, "high"] + 0.5
    assert people.loc["Ada", "status"] == "stated"
    assert demo_table().to_csv(index=False) == DEMO.read_text()


def test_a_reader_that_goes_away_costs_no_traceback():
    words = [sys.executable, "AlbumPipeline/AlbumPipeline__infer2.py"]
    told = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told.stdout.close()
    assert told.wait() == 0 and told.stderr.read() == ""


def test_the_command_writes_tables_that_can_be_given_back(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("AlbumPipeline.AlbumPipeline__figures.MOST_DRAWN", 2)
    out = tmp_path / "results"
    assert main(["--out", str(out), "--explain", str(tmp_path / "drawn")]) == 0
    assert "Contradictions: 4" in capsys.readouterr().out
    document = json.loads((out / "album.json").read_text())
    assert len(document["people"]) == 6 and len(document["photos"]) == 48
    dates = pd.read_csv(out / "dates.csv")
    exif = pd.read_csv(out / "exiftool.csv")
    estimated = dates[dates["status"].isin(["estimated", "narrowed"])]
    assert exif["SourceFile"].tolist() == estimated["photo"].tolist()
    assert (exif["XMP-photoshop:DateCreated"] == estimated["date"].astype(int).to_numpy()).all()
    assert "DateTimeOriginal" not in (out / "exiftool.csv").read_text()
    assert (tmp_path / "drawn" / "000_Ada_timeline.png").stat().st_size > 5000
    assert (
        main(["--faces", str(out / "faces.csv"), "--people", str(written(tmp_path / "p.csv", "person,born\nAda,1921"))])
        == 0
    )
    assert main(["--out", str(out)]) == 0  # over its own results


def test_a_table_of_somebody_else_is_not_replaced(tmp_path, capsys):
    mine = written(tmp_path / "people.csv", "person,born\nAda,1921\n")
    assert main(["--out", str(tmp_path)]) == 2
    assert "holds no predictions" in capsys.readouterr().err and mine.read_text() == "person,born\nAda,1921\n"
    assert main(["--out", str(tmp_path / "dates.csv")]) == 2
    assert "must be a folder" in capsys.readouterr().err


def test_the_people_of_a_table_of_births_may_be_called_names(tmp_path):
    table = pd.DataFrame({"Name": ["Ada", "Bea"], "born": ["1921", ""]})
    assert births_of(table, "b.csv") == {"Ada": "1921"}
    with pytest.raises(DataError, match="b.csv needs the columns person and born .* it has who, born: rename them"):
        births_of(table.rename(columns={"Name": "who"}), "b.csv")


def test_two_births_of_one_person_are_refused(tmp_path, capsys):
    faces = written(tmp_path / "f.csv", "photo,person,estimate,born\na,Ada,3,1950\nb,ada,9,1952\nc,Ada,12,\n")
    assert main(["--faces", str(faces)]) == 2
    assert "f.csv has two birth dates of ada (1950 and 1952); leave the right one in it." in capsys.readouterr().err
    people = written(tmp_path / "p.csv", "person,born\nAda,1950\nADA,1.1.1951\n")
    assert main(["--people", str(people)]) == 2
    assert "p.csv has two birth dates of ADA (1950 and 1.1.1951)" in capsys.readouterr().err


TREE = """0 HEAD
1 CHAR UTF-8
0 @I1@ INDI
1 NAME Ada /Ray/
1 BIRT
2 DATE BET 1920 AND 1925
0 @I2@ INDI
1 NAME Bo /Ray/
1 BIRT
2 DATE {}
0 @I3@ INDI
1 NAME Bo /Day/
0 TRLR
"""


def test_births_of_a_family_tree_become_the_same_intervals_as_those_of_a_table(tmp_path, capsys):
    rows = "photo,person,estimate\na.jpg,ADA,20\nb.jpg,Bo Ray,30\nc.jpg,Cy,31\nd.jpg,Bo,30\ne.jpg,No Face,x\n"
    faces = written(tmp_path / "f.csv", rows)
    tree = written(tmp_path / "family.ged", TREE.format("ABT 1931"))
    assert main(["--faces", str(faces), "--people", str(tree), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"{tree}: nobody is called Cy",
        f"{tree}: by given name or nickname alone, ADA is Ada Ray (born BET 1920 AND 1925)",
        f"not used: {faces}, row 6: 'x' is no age; the face is left out",
        f"not used: Bo: {tree} has 2 people of that name, Bo Ray (born ABT 1931), Bo Day (no birth date); use the full "
        "name or a CSV of births; it is taken as unknown",
    ]
    people = pd.read_csv(tmp_path / "out" / "people.csv").set_index("person")
    assert people.loc["ADA", ["status", "low", "high"]].tolist()[0] == "narrowed"
    assert 1920 <= people.loc["ADA", "low"] < people.loc["ADA", "high"] <= 1926
    table = written(tmp_path / "p.csv", "person,born\nADA,BET 1920 AND 1925\nBo Ray,ABT 1931\n")
    assert main(["--faces", str(faces), "--people", str(table), "--out", str(tmp_path / "same")]) == 1
    assert pd.read_csv(tmp_path / "same" / "people.csv").set_index("person").equals(people)


def test_the_tree_is_read_anew_and_a_broken_one_is_one_sentence(tmp_path, capsys):
    faces = written(tmp_path / "f.csv", "photo,person,estimate,photo_date\na.jpg,Bo Ray,30,1970\n")
    words = ["--faces", str(faces), "--people", str(tmp_path / "family.ged")]
    for born in ("1940", "1944"):
        written(tmp_path / "family.ged", TREE.format(born))
        assert main(words) == 0
        assert f"Bo Ray: born {born}" in capsys.readouterr().out
    written(tmp_path / "family.ged", "not a tree")
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error == f"age-album: {tmp_path}/family.ged is no GEDCOM file: it does not begin with '0 HEAD'.\n"


def test_one_bad_row_never_loses_the_rest(tmp_path, capsys):
    rows = "photo,person,estimate,photo_date\na.jpg,Ada,20,1980\nb.jpg,Ada,x,1985\nc.jpg,Ada,31,soon\nd.jpg,Ada,-3,\n"
    rows += "e.jpg,Ada,25,1985\ne.jpg,Bo,25,1986\nf.jpg,,nan,1990\ng.jpg,ada,30,2999\n"
    people = written(tmp_path / "p.csv", "person,born\nAda,ABT 1960\nZoe,1950\n")
    assert main(["--faces", str(written(tmp_path / "f.csv", rows)), "--people", str(people)]) == 1
    shown = capsys.readouterr()
    for said in (
        "row 3: 'x' is no age", "row 5: '-3' is no age", "'soon' is no date", "e.jpg has two dates, 1985 and 1986",
        "Zoe is in no photo", "'2999' is in the future",
    ):  # fmt: skip
        assert said in shown.err
    assert "2 people, 7 photos, 5 named faces" in shown.out and "Ada: born 196" in shown.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--faces", "no.csv"], "There is no table of faces"), (["nowhere/"], "There is nothing at nowhere"),
        (["x/", "--faces", "y.csv"], "not both"), (["--cluster"], "give a folder"),
        (["--weights", "nowhere"], "no weights of AlbumPipeline"), (["--interval", "1.5"], "between 0"),
        (["--dates", "no.csv"], "There is no table of dates"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_sentence(words, said, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("age-album: ") and error.count("\n") == 1


def test_a_photo_of_the_dates_is_named_by_the_end_of_its_path(tmp_path):
    faces = pd.DataFrame(
        {"photo": ["box/anna/1.jpg", "box/bea/1.jpg", "box/bea/2.jpg"], "photo_date": ["", "1950", ""]}
    )
    lines = ["anna/1.jpg,1990", "1.jpg,1980", "./box/bea/2.jpg,1970", "/at/home/box/bea/2.jpg,1971", "x/2.jpg,1960"]
    table = written(tmp_path / "d.csv", "\n".join(["photo,photo_date", *lines]))
    dated, problems = with_dates(faces, table)
    assert dated["photo_date"].tolist() == ["1990", "1950", "1970"]
    assert [said.removeprefix(f"{table}: ") for said in problems] == [
        "there are 2 photos 1.jpg; a photo is named like box/anna/1.jpg",
        "box/bea/2.jpg has two dates; 1970 is used, not 1971",
        "there is no photo x/2.jpg; a photo is named like box/anna/1.jpg",
    ]


def folders_named(tmp_path, *names: str) -> list[str]:
    return folder_people([Photo(tmp_path / name, tmp_path, "") for name in names])


def test_a_folder_that_several_people_have_is_no_person(tmp_path, capsys):
    names = ("anna/1987/a.jpg", "anna/box/b.jpg", "bea/c.jpg", "bea/box/1990/d.jpg", "e.jpg")
    assert folders_named(tmp_path, *names) == ["anna", "anna", "bea", "bea", ""]
    assert not capsys.readouterr().err
    assert folders_named(tmp_path, "holiday/anna/a.jpg", "feast/anna/b.jpg") == ["anna", "anna"]
    assert "photos in anna (in feast and holiday) are taken for those of a person" in capsys.readouterr().err
    assert folders_named(tmp_path, "anna/a.jpg", "anna/box/b.jpg") == ["anna", "box"]
    assert "photos in box (in anna) are taken for those of a person of this name" in capsys.readouterr().err


def test_nothing_is_given_that_no_date_supports_and_nobody_is_before_birth(tmp_path):
    lines = ["a,Ada,20,1980", "b,Ada,40,soon", "c,Bea,30,", "d,Cleo,1,"]
    table = written(tmp_path / "f.csv", "\n".join(["photo,person,estimate,photo_date", *lines]))
    faces, births, _ = read_faces_table(table)
    album, said = make_album(faces, {"Cleo": "1990-07-01"}, AgeErrors(), TODAY)
    assert len(said) == 1 and "'soon' is no date like" in said[0]
    solved = solve_table(album, AgeErrors())
    shown, dates = faces_table(solved, 0.9).set_index("photo"), dates_table(solved, 0.9).set_index("photo")
    assert shown.loc["c", ["album_age", "low", "high"]].isna().all() and shown.loc["c", "alone"] > 20
    assert dates.loc["d", "low"] >= 1990.49 and dates.loc["b", "status"] == "estimated"
    assert suggestions(dates.reset_index())["SourceFile"].tolist() == ["d"]
    assert draw_album(solved, 0.9, tmp_path / "drawn") == 5
    assert not list((tmp_path / "drawn").glob("*Bea*"))


def test_a_table_without_names_or_columns_is_refused(tmp_path, capsys):
    assert main(["--faces", str(written(tmp_path / "a.csv", "photo,person,estimate\na.jpg,,30\n"))]) == 2
    assert main(["--faces", str(written(tmp_path / "b.csv", "photo,estimate\na.jpg,30\n"))]) == 2
    error = capsys.readouterr().err
    assert "No face has a name" in error and "has no column 'person'" in error


def test_dates_become_means_spreads_and_bounds():
    known, problems = parse_known(["1970s", "ABT 1931", "before 2004", "1987-06-30", ""], list("abcde"), TODAY)
    assert problems == []
    assert known.mean[[0, 1, 3]] == pytest.approx([1975, 1931.5, 1987.496], abs=0.01)
    assert known.sd == pytest.approx([2.887, 2.02, np.inf, 0.0008, np.inf], abs=0.01)
    assert known.low.tolist()[:3] == [1970, -np.inf, -np.inf]
    assert known.high == pytest.approx([1980, 2026.91, 2004, 1987.498, 2026.91], abs=0.01)


def test_photos_that_nothing_dates_are_unknown_and_suggest_nothing():
    faces = pd.DataFrame({"photo": ["a", "b"], "person": ["x", "x"], "estimate": [30.0, 40.0]})
    for column in ("face", "photo_date", "latest", "session", "id", "status"):
        faces[column] = ""
    table, _ = make_album(faces, {}, AgeErrors(), TODAY)
    dates = dates_table(solve_table(table, AgeErrors()), 0.9)
    assert dates["status"].tolist() == ["unknown", "unknown"] and dates["date"].isna().all()
    assert len(suggestions(dates)) == 0


def test_the_date_of_scanning_is_a_bound_and_never_a_date(tmp_path):
    exif = Image.Exif()
    exif[306] = "2004:03:14 10:00:00"
    folder = tmp_path / "anna" / "1987"
    folder.mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(folder / "a.jpg", exif=exif)
    Image.new("RGB", (32, 32)).save(tmp_path / "anna" / "b.jpg", exif=exif)
    assert photo_dates(Photo(folder / "a.jpg", tmp_path, "")) == ("1987", "2004:03:14", "")
    assert photo_dates(Photo(tmp_path / "anna" / "b.jpg", tmp_path, "")) == ("", "2004:03:14", "")


def test_faces_of_one_person_cluster_and_the_most_frequent_come_first():
    random = np.random.default_rng(0)
    centres = np.linalg.qr(random.normal(size=(64, 3)))[0].T  # [3, 64] orthogonal
    embedding = centres[[1, 0, 0, 2, 0, 1]] + 0.02 * random.normal(size=(6, 64))
    assert cluster(embedding / np.linalg.norm(embedding, axis=1, keepdims=True)).tolist() == [1, 0, 0, 2, 0, 1]
    assert cluster(np.empty((0, 512))).tolist() == []


def test_names_that_a_user_corrected_are_not_replaced(tmp_path):
    faces = pd.DataFrame({"photo": ["a.jpg", "b.jpg"], "face": [0, 0], "person": ["person 1", "person 2"]})
    path = tmp_path / "faces.csv"
    refuse_corrected(path, faces)  # none yet
    faces.to_csv(path, index=False)
    refuse_corrected(path, pd.concat([faces, faces, faces.assign(photo="new.jpg", person=None)]))  # a photo twice too
    faces.assign(person=["person 1", "clara"]).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"faces\.csv names people otherwise .* Solve it with --faces"):
        refuse_corrected(path, faces)
