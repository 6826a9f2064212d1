"""Before and now of a release, by group, gender and decade."""

import numpy as np
import pandas as pd
import pytest

from common.data.predictions import COLUMNS, write_predictions, write_table
from common.errors import DataError
from scripts.release import compare_releases
from scripts.release.compare_releases import common_faces, compare, main, table_lines
from scripts.report.numbers import checked


def predictions(error: float, count: int = 60) -> pd.DataFrame:
    """Faces of 25 (first half, female) and 45 years (male), the second half too old by `error`, the last unlabelled."""
    half = count // 2
    table = pd.DataFrame("", range(count), COLUMNS, dtype=object)
    truth = np.repeat([25.0, 45.0], [half, count - half])
    table["id"], table["status"], table["group"] = [f"f{row}" for row in range(count)], "ok", "white"
    table["gender"] = np.repeat(["female", "male"], [half, count - half])
    table["true_age_min"] = table["true_age_max"] = truth
    table["age"] = truth + np.repeat([1.0, error], [half, count - half])
    table.loc[count - 1, ["true_age_min", "true_age_max"]] = np.nan
    return table


def test_parts_errors_and_gains_by_hand():
    table = compare("s", checked(predictions(5), "a"), checked(predictions(2), "b"))
    everyone = table.iloc[0]
    assert everyone["faces"] == 59 and everyone["mae"] == pytest.approx((30 + 58) / 59)
    assert everyone["gain"] == pytest.approx(29 * 3 / 59) and everyone["low"] < everyone["gain"] < everyone["high"]
    old = table.query("decade == '40-49' and group == ''").iloc[0]
    assert (old["mae_before"], old["mae"], old["bias"], old["gain"], old["low"]) == (5, 2, 2, 3, 3)
    crossed = table[(table[["group", "gender", "decade"]] != "").all(axis=1)]
    assert crossed[["gender", "decade", "faces"]].values.tolist() == [["female", "20-29", 30], ["male", "40-49", 29]]
    assert crossed["gain"].isna().all()


def test_interval_labels_count_by_their_distance_and_strangers_not_at_all():
    before, now = predictions(0, 4), predictions(0, 4)
    for table in (before, now):
        table["true_age_min"], table["true_age_max"] = 20.0, 29.0
    before["age"], now["age"] = [31.5, 20, 20, 20], [25.0, 20, 20, 20]
    faces = common_faces(checked(before, "a"), checked(now, "b"))
    assert faces["was"].tolist() == [2, 0, 0, 0] and faces["is"].tolist() == [0] * 4
    table = compare("s", checked(before, "a"), checked(now, "b"))
    assert np.isnan(table["bias"].astype(float)).all() and set(table["set"]) == {"s, distance to the interval"}
    for mixed in (before, now):
        mixed.loc[0, ["true_age_min", "true_age_max"]] = 25.0
    table = compare("s", checked(before, "a"), checked(now, "b"))
    exact, loose = (table[table["set"] == name].iloc[0] for name in table["set"].unique())
    assert (exact["faces"], exact["mae_before"], exact["bias"]) == (1, 6.5, 0) and loose["faces"] == 3
    with pytest.raises(DataError, match="no labelled face in common"):
        common_faces(checked(before.assign(id="x"), "a"), checked(now, "b"))


def test_the_tables_are_printed_as_written(tmp_path, capsys):
    table = compare("utkface_test", checked(predictions(5), "a"), checked(predictions(2), "b"))
    write_table(table, tmp_path / "compared.csv", 3)
    assert main(["--table", str(tmp_path / "compared.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| utkface_test | 40-49 | 29 | 5.00 | 2.00 | +5.00 | +2.00 | +3.00 (+3.00 to +3.00) |" in lines
    assert "| white, male | – | 5.0 → 2.0 (29) |" in lines
    assert [line.split(" | ")[1] for line in lines[2:8]] == ["all", "white", "female", "male", "20-29", "40-49"]
    assert main([]) == 2


def test_predictions_before_are_those_stored_at_the_commit_or_made_by_its_code(tmp_path, monkeypatch):
    ran = []
    tree = tmp_path / "tree"
    stored = tree / "weights" / "AgeRegBaseline" / "predictions"
    write_predictions(predictions(5), stored / "a.csv.gz")
    monkeypatch.setattr(compare_releases, "old_tree", lambda commit: tree)

    def run_here(command, cwd, env, check):
        ran.append((command[1:], cwd, env["PYTHONPATH"]))
        return type("Done", (), {"returncode": 2})()

    monkeypatch.setattr(compare_releases.subprocess, "run", run_here)
    words = ["--manifest", "data/prepared/a/manifest.csv", "--split", "test"]
    assert compare_releases.predictions_before("AgeRegBaseline", "a", words, "c") == stored / "a.csv.gz" and not ran
    with pytest.raises(DataError, match="could not estimate b"):
        compare_releases.predictions_before("AgeRegBaseline", "b", words, "c")
    command, cwd, path = ran[0]
    assert cwd == tree and path == str(tree) and command[0] == "AgeRegBaseline/AgeRegBaseline__infer2.py"
    assert command[2] == str(compare_releases.REPOSITORY / "data/prepared/a/manifest.csv") and command[4] == "test"


def test_groups_are_sorted_by_what_they_are():
    table = compare("s", checked(predictions(5), "a"), checked(predictions(2), "b"))
    assert table_lines(table)[0].startswith("| set | faces of | faces | MAE before | now |")
