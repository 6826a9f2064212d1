"""Ages are written before anything is printed or drawn: whatever fails afterwards costs a sentence, not a run."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from AgeRegBaseline.AgeRegBaseline__infer2 import BaseOptions, make_parser
from AgeRegBaseline.AgeRegBaseline__infer2 import main as infer2
from common.data.predictions import COLUMNS, SHORT_COLUMNS, read_predictions
from common.data.synthetic import generate_faces
from common.errors import DataError
from common.inference import run
from common.inference.inputs import ahead, demo_photo
from common.inference.options import read_options
from common.inference.table import STOPPED, as_text
from tests.conftest import REPOSITORY

COMMAND = [sys.executable, str(REPOSITORY / "AgeRegBaseline" / "AgeRegBaseline__infer2.py")]


@pytest.fixture
def crops(tmp_path) -> Path:
    """A folder of four synthetic crops, of which one has a name that a spreadsheet would compute."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for name, face in zip(("a", "b", "c", "d"), generate_faces(4, 0, 48)[0], strict=True):
        Image.fromarray(face).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def words(crops, tiny_run, tmp_path) -> list[str]:
    return [str(crops), "--crops", "--weights", str(tiny_run / "weights"), "--out", str(tmp_path / "ages.csv")]


def test_people_get_a_short_table_and_a_manifest_all_columns(words, crops, tmp_path, monkeypatch):
    monkeypatch.chdir(crops)
    os.rename("a.png", "=1+1.png")
    (crops / "-broken.jpg").write_bytes(b"no image")
    names = ["=1+1.png", "b.png", "./-broken.jpg"]
    assert infer2([*names, *words[1:]]) == 1
    raw = (tmp_path / "ages.csv").read_bytes()
    rows = list(csv.reader(raw.decode("utf-8-sig").splitlines()))
    assert raw.startswith(b"\xef\xbb\xbf") and rows[0] == SHORT_COLUMNS
    assert [row[0] for row in rows[1:]] == ["'=1+1.png", "b.png", "./-broken.jpg"]
    assert read_predictions(tmp_path / "ages.csv")["path"].tolist() == names
    assert rows[3][2:5] == ["", "", ""] and "not an image" in rows[3][5]
    pd.DataFrame({"path": names, "age": [20, 30, 40]}).to_csv(crops / "list.csv", index=False)
    assert infer2(["--manifest", str(crops / "list.csv"), *words[1:]]) == 1
    table = pd.read_csv(tmp_path / "ages.csv")
    assert table.columns.tolist() == COLUMNS and table["path"].tolist() == names
    short = read_predictions(tmp_path / "ages.csv")["age"].tolist()
    assert infer2(["--manifest", str(crops / "list.csv"), "--columns", "short", *words[1:]]) == 1
    assert read_predictions(tmp_path / "ages.csv")["age"].tolist() == pytest.approx(short, nan_ok=True)


def test_json_is_json(words, tmp_path):
    for kind in ("json", "jsonl"):
        out = tmp_path / f"ages.{kind}"
        for _ in range(2):  # a table of ours is replaced
            assert infer2([*words[:-1], str(out)]) == 0
        text = out.read_text()
        found = json.loads(text) if kind == "json" else [json.loads(line) for line in text.splitlines()]
        assert len(found) == 4 and list(found[0]) == SHORT_COLUMNS
        assert found[0]["face"] == 0 and found[0]["low"] is None and 0 < found[0]["age"] < 120
    (tmp_path / "notes.json").write_text('{"my": "notes"}')
    assert infer2([*words[:-1], str(tmp_path / "notes.json")]) == 2


def test_the_box_of_a_photo_stands_in_four_columns(tiny_run, tmp_path):
    assert infer2(["--weights", str(tiny_run / "weights"), "--out", str(tmp_path / "ages.csv")]) == 0
    (row,) = pd.read_csv(tmp_path / "ages.csv").itertuples()
    assert row.left < 204 < row.right and row.top < 101 < row.bottom
    assert [int(edge) for edge in read_predictions(tmp_path / "ages.csv")["box"][0].split()] == [*row[8:12]]


def test_a_summary_is_printed_beside_a_file(words, crops, capsys):
    for number in range(8):
        Image.open(crops / "a.png").save(crops / f"copy{number}.png")
    assert infer2(words) == 0
    printed = capsys.readouterr().out
    assert "12 faces in 12 images estimated, ages" in printed and "copy3.png" not in printed
    assert infer2(words[:-2]) == 0
    assert capsys.readouterr().out.count("copy") == 8


def test_a_full_disk_loses_no_age(words, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise DataError("The predictions cannot be written (No space left on device).")

    monkeypatch.setattr(run, "write_text", full)
    assert infer2(words) == 2
    told = capsys.readouterr()
    assert len(list(csv.reader(told.out.splitlines()))) == 5 and "No space left" in told.err
    assert not (tmp_path / "ages.csv").exists()


def test_a_place_without_room_is_known_before_the_first_image_is_read(words, monkeypatch, capsys):
    monkeypatch.setattr(run, "list_inputs", lambda options: pytest.fail("an image was looked for"))
    assert infer2([*words[:-1], "/proc/ages.csv"]) == 2
    assert "cannot be written to /proc/ages.csv" in capsys.readouterr().err


def test_an_unwritable_folder_of_drawings_costs_a_sentence(tiny_run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = ["--weights", str(tiny_run / "weights"), "--out", str(tmp_path / "ages.csv")]
    assert infer2([*words, "--explain", str(tmp_path / "file" / "drawn")]) == 1
    assert len(read_predictions(tmp_path / "ages.csv")) == 1
    assert "not drawn" in capsys.readouterr().err


def test_ctrl_c_writes_what_is_there(words, crops, tmp_path, monkeypatch, capsys):
    read = run.read_faces

    def interrupted(*given):
        for number, face in enumerate(read(*given)):
            if number == 3:
                raise KeyboardInterrupt
            yield face

    monkeypatch.setattr(run, "read_faces", interrupted)
    assert infer2([*words, "--batch-size", "2"]) == 1
    table = read_predictions(tmp_path / "ages.csv")
    assert table["status"].tolist() == ["ok", "ok", STOPPED, STOPPED] and table["age"].notna().sum() == 2
    assert "Stopped before all images were estimated" in capsys.readouterr().err


def test_a_request_to_end_writes_what_is_there(words, crops, tmp_path):
    faces = generate_faces(20, 1, 48)[0]
    for number in range(400):
        Image.fromarray(faces[number % 20]).resize((700, 700)).save(crops / f"n{number}.bmp")
    running = subprocess.Popen([*COMMAND, *words, "--batch-size", "1"], stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    while "image" not in running.stderr.read(30):
        time.sleep(0.01)
    time.sleep(0.5)
    running.send_signal(signal.SIGTERM)
    said = running.communicate(timeout=60)[1]
    table = read_predictions(tmp_path / "ages.csv")
    assert running.returncode in (1, 2) and len(table) == 404 and (table["status"] == STOPPED).any()
    assert "Stopped before all images" in said and "Traceback" not in said


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_odd_names_and_a_closed_pipe_cost_nothing(words, crops, tmp_path, encoding):
    face = Image.open(crops / "a.png")
    names = [b"caf\xe9.png", b"\x1b[2Jred.png", "größe\u202e.png".encode(), b"n" * 240 + b".png"]
    for name in names:
        with open(os.fsencode(str(crops)) + b"/" + name, "wb") as file:
            face.save(file, "PNG")
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(REPOSITORY)}
    listed = subprocess.run([*COMMAND, *words[:-2]], env=environment, capture_output=True)
    assert listed.returncode == 0 and listed.stdout.count(b"\n") == 9, listed.stderr
    assert b"\x1b[2J" not in listed.stdout and rb"\x1b[2Jred.png" in listed.stdout
    (crops / "broken.png").write_bytes(b"no image")
    piped = f"{' '.join([*COMMAND, *words])} | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", piped], env=environment, capture_output=True)
    assert ended.stderr.count(b"\n") == 1 and b"broken.png" in ended.stderr
    assert ended.returncode == 1 and len(read_predictions(tmp_path / "ages.csv")) == 9


def test_a_name_that_is_no_utf8_is_drawn(tiny_run, tmp_path):
    named = os.fsencode(str(tmp_path)) + b"/caf\xe9.png"
    with open(named, "wb") as file:
        Image.open(demo_photo()).save(file, "PNG")
    drawn = [*COMMAND, named, "--weights", str(tiny_run / "weights"), "--explain", str(tmp_path / "drawn")]
    ended = subprocess.run(drawn, cwd=REPOSITORY, capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert [path.suffix for path in (tmp_path / "drawn").iterdir()] == [".jpg"]


def test_messages_begin_with_what_was_typed(monkeypatch, capsys):
    for typed, begins in (("/usr/bin/age-photos", "age-photos: "), ("x/AgeRegBaseline__infer2.py", "AgeRegBaseline: ")):
        monkeypatch.setattr(sys, "argv", [typed])
        assert infer2(["a.jpg", "--weights", "nowhere"]) == 2
        assert capsys.readouterr().err.startswith(begins)


def test_a_web_address_and_an_unknown_device_are_named_as_such(tiny_run, capsys):
    weights = ["--weights", str(tiny_run / "weights")]
    assert infer2(["https://example.org/a.jpg", *weights]) == 2
    assert "https://example.org/a.jpg: this is a web address; save the photo first" in capsys.readouterr().err
    assert infer2([*weights, "--device", "cuda:1"]) == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert infer2([*weights, "--device", "gpu"]) == 2
    assert "There is no device 'gpu'; use auto, cpu, cuda or cuda:N." in capsys.readouterr().err


def test_options_are_frozen_and_those_of_others_are_not_shown():
    options = read_options(make_parser(), ["a.jpg", "--interval", "0.5"], BaseOptions)
    assert (options.inputs, options.interval, options.mode) == (("a.jpg",), 0.5, "bypass")
    with pytest.raises(FrozenInstanceError):
        options.interval = 0.9
    told = make_parser().format_help()
    assert "--references" not in told and "--mode" not in told and "--multi-crop" in told
    assert [line for line in told.splitlines() if line.endswith(":") and line.islower()][-4:] == [
        "images:", "computing:", "estimate:", "results:",
    ]  # fmt: skip


def test_help_is_there_before_one_has_waited():
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], check=True, capture_output=True)
        empty = time.perf_counter()
        subprocess.run([sys.executable, "-c", ""], check=True)
        seconds.append((empty - started) / (time.perf_counter() - empty))
    assert min(seconds) < 12  # times an empty Python; 0.15 s beside 0.03 s on a quiet machine


def test_text_of_a_table_without_faces_or_boxes_is_whole():
    table = pd.DataFrame({name: [] for name in COLUMNS})
    assert as_text(table, "short", Path("a.csv")) == "\ufeff" + ",".join(SHORT_COLUMNS) + "\n"
    assert json.loads(as_text(table, "short", Path("a.json"))) == []
    row = table.reindex([0]).assign(path="a", status="no face found", box="", age=np.nan)
    assert as_text(row, "short", Path("a.jsonl")).startswith('{"photo": "a", "face": null, "age": null')


def test_images_are_read_ahead_in_order_and_no_further():
    running, most, lock = [0], [0], threading.Lock()

    def work(number: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.03 if number % 3 == 0 else 0.001)
        with lock:
            running[0] -= 1
        return number

    taken: list[int] = []

    def items():
        for number in range(30):
            taken.append(number)
            yield number

    found = ahead(work, items(), 3)
    assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4] and len(taken) <= 9
    assert list(found) == list(range(5, 30)) and 1 < most[0] <= 3
    broken = ahead(lambda number: 1 // number, [1, 0], 2)
    assert next(broken) == 1
    with pytest.raises(ZeroDivisionError):
        next(broken)
