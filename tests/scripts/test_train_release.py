"""The release: stages run once, again when what they are made of changes, and go on after an interruption."""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.release import digests, stages, train_release
from scripts.release.digests import Digests
from scripts.release.stages import Stage
from scripts.release.train_release import main


def copying(name: str, source: str, target: str) -> Stage:
    """A stage that appends its name to what it reads."""
    return Stage(name, [["copy.py", name, f"./{source}", "--out", target]])


def training(root: Path, command: list[str]) -> int:
    """What a training does: make a run or go on with one, stop while the file ./killed exists, leave weights."""
    if "--resume" in command:
        run = root / command[-1]
    else:
        run = root / command[-1] / "P" / "1"
        (run / "weights").mkdir(parents=True)
        (run / "latest_model.ckpt").touch()
    if (root / "killed").exists():
        return 1
    for name in ("model.safetensors", "config.json"):
        (run / "weights" / name).write_text("{}")
    (root / "log").open("a").write("resumed" if "--resume" in command else "trained")
    return 0


def run_here(words, cwd, check):
    """Stands for subprocess.run: copies and trainings in this process; a copy fails while ./broken_<name> exists."""
    command = words[1:]
    if command[0] == "train.py":
        return SimpleNamespace(returncode=training(cwd, command))
    _, name, source, _, target = command
    (cwd / "log").open("a").write(name)
    if (cwd / f"broken_{name}").exists():
        return SimpleNamespace(returncode=1)
    (cwd / target).parent.mkdir(parents=True, exist_ok=True)
    (cwd / target).write_text((cwd / source).read_text().strip() + name)
    return SimpleNamespace(returncode=0)


@pytest.fixture
def plan(monkeypatch, tmp_path):
    """Root with stages a, b, c (each reads what the one before writes) and d, which reads a file of its own."""
    (tmp_path / "source").write_text("s\n")
    (tmp_path / "other").write_text("o\n")
    made = [
        copying("a", "source", "out/a"), copying("b", "out/a", "out/b"), copying("c", "out/b", "out/c"),
        copying("d", "other", "out/d"),
    ]  # fmt: skip
    monkeypatch.setattr(stages, "stages", lambda sources, budget: made)
    monkeypatch.setattr(train_release, "REPOSITORY", tmp_path)
    monkeypatch.setattr(train_release.subprocess, "run", run_here)
    return tmp_path, made


def ran(root, *words: str) -> tuple[int, str]:
    """Exit status of the command, and the names of the stages that it ran."""
    (root / "log").write_text("")
    return main(["--sources", str(root), *words]), (root / "log").read_text()


def test_a_stage_runs_again_only_when_what_it_reads_changed(plan):
    root, made = plan
    assert ran(root) == (0, "abcd") and (root / "out" / "c").read_text() == "sabc"
    assert ran(root) == (0, "")
    os.utime(root / "source", (1, 1))  # touched, the same bytes
    assert ran(root) == (0, "")
    (root / "source").write_text("t\n")
    assert ran(root) == (0, "abc") and (root / "out" / "c").read_text() == "tabc"
    (root / "source").write_text("t")  # what a writes of it stays the same
    assert ran(root) == (0, "a")
    (root / "out" / "c").unlink()
    assert ran(root) == (0, "c")
    made[3] = copying("d", "other", "out/e")
    assert ran(root) == (0, "d")


def test_a_stage_that_writes_into_what_it_reads_and_archives_that_move_are_done_once(plan, tmp_path_factory):
    root, made = plan
    archives = tmp_path_factory.mktemp("archives")
    for name in ("old", "new"):
        (archives / name).mkdir()
        (archives / name / "x.tar").write_text("x")
    (root / "out").mkdir()
    (root / "out" / "self").write_text("")
    made[:] = [Stage("e", [["copy.py", "e", str(archives / "old" / "x.tar"), "--out", "out/e"]]),
               Stage("f", [["copy.py", "f", "out/self", "--out", "out/self"]])]  # fmt: skip
    assert ran(root) == (0, "ef") and ran(root) == (0, "")
    made[0] = Stage("e", [["copy.py", "e", str(archives / "new" / "x.tar"), "--out", "out/e"]])
    assert ran(root) == (0, "")
    (archives / "new" / "x.tar").write_text("y")
    assert ran(root) == (0, "e")


def test_a_failed_stage_goes_on_and_the_reason_is_told(plan, capsys):
    root, _ = plan
    (root / "broken_b").touch()
    assert ran(root) == (2, "ab")
    assert "stage b stopped" in capsys.readouterr().err
    (root / "broken_b").unlink()
    assert ran(root) == (0, "bcd")
    told = capsys.readouterr().out
    assert "stage a: done before" in told and "stage c: never done" in told
    assert set(json.loads((root / "runs" / "release" / "done.json").read_text())) == {"a", "b", "c", "d"}
    (root / "other").write_text("p")
    assert ran(root) == (0, "d") and "stage d: changed: ./other" in capsys.readouterr().out


def test_from_leaves_the_earlier_stages_alone_and_again_repeats(plan, capsys):
    root, _ = plan
    (root / "out").mkdir()
    (root / "out" / "a").write_text("by hand")
    assert ran(root, "--from", "b") == (0, "bcd") and (root / "out" / "c").read_text() == "by handbc"
    assert ran(root, "--from", "b") == (0, "")
    assert ran(root, "--from", "c", "--again") == (0, "cd")
    (root / "broken_d").touch()
    assert ran(root, "--from", "c", "--again") == (2, "cd")
    (root / "broken_d").unlink()
    assert ran(root, "--from", "c") == (0, "d")
    assert ran(root, "--from", "x") == (2, "")
    assert "they are a, b, c, d" in capsys.readouterr().err


def test_notes_of_older_code_are_no_proof(plan):
    root, _ = plan
    ran(root)
    (root / "runs" / "release" / "done.json").write_text(json.dumps({"a": 12, "b": 3}))
    assert ran(root) == (0, "abcd")
    (root / "runs" / "release" / "done.json").write_text("{")
    assert ran(root) == (2, "")


def test_a_training_goes_on_if_it_is_the_same_and_begins_anew_if_not(plan, capsys):
    root, made = plan
    made[:] = [Stage("t", [["train.py", "./source", "--runs", "runs/release/t"]], ("t", "P"), "P")]
    (root / "killed").touch()
    assert ran(root) == (2, "")
    (root / "killed").unlink()
    assert ran(root) == (0, "resumed") and (root / "weights" / "P" / "model.safetensors").is_file()
    (root / "weights" / "P" / "head.onnx").touch()  # made of the weights before
    (root / "source").write_text("new")
    (root / "killed").touch()
    assert ran(root) == (2, "")
    (root / "killed").unlink()
    (root / "source").write_text("newer")
    assert ran(root) == (0, "trained") and not (root / "weights" / "P" / "head.onnx").exists()
    (root / "runs" / "release" / "done.json").unlink()
    capsys.readouterr()
    assert ran(root) == (2, "") and "runs of unknown making" in capsys.readouterr().err


def test_weights_and_prepared_sets_count_by_what_is_learnt_and_read(tmp_path):
    weights, prepared, memory = tmp_path / "w", tmp_path / "p", tmp_path / "memory.json"
    weights.mkdir()
    prepared.mkdir()
    (weights / "model.safetensors").write_text("1")
    (weights / "config.json").write_text('{"model": {"decode": "mean"}, "sha256": {}}')
    (prepared / "manifest.csv").write_text("path")

    def seen() -> tuple[str, str]:
        found = Digests(tmp_path, memory)
        return found.path("w"), found.path("p")

    first = seen()
    (weights / "intervals.json").write_text("{}")
    (weights / "config.json").write_text('{"model": {"decode": "mean"}, "sha256": {"intervals.json": "0"}}')
    (prepared / "crops.json").write_text("{}")
    assert seen() == first
    (weights / "config.json").write_text('{"model": {"decode": "median"}}')
    (prepared / "crops.npy").write_text("x")
    assert seen()[0] != first[0] and seen()[1] != first[1]
    assert digests.Digests(tmp_path, memory).path("nowhere") == "missing"


@pytest.mark.parametrize(
    ("budget", "epochs"), [("cpu", ["10", "6", "6", "5"]), ("gpu", ["27", "27", "18", "24", "18", "5"])]
)
def test_the_plan_names_existing_scripts_and_runs_nothing(tmp_path, capsys, budget, epochs):
    assert main(["--sources", str(tmp_path), "--plan", "--budget", budget]) == 0
    commands = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("python ")]
    assert len(commands) > 10
    installs = [command for command in commands if command[1] == "-m"]
    assert [command[2:4] for command in installs] == [["pip", "install"]]
    assert all((train_release.REPOSITORY / words[1]).is_file() for words in commands if words not in installs)
    bases = [words for words in commands if words[1].endswith("AgeRegBaseline__main.py")]
    start, base, taught, large, again, real = bases
    assert "data/prepared/publicfigures" in real and "--init-weights" in real and "--teacher" not in real
    assert "large" in large and "large" in again and "--init-weights" in again and "--init-weights" not in large
    words = sum(bases, [])
    assert [after for word, after in zip(words, words[1:], strict=False) if word == "--epochs"] == epochs
    assert "--init-weights" in base and "--init-weights" not in start
    assert "--teacher" in taught and "--teacher" not in base


def test_every_input_of_the_plan_is_made_or_given_before_it_is_read(tmp_path):
    made = stages.stages(tmp_path, "cpu")
    names = [stage.name for stage in made]
    assert len(set(names)) == len(names)
    trained = set()
    for stage in made:
        for command in stage.commands:
            for word in command:
                assert not word.startswith("@") or tuple(re.split("[/?]", word[1:])[:2]) in trained
        trained |= {stage.trains} if stage.trains else set()
    after = names[names.index("graph") :]
    assert {"joined", "difference", "ep3", "ranges", "intervals", "golden", "album", "tables"} <= set(after)
    assert not {"large", "large_again", "taught"} & set(after)
