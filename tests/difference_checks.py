"""What every difference pipeline has to do the same, asserted once and called by the tests of each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.data.predictions import read_predictions
from common.evaluation.metrics import paired_bootstrap

WRONG_WORDS = [
    (["--references", "bank.npz"], "There is no reference bank at bank.npz"),
    (["--person", "anna"], "--references"),
    (["--references", "bank.npz", "--mode", "bypass"], "bypass"),
    (["--mode", "oracle"], "--manifest"),
    (["--mode", "bypass", "--explain", "drawn", "--crops"], "bypass"),
]


def check_modes(infer2: Callable, weights: Path, data: Path, tmp_path: Path, capsys) -> dict[str, pd.DataFrame]:
    """full, bypass and oracle on the test split of a manifest; returns the predictions by mode."""
    tables, printed = {}, {}
    manifest = ["--manifest", str(data / "manifest.csv"), "--split", "test", "--weights", str(weights)]
    for mode in ("full", "bypass", "oracle"):
        out = tmp_path / f"{mode}.csv"
        assert infer2([*manifest, "--mode", mode, "--out", str(out), "--device", "cpu"]) == 0
        tables[mode], printed[mode] = read_predictions(out), capsys.readouterr().out
    full, bypass = tables["full"], tables["bypass"]
    assert np.array_equal(full["base_age"], bypass["age"]) and (full["age"] != bypass["age"]).any()
    assert (full["n_references"] > 0).any() and (bypass["n_references"] == 0).all()
    assert "upper bound" in printed["oracle"] and "upper bound" not in printed["full"]
    truth = full["true_age"].to_numpy()
    gain = paired_bootstrap(full["base_age"] - truth, full["age"] - truth)
    assert float(printed["full"].split("gain ")[1].split()[0]) == pytest.approx(gain["gain"], abs=0.006)
    return tables


def check_drawings(infer2: Callable, weights: Path, tmp_path: Path, capsys) -> None:
    """--explain draws the demo portrait and its references; the table shows both modes."""
    assert infer2(["--weights", str(weights), "--explain", str(tmp_path), "--device", "cpu"]) == 0
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == ["0000_astronaut.jpg", "0000_astronaut_references.png"]
    assert "base" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("image"))


def check_one_line(infer2: Callable, weights: Path, wrong: list[str], said: str, capsys) -> None:
    """A mistake is one line on stderr and exit status 2."""
    try:
        status = infer2(["--weights", str(weights), *wrong])
    except SystemExit as ended:  # an unknown flag
        status = ended.code
    assert status == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1


def check_pairs(infer: Callable, weights: Path, data: Path, tmp_path: Path, capsys) -> None:
    """The difference alone: three sets of pairs, the printed figures being those of the stored pairs."""
    words = ["--weights", str(weights), "--data", str(data), "--out", str(tmp_path), "--device", "cpu"]
    assert infer(words) == 0
    pairs = pd.read_csv(tmp_path / "pairs.csv")
    assert (pairs["query"] != pairs["reference"]).all() and pairs["set"].nunique() == 3
    assert np.isfinite(pairs[["soft_difference", "hard_difference"]].to_numpy()).all()
    lines = capsys.readouterr().out.splitlines()
    radius = int(lines[0].split("±")[1].split()[0])
    (row,) = [line for line in lines if line.startswith("| references at")]
    part = pairs[pairs["set"].str.startswith("references at")]
    inside = part[part["true_difference"].abs() <= radius]
    error = (inside["soft_difference"] - inside["true_difference"]).abs().mean()
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert cells[:2] == [str(len(inside)), str(len(part) - len(inside))]
    assert float(cells[2]) == pytest.approx(error, abs=0.006)
    assert len(list(tmp_path.glob("confusion_*.png"))) == 3


def check_resume(train: Callable, module, words: list[str], tmp_path: Path, stops: tuple[int, ...] = (2,)) -> None:
    """A training of 3 epochs (a round) stopped after so many goes on to the same history and weights.

    `module` is the pipeline's __train; several stops interrupt one training several times.
    """
    name = module.__name__.split(".")[0]
    runs = words.index("--runs") + 1
    whole, cut = ([*words[:runs], str(tmp_path / part), *words[runs + 1 :], "--epochs", "3"] for part in ("w", "c"))
    assert train(whole) == 0
    (unbroken,) = (tmp_path / "w" / name).iterdir()
    finish_epoch, done = module.finish_epoch, []

    def stop_now_and_then(run, row):
        finish_epoch(run, row)
        done.append(row)
        if len(done) in stops:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "finish_epoch", stop_now_and_then)
        assert train(cut) == 130
        (broken,) = (tmp_path / "c" / name).iterdir()
        for _ in stops[1:]:
            assert train(["--resume", str(broken)]) == 130
        assert train(["--resume", str(broken)]) == 0
    first, second = (pd.read_csv(folder / "history.csv") for folder in (unbroken, broken))
    assert len(first) >= 3 and len(done) >= max(stops) + 1
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"), check_exact=True)
    first, second = ((folder / "weights" / "model.safetensors").read_bytes() for folder in (unbroken, broken))
    assert first == second
