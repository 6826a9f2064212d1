"""What an inference must never do: name a face by a number, show a label as an age, or write over a photo."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from AgeRegBaseline.AgeRegBaseline__infer2 import main as infer2
from common.errors import DataError
from common.pipeline import AgePredictBasicPipeline
from common.predictions import NOT_FINITE, check_out, read_predictions
from common.synthetic import generate_faces
from tests.conftest import REPOSITORY


@pytest.fixture
def crops(tmp_path, tiny_run) -> list[str]:
    """Six drawn crops, a broken one, and their manifest; the words that estimate them."""
    faces, labels = generate_faces(6, 0, 48)
    for number, face in enumerate(faces):
        Image.fromarray(face).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
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
