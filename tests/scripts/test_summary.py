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
            table["base_age"] = 14.0
            table["id"] = ["x", "y"] if name == "utkface_test" else ["u", "v"]
            table.to_csv(tmp_path / folder / "predictions" / f"{name}.csv.gz", index=False)
    references = tmp_path / "DiffPipeline6" / "references_fgnet_dev"
    references.mkdir()
    faces = [("x", "p", 10.0), ("y", "q", 20.0)]
    banks = [(*face, name, face[2] + error) for name, error in (("base", 4), *zip(summary.OWN, (2, -1), strict=True))
             for face in faces]  # fmt: skip
    names = ["id", "person", "true_age", "variant", "age"]
    pd.DataFrame(banks, columns=names).to_csv(references / "predictions.csv.gz", index=False)
    controls = [(*face, name, face[2] + error) for name, error in (("base", 4), (summary.CONTROL, 3.5), ("full", 3))
                for face in faces]  # fmt: skip
    for folder in summary.CONTROLS:
        (tmp_path / folder).mkdir(exist_ok=True)
        pd.DataFrame(controls, columns=names).to_csv(tmp_path / folder / "controls.csv.gz", index=False)
    drawn = [(row, person, domain, count, method, 9.0 if domain or method != summary.MODEL else 4 - count / 10, 4.0)
             for row, person in enumerate("pq") for domain in (False, True) for count in (1, 2, 3, 5, 10)
             if (row, count) != (1, 10) for method in ("nothing", summary.MODEL)]  # fmt: skip
    names = ["row", "person", "domain", "own", "method", "error", "before"]
    pd.DataFrame(drawn, columns=names).to_csv(references / "own.csv.gz", index=False)
    (tmp_path / "AlbumPipeline").mkdir()
    album = pd.DataFrame({"what": list(summary.ALBUM), "album": ["0.81", "2.64"]})
    album.to_csv(tmp_path / "AlbumPipeline" / "evaluation.csv", index=False)
    assert summary.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "UTKFace test (2) | public figures (–) | FG-NET (2)" in lines[0]
    assert lines[2] == "| base | 4.00 | – | 4.00 | – |"
    assert lines[3].split(" | ")[1:4] == ["3.00 (+1.00 to +1.00)", "–", "3.00 (+1.00 to +1.00)"]
    assert lines[4].split(" | ")[1:4] == ["3.50 (+0.50 to +0.50)", "–", "–"]
    assert [line.split(" | ")[0] for line in lines[7:9]] == [
        "| base + 1 own dated photo", "| base + 10 own dated photos (1 faces)"
    ]  # fmt: skip
    on_fgnet = [line.split(" | ")[3] for line in lines[7:]]
    gains = zip((3.9, 3.0, 2.0, 1.0), (0.1, 1.0, 2.0, 3.0), strict=True)
    assert on_fgnet == [*(f"{error:.2f} ({gain:+.2f} to {gain:+.2f})" for error, gain in gains), "0.81", "2.64"]
