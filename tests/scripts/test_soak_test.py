"""The soak check itself, on few files: it counts right, and it can fail."""

import numpy as np

from scripts.research import soak_test
from scripts.research.soak_test import Outcome, main, write_files


def test_few_files_pass_and_all_are_counted(diff_weights, capsys):
    words = ["--files", "60", "--broken", "7", "--weights", str(diff_weights), "--megabytes", "2000"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "estimated 53 of 53 good files, named 7 of 7 broken ones" in printed and "exit status 1" in printed


def test_files_differ_and_as_many_as_wanted_are_broken(tmp_path):
    write_files(tmp_path, 120, 11)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 120 and sum(file.name.startswith("broken") for file in files) == 11
    good = [file.read_bytes() for file in files if file.name.startswith("good")]
    assert len(set(good)) == 109 and min(map(len, good)) > 500


def test_a_lost_file_or_growing_memory_is_told(monkeypatch, capsys):
    flat, growing = np.r_[np.linspace(0, 500, 25), np.full(75, 500.0)], np.linspace(0, 1000, 100)
    assert Outcome(0, 0, 0, flat).growth == 0 and 700 < Outcome(0, 0, 0, growing).growth < 800
    for estimated, named, memory, expected in ((9, 1, flat, 0), (8, 1, flat, 1), (9, 0, flat, 1), (9, 1, growing, 1)):
        outcome = Outcome(estimated, named, 1, memory)
        monkeypatch.setattr(soak_test, "run", lambda folder, words, outcome=outcome: outcome)
        assert main(["--files", "10", "--broken", "1"]) == expected
        assert f"estimated {estimated} of 9" in capsys.readouterr().out
