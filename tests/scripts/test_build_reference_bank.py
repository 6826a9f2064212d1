"""Banks from folders, tables and prepared sets, and what they change, as a user types it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import skimage.data
from PIL import ExifTags, Image

from common.data.manifest import load_prepared
from common.data.predictions import read_predictions
from common.difference.bank import load_bank
from common.difference.corrector import Faces
from common.difference.own_references import UserReferences
from DiffPipeline6.DiffPipeline6__infer2 import main as infer2
from DiffPipeline6.DiffPipeline6__model import load_model
from scripts.build_reference_bank import main as build
from scripts.evaluate_references import main as evaluate


@pytest.fixture(scope="module")
def fingerprint(diff_weights) -> str:
    return load_model(diff_weights, "cpu").pipeline.fingerprint


def portrait(folder, name: str, taken: str = "", shift: int = 0) -> None:
    """The demo portrait as a JPEG of its own bytes, with an EXIF date if one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.roll(skimage.data.astronaut(), shift, axis=1)[:400])
    exif = Image.Exif()
    if taken:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
    image.save(folder / name, quality=95, exif=exif)


def test_a_family_album_with_births_and_exif(diff_weights, fingerprint, tmp_path, capsys):
    album = tmp_path / "album"
    portrait(album / "anna", "a.jpg", "2010:05:01 12:00:00")
    portrait(album / "anna", "b.jpg", "2020:05:01 12:00:00", shift=3)
    portrait(album / "anna", "undated.jpg", shift=5)
    portrait(album / "ben", "unborn.jpg", "1990:05:01 12:00:00", shift=7)
    (album / "ben" / "copy.jpg").write_bytes((album / "anna" / "a.jpg").read_bytes())
    (album / "ben" / "broken.jpg").write_bytes(b"no image")
    births = tmp_path / "births.csv"
    births.write_text("person,birth_date\nanna,1980-05-01\nben,2000\n")
    out = tmp_path / "family.npz"
    words = ["--weights", str(diff_weights), "--out", str(out), "--device", "cpu"]
    assert build(["--source", str(album), "--births", str(births), *words]) == 1
    said = capsys.readouterr().err
    for line in (
        "undated.jpg: no age: its photo date is not known",
        "unborn.jpg: impossible date: '1990:05:01 12:00:00' is before the birth on 2000",
        "broken.jpg",
    ):
        assert line in said
    assert said.count("left out:") == 4  # the copy is 10 years old as ben: impossible or a copy, but never twice
    bank = load_bank(out, fingerprint)
    anna = bank.rows(bank.person == "anna")
    assert sorted(anna.ages) == pytest.approx([30, 40], abs=0.01)
    assert not bank.seen.any() and len(set(bank.id)) == len(bank)


def test_names_and_tables_and_appending(diff_weights, fingerprint, tmp_path, capsys):
    folder, out = tmp_path / "pictures", tmp_path / "camera.npz"
    portrait(folder, "x_42y.jpg")
    portrait(folder, "y_31y.jpg", shift=4)
    portrait(folder, "nothing.jpg", shift=6)
    words = ["--weights", str(diff_weights), "--out", str(out), "--device", "cpu"]
    assert build(["--source", str(folder), "--age-pattern", r"_(\d+)y", *words]) == 1
    assert "nothing.jpg: no age" in capsys.readouterr().err
    assert sorted(load_bank(out, fingerprint).ages) == [31, 42]
    table = tmp_path / "people.csv"
    table.write_text("path,alter,person\npictures/x_42y.jpg,42,eve\npictures/nothing.jpg,30,eve\n")
    assert build(["--source", str(table), "--column", "age=alter", "--append", *words]) == 0
    printed = capsys.readouterr()
    assert "1 person corrected" in printed.out and not printed.err
    assert sorted(load_bank(out, fingerprint).ages) == [30, 31, 42]
    assert build(["--source", str(table), "--column", "age=alter", "--append", *words]) == 0
    assert "in the bank already: 2 of 2 images" in capsys.readouterr().out
    assert build(["--inspect", str(out), "--weights", str(diff_weights)]) == 0
    assert "(each by 2; a new photo is corrected by all 3, which with so few is better)" in capsys.readouterr().out


def test_a_prepared_set_inspected_used_and_evaluated(diff_weights, fingerprint, synthetic_set, tmp_path, capsys):
    out = tmp_path / "drawn.npz"
    assert (
        build(["--source", str(synthetic_set), "--out", str(out), "--weights", str(diff_weights), "--keep-outliers"])
        == 0
    )
    bank, manifest = load_bank(out, fingerprint), load_prepared(synthetic_set).manifest
    assert set(bank.id) == set(manifest["id"])
    bank = replace(bank, ages=bank.ages + 25)  # people that every base takes for too young
    bank.save(out)
    capsys.readouterr()
    assert build(["--inspect", str(out), "--weights", str(diff_weights)]) == 0
    printed = capsys.readouterr().out
    errors = {line[:24].strip(): float(line.split()[-1]) for line in printed.splitlines() if line.startswith("  ")}
    assert errors["with other people"] < errors["as estimated"] - 3
    assert out.with_suffix(".png").stat().st_size > 5000
    training = ["--references", str(diff_weights / "bank.npz"), "--weights", str(diff_weights)]
    assert infer2(["a.jpg", *training]) == 2
    assert "is the training bank of some weights" in capsys.readouterr().err
    assert build(["--inspect", str(out), "--weights", str(diff_weights)]) == 0  # its own drawing is drawn again
    words = ["--manifest", str(synthetic_set / "manifest.csv"), "--split", "test", "--weights", str(diff_weights)]
    for name, more in (("plain", []), ("with", ["--references", str(out)])):
        assert infer2([*words, "--out", str(tmp_path / f"{name}.csv"), "--device", "cpu", *more]) == 0
    plain, better = (read_predictions(tmp_path / f"{name}.csv") for name in ("plain", "with"))
    faces = Faces(
        np.empty((len(plain), 0)),
        plain["base_age"].to_numpy(),
        plain["id"].to_numpy(str),
        plain["person"].to_numpy(str),
    )
    found = UserReferences(bank).correct(faces)
    assert np.abs(found.age - plain["base_age"]).max() > 1 and (found.own == 0).all()
    assert better["age"].to_numpy() == pytest.approx(found.age, abs=0.05)
    assert (better["n_references"] - plain["n_references"]).tolist() == found.references.tolist()
    assert infer2([*words, "--references", str(out), "--person", "zoe"]) == 2
    assert "No reference in the banks shows 'zoe'" in capsys.readouterr().err


def test_the_evaluation_prints_what_it_stored(diff_weights, synthetic_set, tmp_path, capsys):
    folder = tmp_path / "people"
    folder.mkdir()
    prepared = load_prepared(synthetic_set)
    some = prepared.manifest.index[:60]
    prepared.manifest.loc[some].to_csv(folder / "manifest.csv", index=False)
    np.save(folder / "crops.npy", prepared.crops[some])
    (folder / "prepared.json").write_text("{}")
    assert evaluate([str(folder), "--weights", str(diff_weights), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "predictions.csv.gz")
    for name in ("base", "(c) isotonic", "domain bank", "domain + personal bank"):
        rows = table[table["variant"] == name]
        line = next(line for line in printed.splitlines() if line.startswith(f"| {name} |"))
        assert float(line.split("|")[3]) == pytest.approx((rows["age"] - rows["true_age"]).abs().mean(), abs=0.002)
    curve = pd.read_csv(tmp_path / "out" / "curve.csv")
    assert (curve[curve["references"] == 0]["gain"] == 0).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give --source and --out"),
        (["--source", "nowhere", "--out", "x.npz"], "nothing at nowhere"),
        (["--source", "tests", "--out", "bank.png"], "--out must end in .npz, not bank.png"),
        (["--inspect", "nowhere.npz"], "There is no reference bank at nowhere.npz"),
    ],
)
def test_mistakes_are_said_in_one_line(diff_weights, words, said, capsys):
    assert build([*words, "--weights", str(diff_weights)]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1


def test_a_bank_that_is_there_is_not_replaced(diff_weights, synthetic_set, tmp_path, capsys):
    out = tmp_path / "bank.npz"
    out.write_bytes(b"mine")
    words = ["--source", str(synthetic_set), "--out", str(out), "--weights", str(diff_weights)]
    assert build(words) == 2
    assert "--append" in capsys.readouterr().err and out.read_bytes() == b"mine"


def test_a_column_that_is_not_there_is_named(diff_weights, tmp_path, capsys):
    (tmp_path / "people.csv").write_text("path,age\na.jpg,30\n")
    words = ["--source", str(tmp_path / "people.csv"), "--column", "age=alter", "--out", str(tmp_path / "bank.npz")]
    assert build([*words, "--weights", str(diff_weights)]) == 2
    assert "no column 'alter'; it has path, age" in capsys.readouterr().err


def test_a_picture_beside_the_bank_is_not_drawn_over(diff_weights, synthetic_set, tmp_path, capsys):
    out = tmp_path / "anna.npz"
    words = ["--source", str(synthetic_set), "--out", str(out), "--weights", str(diff_weights), "--keep-outliers"]
    assert build(words) == 0
    portrait(tmp_path, "anna.png")
    mine = (tmp_path / "anna.png").read_bytes()
    assert build(["--inspect", str(out), "--weights", str(diff_weights)]) == 2
    assert "anna.png, where the bank would be drawn, is another image" in capsys.readouterr().err
    assert (tmp_path / "anna.png").read_bytes() == mine
