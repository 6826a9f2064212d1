"""What an inference must never do: name a face by a number, show a label as an age, or write over a photo."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from AgeRegBaseline.AgeRegBaseline__infer import main as show_distribution
from AgeRegBaseline.AgeRegBaseline__infer2 import main as infer2
from common.data.predictions import NOT_FINITE, check_out, read_predictions
from common.data.synthetic import generate_faces
from common.difference.corrector import Corrector
from common.errors import DataError
from common.inference.shards import is_current
from common.pipeline import AgePredictBasicPipeline
from DiffPipeline6 import DiffPipeline6__controls as controls
from DiffPipeline6 import DiffPipeline6__sweep as sweep
from DiffPipeline6.DiffPipeline6__infer2 import main as infer_difference
from scripts import analyze_reg_model as analyze
from scripts.research import evaluate_robustness, explain_estimates
from tests.conftest import REPOSITORY


@pytest.fixture
def crops(tmp_path, tiny_run) -> list[str]:
    """Six synthetic crops, a broken one, and their manifest; the words that estimate them."""
    faces, labels = generate_faces(6, 0, 48)
    for number, face in enumerate(faces):
        Image.fromarray(face).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [*(f"{number}.png" for number in range(6)), "broken.png"]
    ages = [*labels["age"].astype(str), "33"]
    pd.DataFrame({"path": paths, "age": ages, "id": [f"mine-{path}" for path in paths]}).to_csv(
        tmp_path / "people.csv", index=False
    )
    return ["--manifest", str(tmp_path / "people.csv"), "--crops", "--weights", str(tiny_run / "weights")]


def test_a_face_is_known_by_its_bytes_and_a_failed_row_has_no_age(crops, tmp_path):
    assert infer2([*crops, "--out", str(tmp_path / "ages.csv")]) == 1
    table = pd.read_csv(tmp_path / "ages.csv")
    assert table["id"].tolist() == [hashlib.sha1((tmp_path / path).read_bytes()).hexdigest() for path in table["path"]]
    assert table["own_id"].tolist() == [f"mine-{path}" for path in table["path"]]
    failed = table[table["status"] != "ok"]
    assert failed["path"].tolist() == ["broken.png"] and failed["age"].isna().all()
    assert failed["true_age"].tolist() == [33.0]


def test_bad_ages_of_a_manifest_cost_no_estimate_and_enter_no_error(crops, tmp_path, capsys):
    table = pd.read_csv(tmp_path / "people.csv", dtype=str)
    table.loc[:3, "age"] = ["2014", "-3", "25-32", "NaN"]
    table.to_csv(tmp_path / "people.csv", index=False, sep=";", encoding="utf-8-sig")
    assert infer2([*crops, "--out", str(tmp_path / "ages.csv")]) == 1
    told = capsys.readouterr()
    assert "0.png (and 1 more) is not used: impossible age 2014" in told.err and "exact labels: n 2 " in told.out
    ages = read_predictions(tmp_path / "ages.csv")
    assert ages["true_age_min"].isna()[:4].tolist() == [True, True, False, True] and ages["age"][:6].notna().all()


def test_an_estimate_that_is_no_number_has_its_own_status(crops, tmp_path, monkeypatch, capsys):
    forward = AgePredictBasicPipeline._forward

    def broken(self, batch: np.ndarray):
        ages, *rest = forward(self, batch)
        ages = ages.copy()
        ages[1] = np.nan
        return ages, *rest

    monkeypatch.setattr(AgePredictBasicPipeline, "_forward", broken)
    assert infer2([*crops, "--out", str(tmp_path / "ages.csv")]) == 1
    told = capsys.readouterr()
    table = read_predictions(tmp_path / "ages.csv")
    assert table["status"][1] == NOT_FINITE and np.isnan(table["age"][1]) and "exact labels: n 5 " in told.out
    assert "nan" not in told.out.lower() and f"1.png: {NOT_FINITE}" in told.err


def test_a_correction_or_a_distribution_that_is_no_number_is_no_age(crops, tmp_path, diff_weights, monkeypatch, capsys):
    correct = Corrector.correct

    def broken(self, *words, **options):
        correction = correct(self, *words, **options)
        correction.age[2] = np.inf
        return correction

    monkeypatch.setattr(Corrector, "correct", broken)
    words = [*crops[:3], "--weights", str(diff_weights), "--device", "cpu", "--out", str(tmp_path / "ages.csv")]
    assert infer_difference(words) == 1
    table = read_predictions(tmp_path / "ages.csv")
    assert table["status"].tolist()[:4] == ["ok", "ok", NOT_FINITE, "ok"] and np.isnan(table["age"][2])
    assert "exact labels: n 5 " in capsys.readouterr().out

    forward = AgePredictBasicPipeline._forward
    monkeypatch.setattr(
        AgePredictBasicPipeline,
        "_forward",
        lambda self, batch: (np.full(len(batch), np.nan), *forward(self, batch)[1:]),
    )
    assert show_distribution(crops) == 2
    told = capsys.readouterr()
    assert "nan" not in told.out and told.err.count(NOT_FINITE) == 6


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (evaluate_robustness, ["{set}", "--out", "{out}"]),
        (explain_estimates, ["{set}", "--out", "{out}"]),
        (sweep, ["--data", "{set}", "--out", "{out}"]),
        (controls, ["--data", "{set}", "--out", "{out}"]),
        (analyze, ["--manifest", "{set}/manifest.csv", "--save", "{out}"]),
        (analyze, ["--manifest", "{set}/manifest.csv", "--out", "{photo}"]),
    ],
)
def test_no_script_writes_its_table_over_a_photo_or_a_file_of_somebody_else(
    script, words, synthetic_set, tmp_path, capsys
):
    photo, notes = tmp_path / "photo.jpg", tmp_path / "notes.csv"
    photo.write_bytes(b"a photo")
    notes.write_text("path,note\nx,y\n")
    for out in (photo, notes) if "{out}" in words else (photo,):
        said = [word.format(set=synthetic_set, out=out, photo=photo) for word in words]
        assert script.main(said) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert photo.read_bytes() == b"a photo" and notes.read_text() == "path,note\nx,y\n"


def test_a_place_where_no_table_can_be_is_known_before_anything_is_estimated(tmp_path):
    for name, text in (("blank.csv", "\nmy notes\n"), ("words.csv", "path,age\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match="holds no predictions"):
            check_out(tmp_path / name)
    (tmp_path / "link.csv").symlink_to(tmp_path / "not_yet.png")
    with pytest.raises(DataError, match="has the name of an image"):
        check_out(tmp_path / "link.csv")
    with pytest.raises(DataError, match="has the name of a spreadsheet"):
        check_out(tmp_path / "ages.xlsx")
    with pytest.raises(DataError, match="cannot be written to"):
        check_out(tmp_path / "words.csv" / "below" / "ages.csv")
    (tmp_path / "empty.csv").write_text("")
    check_out(tmp_path / "empty.csv")
    check_out(tmp_path / "new" / "folder" / "ages.csv")


def test_a_photo_or_a_file_of_somebody_else_never_becomes_a_table(crops, tmp_path, capsys):
    before = (tmp_path / "0.png").read_bytes()
    (tmp_path / "notes.csv").write_text("path,note\nx,y\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "0.png")
    for name in ("0.png", "new.HEIC", "notes.csv", "link.csv", "."):
        assert infer2([*crops, "--out", str(tmp_path / name)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "0.png").read_bytes() == before and not (tmp_path / "new.HEIC").exists()
    again = [*crops, "--out", str(tmp_path / "ages.csv")]
    assert infer2(again) == infer2(again) == 1  # a table of ours is replaced
    check_out(Path("/dev/stdout"))
    with pytest.raises(DataError, match="holds no predictions"):
        check_out(tmp_path / "people.csv")


def test_a_shard_of_exchanged_pictures_or_one_that_is_cut_is_not_current(tmp_path):
    for name, face in zip(("a.bmp", "b.bmp"), generate_faces(2, 0, 48)[0], strict=True):
        Image.fromarray(face).save(tmp_path / name)  # of equal size
    rows = pd.DataFrame({"path": ["a.bmp", "b.bmp"], "file": [str(tmp_path / "a.bmp"), str(tmp_path / "b.bmp")]})
    digests = [hashlib.sha1(Path(file).read_bytes()).hexdigest() for file in rows["file"]]
    shard, arguments = tmp_path / "shard.csv", Namespace(manifest=tmp_path / "people.csv")
    lines = [f"{digest},{path},0,,ok,30.00\n" for digest, path in zip(digests, rows["path"], strict=True)]
    whole = "id,path,face,box,status,age\n" + "".join(lines)
    shard.write_text(whole)
    assert is_current(shard, rows, arguments)
    for damaged in (whole[: -len(",ok,30.00\n")], "id\nx\n", "", "\xff\0no table"):
        shard.write_bytes(damaged.encode("latin-1"))
        assert not is_current(shard, rows, arguments)
    shard.write_text(whole)
    (tmp_path / "a.bmp").rename(tmp_path / "c.bmp")
    (tmp_path / "b.bmp").rename(tmp_path / "a.bmp")
    (tmp_path / "c.bmp").rename(tmp_path / "b.bmp")
    assert not is_current(shard, rows, arguments)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(crops, tmp_path, number):
    table = pd.read_csv(tmp_path / "people.csv", dtype=str)
    for copy in range(900):
        shutil.copy(tmp_path / f"{copy % 6}.png", tmp_path / f"copy{copy}.png")
    more = pd.DataFrame({"path": [f"copy{copy}.png" for copy in range(900)], "age": "20", "id": ""})
    pd.concat([table, more]).to_csv(tmp_path / "people.csv", index=False)
    entry = str(REPOSITORY / "AgeRegBaseline" / "AgeRegBaseline__infer2.py")
    words = [sys.executable, entry, *crops, "--processes", "2", "--batch-size", "8", "--out", str(tmp_path / "o.csv")]
    parent = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    workers = []
    deadline = time.monotonic() + 60
    while len(workers) < 2 and time.monotonic() < deadline:
        workers = psutil.Process(parent.pid).children()
        time.sleep(0.05)
    os.kill(parent.pid, number)
    _, said = parent.communicate(timeout=60)
    assert parent.returncode == 2 and "Stopped; the same command again" in said
    assert len(workers) == 2 and not any(worker.is_running() for worker in workers)
