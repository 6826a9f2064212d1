import json

import numpy as np
import pytest

from common.data.manifest import load_prepared
from scripts.select_faces import main


def test_rows_and_crops_stay_together(synthetic_set, tmp_path):
    whole = load_prepared(synthetic_set)
    asked = ["--only", "split=val,test,dar", "--without", "split=dar"]
    assert main([str(synthetic_set), *asked, "--out", str(tmp_path / "some")]) == 0
    some = load_prepared(tmp_path / "some")
    rows = np.flatnonzero(whole.manifest["split"].isin(["val", "test"]))
    assert 0 < len(rows) < len(whole.crops)
    assert some.manifest["id"].tolist() == whole.manifest["id"].iloc[rows].tolist()
    assert np.array_equal(some.crops, whole.crops[rows])
    assert some.manifest["age"].tolist() == whole.manifest["age"].iloc[rows].tolist()
    stored = json.loads((tmp_path / "some" / "prepared.json").read_text())
    assert stored["selected"] == {"only": {"split": ["val", "test", "dar"]}, "without": {"split": ["dar"]}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "split=vall"], "No face has split 'vall'; there are base, calib, dar"),
        (["--only", "split=val", "--without", "split=val"], "No face is left"),
    ],
)
def test_what_cannot_be_selected_is_one_sentence(synthetic_set, tmp_path, capsys, words, said):
    assert main([str(synthetic_set), *words, "--out", str(tmp_path / "some")]) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1 and not (tmp_path / "some").exists()


def test_a_folder_in_use_is_left_alone(synthetic_set, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main([str(synthetic_set), "--only", "split=val", "--out", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_condition_on_no_column_is_refused(synthetic_set, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(synthetic_set), "--only", "race=asian", "--out", str(tmp_path / "some")])
    assert "COLUMN=VALUE" in capsys.readouterr().err
