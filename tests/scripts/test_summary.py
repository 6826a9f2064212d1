import json

import pandas as pd

from common.data.predictions import to_csv
from scripts.release import summary


def table_of(rows):
    """A predictions table of (age, true age, group, gender) rows."""
    table = pd.DataFrame(rows, columns=["age", "true_age", "group", "gender"])
    for name in ("id", "path", "box", "reference_ids", "reference_spread", "person", "interval_low", "interval_high"):
        table[name] = ""
    table["face"], table["status"], table["n_references"] = 0, "ok", 0
    table["base_age"] = table["age"]
    table["true_age_min"] = table["true_age_max"] = table["true_age"]
    return table


def test_error_and_bias_by_group_gender_and_decade(tmp_path, capsys):
    rows = [(12.0, 10, "a", "female")] * 5 + [(28.0, 29, "a", "female")] * 5 + [(30.0, 20, "b", "male")] * 4
    (tmp_path / "x.csv").write_text(to_csv(table_of(rows)))
    assert summary.main(["--groups", str(tmp_path / "x.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:5] == ["| a | 1.5, +0.5 (10) | – |", "| b | – | – |", "| all | 1.5, +0.5 (10) | – |"]
    assert lines[8:10] == ["| 10–19 | 2.0 (5) | – | – | – |", "| 20–29 | 1.0 (5) | – | – | – |"]
    (tmp_path / "y.csv").write_text(to_csv(table_of([(12.0, 10, "", "")])))
    assert summary.main(["--groups", str(tmp_path / "y.csv")]) == 2
    assert "names no group and gender" in capsys.readouterr().err


def test_every_way_in_one_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(summary, "WEIGHTS", tmp_path)
    assert summary.main([]) == 2 and "is missing" in capsys.readouterr().err
    for folder, age in (("AgeRegBaseline", 14.0), ("DiffPipeline6", 13.0)):
        (tmp_path / folder / "predictions").mkdir(parents=True)
        for name in ("fgnet_dev", "utkface_test"):
            table = table_of([(age, 10, "", "")] * 2)
            table.to_csv(tmp_path / folder / "predictions" / f"{name}.csv.gz", index=False)
    (tmp_path / "AgeRegBaseline" / "metrics.json").write_text(json.dumps({"speed": {"ms_per_crop_one_core": 5.5}}))
    (tmp_path / "DiffPipeline6" / "references_fgnet_dev").mkdir()
    own = pd.DataFrame({"variant": list(summary.OWN), "true_age": [10.0, 10.0], "age": [12.0, 9.0]})
    own.to_csv(tmp_path / "DiffPipeline6" / "references_fgnet_dev" / "predictions.csv", index=False)
    (tmp_path / "AlbumPipeline").mkdir()
    album = pd.DataFrame({"what": [summary.ALBUM], "album": ["0.81"]})
    album.to_csv(tmp_path / "AlbumPipeline" / "evaluation.csv", index=False)
    assert summary.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "UTKFace test (2) | public figures (–) | FG-NET (2)" in lines[0]
    assert lines[2] == "| base | 4.00 | – | 4.00 | – | 5.5 |"
    assert [line.split(" | ")[3] for line in lines[3:]] == ["3.00", "–", "–", "2.00", "1.00", "0.81"]
