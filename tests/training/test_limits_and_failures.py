"""Limited sets are spread over a sorted one; estimates, losses and settings that cannot be right are said, not used."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from AgeRegBaseline import AgeRegBaseline__train as train
from AgeRegBaseline.AgeRegBaseline__config import PRESETS, AgeRegBaselineConfig, parse_arguments
from AgeRegBaseline.AgeRegBaseline__dataset import FaceSet
from AgeRegBaseline.AgeRegBaseline__main import main
from AgeRegBaseline.AgeRegBaseline__selection import selection_error
from common.base.weights import load_bar, settings_of
from common.data.manifest import drawn
from common.errors import DataError
from common.evaluation.metrics import interval_metrics, paired_bootstrap, point_metrics, summarise
from common.training.checkpoints import load_checkpoint
from common.training.command import FEW, selected_by
from common.training.runs import check_finite, new_run, sentence_of
from scripts.report_metrics import gain_lines, table_lines
from tests.conftest import TINY

NAN = np.nan


def sorted_set(out: Path, count: int = 200) -> Path:
    """A prepared set of black crops whose ages rise by row, as they do in UTKFace."""
    out.mkdir()
    table = pd.DataFrame({"path": [f"{row}.jpg" for row in range(count)], "id": range(count), "split": "base"})
    table.assign(age=np.arange(count) // 2).to_csv(out / "manifest.csv", index=False)
    np.save(out / "crops.npy", np.zeros((count, 48, 48, 3), np.uint8))
    (out / "prepared.json").write_text("{}")
    return out


def test_a_limited_set_is_drawn_from_all_ages(tmp_path):
    faces = FaceSet([sorted_set(tmp_path / "set")], "base", 48, 40)
    assert len(faces) == 40 and faces.low.min() < 20 and faces.low.max() > 80 and 35 < faces.low.mean() < 65
    assert (np.diff(faces.row) > 0).all()
    other = FaceSet([tmp_path / "set"], "base", 48, 40, seed=1)
    assert not np.array_equal(faces.row, other.row)
    assert np.array_equal(faces.row, FaceSet([tmp_path / "set"], "base", 48, 40).row)


def test_drawn_keeps_all_without_a_limit():
    rows = np.arange(5, 15)
    assert np.array_equal(drawn(rows, 0, 0), rows) and np.array_equal(drawn(rows, 10, 0), rows)
    assert len(set(drawn(rows, 4, 0))) == 4 and set(drawn(rows, 4, 0)) <= set(rows)


def test_estimates_that_are_not_finite_miss_in_every_share():
    result = point_metrics(np.array([30.0, NAN, 44.0, np.inf]), np.array([30.0, 20.0, 40.0, 50.0]))
    assert result == {
        "n": 4, "mae": 2.0, "rmse": 2.828, "bias": 2.0, "cs1": 25.0, "cs3": 25.0, "cs5": 50.0, "cs10": 50.0,
        "not_finite": 2,
    }  # fmt: skip
    inside = interval_metrics(np.array([25.0, NAN, 40.0, -np.inf]), np.full(4, 20.0), np.full(4, 29.0))
    assert inside == {"n": 4, "hit_rate": 25.0, "distance": 5.25, "not_finite": 2}
    for measure in (lambda: point_metrics(np.full(2, NAN), np.ones(2)), lambda: paired_bootstrap([NAN, 1], [1, 1])):
        with pytest.raises(DataError, match="of 2 ha(s|ve) no finite age"):
            measure()


def table_of(ages: list[float]) -> pd.DataFrame:
    table = pd.DataFrame({"age": ages, "base_age": ages, "status": "ok", "true_age_min": 30.0, "true_age_max": 30.0})
    return table.assign(person="", gender="", group="")


def test_a_summary_counts_and_names_them():
    table = table_of([30.0, NAN, 32.0, np.inf])
    result = summarise(table)
    assert (result["faces"], result["failed"], result["not_finite"]) == (2, 2, 2)
    assert result["exact"]["all"]["mae"] == 1.0 and result["exact"]["all"]["cs5"] == 50.0
    assert table_lines({"mine": result})[-1] == "\nmine: 2 of 4 have no finite age; they count as misses."
    assert summarise(table_of([NAN, NAN])) == {"faces": 0, "failed": 2, "not_finite": 2}
    lines = gain_lines({"set": table.assign(base_age=31.0)})
    assert lines[3].startswith("| set, MAE | 2 | 1.000 | 1.000 |")


@dataclass(frozen=True)
class Place:
    runs: str = ""


def test_a_run_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written .* give another --runs"):
        new_run(Place(str(tmp_path / "file")), "any", [])

    def full(path, text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("common.training.runs.write_whole", full)
    with pytest.raises(DataError, match="No space left on device"):
        new_run(Place(str(tmp_path)), "any", [])
    assert not list((tmp_path / "any").iterdir())
    assert sentence_of(OSError(28, "No space left on device", "a.csv")) == (
        "a.csv cannot be read or written (No space left on device); the last saved state of the run is whole."
    )


@pytest.fixture
def begun(tmp_path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(settings_of(AgeRegBaselineConfig(epochs=3, seed=4))))
    (tmp_path / "data.json").write_text(json.dumps([str(tmp_path / "mine")]))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "5"], "epochs is 3 there, not 5"),
        (["--preset", "vgg16_kl"], "backbone is 'mobilefacenet' there, not 'vgg16'"),
        (["--data", "other"], "data is "),
    ],
)
def test_other_settings_beside_resume_are_refused(begun, words, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse_arguments(["--resume", str(begun), *words])
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and message in error and len(error.strip().splitlines()) == 1


def test_the_same_settings_beside_resume_are_fine(begun):
    config, options = parse_arguments(["--resume", str(begun), "--epochs", "3", "--data", str(begun / "mine")])
    assert (config.epochs, config.seed, options.resume) == (3, 4, str(begun))


def test_a_number_that_is_not_finite_ends_a_training(synthetic_set, tmp_path, monkeypatch, capsys):
    assert check_finite(1.5, "loss", 1) == 1.5
    real, calls = train.compute_loss, []

    def broken(*words):
        calls.append(1)
        loss = real(*words)
        return loss._replace(total=loss.total * NAN) if len(calls) == 3 else loss

    monkeypatch.setattr(train, "compute_loss", broken)
    words = ["--data", str(synthetic_set), "--epochs", "2", "--limit", "64", "--checkpoint-steps", "1", *TINY]
    assert main([*words, "--runs", str(tmp_path)]) == 2
    assert "The gradient of epoch 2 is not finite (nan)" in capsys.readouterr().err
    (run,) = (tmp_path / "AgeRegBaseline").iterdir()
    states = [load_checkpoint(run / name)["model"] for name in ("best_model.ckpt", "latest_model.ckpt")]
    assert all(value.isfinite().all() for state in states for value in state.values())


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_validation_with_a_failure_ends_a_training(epoch):
    with pytest.raises(DataError, match=f"1 of 2 has no finite age.* of epoch {epoch} is not finite"):
        selection_error(summarise(table_of([30.0, NAN])), epoch)


def test_fine_tuning_never_releases_less_than_its_start(synthetic_set, tiny_run, tmp_path, monkeypatch, capsys):
    real = train.validate

    def worse_when_trained(run, model):
        table = real(run, model)
        return table.assign(age=table["age"] + 50 * (run.loop.progress.step > 0))

    monkeypatch.setattr(train, "validate", worse_when_trained)
    start = str(tiny_run / "weights")
    words = ["--init-weights", start, "--keep-init", "0.5", "--epochs", "1", "--limit", "64", *TINY]
    assert main(["--data", str(synthetic_set), *words, "--runs", str(tmp_path)]) == 0
    assert "No epoch was better than the start" in capsys.readouterr().out
    (run,) = (tmp_path / "AgeRegBaseline").iterdir()
    assert pd.read_csv(run / "history.csv")["epoch"].tolist() == [0, 1]
    kept, given = (load_bar(folder).state_dict() for folder in (run / "weights", start))
    assert all(torch.equal(value, kept[name]) for name, value in given.items())


def test_what_is_validated_is_what_is_released(tiny_run):
    config = AgeRegBaselineConfig(init_weights=str(tiny_run / "weights"), keep_init=0.25)
    model = load_bar(tiny_run / "weights")
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for value in model.parameters():
            value.add_(4.0)
    mixed = train.candidate(SimpleNamespace(config=config, plain_model=model)).state_dict()
    for name, _ in model.named_parameters():
        assert torch.allclose(mixed[name], start[name] + 3, atol=1e-4)
    assert set(asdict(config)) >= set(PRESETS["finetune"])


def test_few_validation_faces_are_said_to_select_by_chance():
    assert selected_by(FEW) == f"{FEW} to select by"
    assert selected_by(2).startswith("2 to select by (fewer than 30: the epoch is chosen by chance")
