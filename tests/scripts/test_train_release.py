import json

import pytest

from scripts.release import train_release
from scripts.release.train_release import Stage, main


@pytest.fixture
def plan(monkeypatch, tmp_path):
    """Three stages that each write a line to a file; the second fails while `broken` exists."""
    log, broken = tmp_path / "log", tmp_path / "broken"
    write = (
        "import sys, pathlib; open(sys.argv[1], 'a').write(sys.argv[2]); sys.exit(pathlib.Path(sys.argv[3]).exists())"
    )
    made = [
        Stage(name, [["-c", write, str(log), name, str(broken if name == "b" else tmp_path / "absent")]])
        for name in ("a", "b", "c")
    ]
    monkeypatch.setattr(train_release, "stages", lambda sources, budget: made)
    monkeypatch.setattr(train_release, "WORK", tmp_path / "work")
    return log, broken


def test_stages_run_once_in_order_and_go_on_after_a_failure(plan, tmp_path, capsys):
    log, broken = plan
    broken.touch()
    assert main(["--sources", str(tmp_path)]) == 2
    assert "stage b stopped" in capsys.readouterr().err and log.read_text() == "ab"
    broken.unlink()
    assert main(["--sources", str(tmp_path)]) == 0 and log.read_text() == "abbc"
    assert main(["--sources", str(tmp_path)]) == 0 and log.read_text() == "abbc"
    assert set(json.loads((tmp_path / "work" / "done.json").read_text())) == {"a", "b", "c"}
    assert main(["--sources", str(tmp_path), "--from", "c"]) == 0 and log.read_text() == "abbcc"
    assert main(["--sources", str(tmp_path), "--from", "x"]) == 2
    assert "they are a, b, c" in capsys.readouterr().err


@pytest.mark.parametrize(("budget", "epochs"), [("cpu", ["10", "6"]), ("gpu", ["27", "27", "18"])])
def test_the_plan_names_existing_scripts_and_runs_nothing(tmp_path, capsys, monkeypatch, budget, epochs):
    monkeypatch.setattr(train_release, "WORK", train_release.REPOSITORY / "runs" / "none")
    assert main(["--sources", str(tmp_path), "--plan", "--budget", budget]) == 0
    commands = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("python ")]
    assert len(commands) > 10
    installs = [command for command in commands if command[1] == "-m"]
    assert [command[2:4] for command in installs] == [["pip", "install"]]
    assert all((train_release.REPOSITORY / words[1]).is_file() for words in commands if words not in installs)
    bases = [words for words in commands if words[1].endswith("AgeRegBaseline__main.py")]
    start, base, taught, real, large, again = bases
    assert "data/prepared/publicfigures" in real and "--init-weights" in real and "--teacher" not in real
    assert "large" in large and "large" in again and "--init-weights" in again and "--init-weights" not in large
    both = start + base + taught
    assert [after for word, after in zip(both, both[1:], strict=False) if word == "--epochs"] == epochs
    assert "--init-weights" in base and "--init-weights" not in start
    assert "--teacher" in taught and "--teacher" not in base
