"""The analysis scripts: the figures of a report recomputed here, and the two ways to estimate against each other."""

import base64
import io
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.data.manifest import load_prepared
from common.data.predictions import prediction_table, read_predictions, write_predictions
from common.evaluation.metrics import paired_bootstrap
from scripts.analyze_reg_model import main as analyze
from scripts.analyze_reg_model_on_actual_pipe import main as analyze_on_pipe
from scripts.report.numbers import mean_interval, measure_parts


def number(cell: str) -> float:
    """The value of a cell like '5.12 [4.90, 5.34]'."""
    return float(cell.split()[0])


class Report:
    """A written report: its tables by id as lists of text rows, its images, its whole text."""

    def __init__(self, path: Path):
        self.text = path.read_text()
        root = ET.fromstring(self.text)  # well-formed, or this raises
        self.tables = {
            table.get("id"): [[cell.text or "" for cell in row] for row in table.find("tbody")]
            for table in root.iter("table")
        }
        self.pictures = [image.get("src") for image in root.iter("img")]
        self.captions = [caption.text for caption in root.iter("caption")]

    def row(self, table: str, name: str) -> list[str]:
        (row,) = (row for row in self.tables[table] if row[0] == name)
        return row


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Predictions of 400 faces of 80 persons, one of which was not estimated and one labelled by a range."""
    rng = np.random.default_rng(3)
    manifest = pd.DataFrame({"id": [f"face{i:03d}" for i in range(400)], "age": rng.integers(0, 90, 400).astype(float)})
    manifest["path"] = manifest["id"] + ".jpg"
    manifest["person"] = [f"p{i // 5}" for i in range(400)]
    manifest["gender"] = rng.choice(["female", "male", ""], 400)
    manifest["group"] = rng.choice(["a", "b & c"], 400)
    manifest["age_min"], manifest["age_max"] = np.nan, np.nan
    manifest.loc[1, ["age", "age_min", "age_max"]] = np.nan, 20.0, 29.0
    ages = np.round(manifest["age"].fillna(25) * 0.9 + 3 + rng.normal(0, 5, 400), 2)
    table = prediction_table(manifest, ages.to_numpy())
    table.loc[0, ["status", "age"]] = "no face found", np.nan
    table["interval_low"], table["interval_high"] = table["age"] - 8, table["age"] + 8
    return table


@pytest.fixture(scope="module")
def stored(table, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "p.csv"
    write_predictions(table, path)
    return path


@pytest.fixture(scope="module")
def report(stored) -> Report:
    assert analyze([str(stored), "--interval", "0.9", "--out", str(stored.parent / "r.html")]) == 0
    return Report(stored.parent / "r.html")


@pytest.fixture
def exact(table) -> tuple[np.ndarray, np.ndarray]:
    """True and estimated ages [398] of the exactly labelled, estimated faces."""
    return table["true_age_min"].to_numpy(float)[2:], table["age"].to_numpy(float)[2:]


def test_overall_errors_and_scores(report, exact):
    truth, age = exact
    row, error = report.row("overall", "all faces"), np.abs(age - truth)
    assert int(row[1]) == 398 and number(row[2]) == pytest.approx(error.mean(), abs=0.006)
    assert number(row[3]) == pytest.approx((age - truth).mean(), abs=0.006)
    assert number(row[4]) == pytest.approx(np.sqrt((error**2).mean()), abs=0.006)
    scores = [100 * np.mean(error <= k) for k in range(1, 11)]
    assert [float(cell) for cell in report.tables["scores"][0]] == pytest.approx(scores, abs=0.06)
    assert number(row[5]) == pytest.approx(scores[4], abs=0.06)


def test_bias_and_mae_by_decade_and_band(report, exact):
    truth, age = exact
    parts = {f"{d}-{d + 9}": ("decades", d, d + 9) for d in range(0, 90, 10)}
    parts |= {"0-12": ("bands", 0, 12), "13-17": ("bands", 13, 17), "65+": ("bands", 65, 200)}
    for name, (place, low, high) in parts.items():
        row, error = report.row(place, name), (age - truth)[(truth >= low) & (truth <= high)]
        assert int(row[1]) == len(error)
        assert number(row[2]) == pytest.approx(np.abs(error).mean(), abs=0.006)
        assert number(row[3]) == pytest.approx(error.mean(), abs=0.006)
    assert sum(int(row[1]) for row in report.tables["decades"]) == 398


def test_by_gender_and_group_with_unknown_ones_left_out(report, table, exact):
    truth, age = exact
    assert [row[0] for row in report.tables["parts"]] == ["female", "male", "a", "b & c"]
    mine = (table["gender"] == "female").to_numpy()[2:]
    assert number(report.row("parts", "female")[3]) == pytest.approx((age - truth)[mine].mean(), abs=0.006)


def test_confusion_at_18(report, exact):
    truth, age = exact
    child, adult = report.row("confusion", "below 18"), report.row("confusion", "18 and older")
    as_adult = int(np.sum((truth < 18) & (age >= 18)))
    assert child[1:4] == [str(np.sum(truth < 18)), str(np.sum((truth < 18) & (age < 18))), str(as_adult)]
    assert adult[2:4] == [str(np.sum((truth >= 18) & (age < 18))), str(np.sum((truth >= 18) & (age >= 18)))]
    assert number(child[4]) == pytest.approx(100 * as_adult / np.sum(truth < 18), abs=0.06)


def test_worst_faces_and_coverage(report, table, exact):
    truth, age = exact
    order = np.argsort(-np.abs(age - truth), kind="stable")[:16]
    assert [row[0] for row in report.tables["worst"]] == table["path"].to_numpy()[2:][order].tolist()
    everyone = report.row("coverage", "all faces")
    assert number(everyone[2]) == pytest.approx(100 * np.mean(np.abs(age - truth) <= 8), abs=0.3)  # stored rounded
    assert everyone[3] == "16.0"


def test_the_report_is_one_file_with_labels_by_range_apart(report):
    assert report.tables["ranges"][0][:2] == ["all", "1"] and "399 faces estimated, 1 not." in report.text
    assert len(report.pictures) == 5 and all(src.startswith("data:image/png;base64,") for src in report.pictures)
    assert "http" not in report.text and "<script" not in report.text and "url(" not in report.text


def test_intervals_of_a_mean_are_clustered_by_person():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(0, 3, 60), 4) + rng.normal(0, 1, 240)  # four faces each of 60 persons
    person = np.repeat([f"p{i}" for i in range(60)], 4)
    means = [values.reshape(60, 4)[rng.integers(0, 60, 60)].mean() for _ in range(4000)]
    assert mean_interval(values, person) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.12)
    alone = mean_interval(values, np.full(240, ""))
    assert np.diff(alone)[0] < 0.6 * np.diff(mean_interval(values, person))[0]
    assert np.isnan(mean_interval(values[:4], person[:4])).all()
    rows = pd.DataFrame({"truth": [1.0], "error": [2.0], "person": [""]})
    assert measure_parts(rows, {"one": rows["truth"] > 0, "none": rows["truth"] > 5})["part"].tolist() == ["one"]


@pytest.fixture(scope="module")
def two_ways(synthetic_set, tiny_run, tmp_path_factory) -> Path:
    """A folder with report and predictions of the same faces by both scripts."""
    folder = tmp_path_factory.mktemp("both")
    words = ["--manifest", str(synthetic_set / "manifest.csv"), "--weights", str(tiny_run / "weights")]
    for name, main, size in (("plain", analyze, "50"), ("pipe", analyze_on_pipe, "32")):
        out = ["--out", str(folder / f"{name}.html"), "--save", str(folder / f"{name}.csv"), "--batch-size", size]
        assert main([*words, "--device", "cpu", *out]) == 0
    return folder


def test_both_scripts_agree(synthetic_set, tiny_run, monkeypatch):
    tables = {}
    words = ["--manifest", str(synthetic_set / "manifest.csv"), "--weights", str(tiny_run / "weights")]
    for module, main in (("analyze_reg_model", analyze), ("analyze_reg_model_on_actual_pipe", analyze_on_pipe)):
        monkeypatch.setattr(f"scripts.{module}.deliver", lambda _, table, name, m=module: tables.update({m: table}))
        assert main([*words, "--device", "cpu", "--batch-size", "50" if module.endswith("pipe") else "64"]) == 0
    plain, pipe = tables.values()
    assert plain["id"].tolist() == pipe["id"].tolist() and len(plain) == 320
    assert plain["age"].std() > 0.02
    assert plain["age"].to_numpy(float) == pytest.approx(pipe["age"].to_numpy(float), abs=1e-4)
    for column in ("true_age_min", "true_age_max"):
        assert plain[column].tolist() == pipe[column].tolist()


def test_both_reports_say_the_same_and_show_the_worst_crops(two_ways, synthetic_set):
    plain, pipe = Report(two_ways / "plain.html"), Report(two_ways / "pipe.html")
    assert list(plain.tables) == list(pipe.tables)
    for row, other in zip(plain.tables["decades"], pipe.tables["decades"], strict=True):
        assert row[:2] == other[:2] and number(row[2]) == pytest.approx(number(other[2]), abs=0.011)
    assert len(plain.pictures) == len(pipe.pictures) == 16 + 4
    prepared = load_prepared(synthetic_set)
    row = prepared.manifest["path"].tolist().index(plain.tables["worst"][0][0])
    shown = Image.open(io.BytesIO(base64.b64decode(plain.pictures[4].partition(",")[2])))
    assert np.array_equal(np.asarray(shown), prepared.crops[row])
    stored = read_predictions(two_ways / "plain.csv")
    error = (stored["age"] - stored["true_age"]).abs().mean()
    assert number(plain.row("overall", "all faces")[2]) == pytest.approx(error, abs=0.011)


def test_one_split_and_stored_predictions_with_crops(synthetic_set, tiny_run, two_ways, tmp_path, capsys):
    manifest = str(synthetic_set / "manifest.csv")
    words = ["--manifest", manifest, "--weights", str(tiny_run / "weights"), "--out", str(tmp_path / "r.html")]
    assert analyze([*words, "--split", "test"]) == 0
    count = int((pd.read_csv(manifest)["split"] == "test").sum())
    assert f"| synthetic test | {count} |" in capsys.readouterr().out
    assert analyze([str(two_ways / "plain.csv"), "--manifest", manifest, "--out", str(tmp_path / "r.html")]) == 0
    assert len(Report(tmp_path / "r.html").pictures) == 16 + 4


def test_compare_with_the_csv_of_another_tool(table, stored, exact, tmp_path, capsys):
    truth, age = exact
    other = truth + np.random.default_rng(0).normal(0, 9, len(truth))
    tool = pd.DataFrame({"age": other, "id": table["id"].to_numpy()[2:]}).iloc[50:].sample(frac=1, random_state=0)
    tool.loc[tool.index[:7], "age"] = np.nan
    tool.to_csv(tmp_path / "tool.csv", index=False)
    assert (
        analyze(["--compare", f"ours={stored}", f"tool={tmp_path / 'tool.csv'}", "--out", str(tmp_path / "c.html")])
        == 0
    )
    kept = np.sort(tool.index[7:])
    person = table["person"].to_numpy(str)[2:][kept]
    gain = paired_bootstrap((age - truth)[kept], (other - truth)[kept], person)
    shown = Report(tmp_path / "c.html")
    ours, theirs = shown.tables["comparison"]
    assert ours[:2] == ["ours", "398"] and theirs[:2] == ["tool", "341"] and ours[5] == "–"
    assert any("On the 341 exactly labelled faces" in caption for caption in shown.captions)
    assert number(ours[2]) == pytest.approx(np.abs(age - truth)[kept].mean(), abs=0.006)
    assert number(theirs[3]) == pytest.approx(100 * np.mean(np.abs(other - truth)[kept] <= 5), abs=0.06)
    assert number(theirs[4]) == pytest.approx((other - truth)[kept].mean(), abs=0.006)
    assert theirs[5] == f"{gain['gain']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]"
    assert "| tool | 341 |" in capsys.readouterr().out


def test_analysed_predictions_come_first_in_a_comparison(stored, tmp_path):
    assert analyze([str(stored), "--compare", f"again={stored}", "--out", str(tmp_path / "c.html")]) == 0
    first, second = Report(tmp_path / "c.html").tables["comparison"]
    assert first[0] == "p" and second[0] == "again" and second[5] == "+0.00 [+0.00, +0.00]"


def test_names_are_shown_as_they_are(table, tmp_path):
    odd = table.assign(group="$\\frac$ <b>", gender="_x", path="</td><script>alert('1')</script>\" & {{ 7 * 7 }}.jpg")
    write_predictions(odd, tmp_path / "p.csv")
    words = ["--compare", f"_a$b$={tmp_path / 'p.csv'}", f"<i>={tmp_path / 'p.csv'}", "--out", str(tmp_path / "c.html")]
    assert analyze([str(tmp_path / "p.csv"), *words]) == 0
    shown = Report(tmp_path / "c.html")
    assert [row[0] for row in shown.tables["parts"]] == ["_x", "$\\frac$ <b>"]
    assert [row[0] for row in shown.tables["comparison"]] == ["p", "_a$b$", "<i>"]
    assert {row[0] for row in shown.tables["worst"]} == {odd["path"][0]} and "<script" not in shown.text


def test_photos_that_fail_are_named_and_counted(synthetic_set, tiny_run, tmp_path, capsys):
    prepared = load_prepared(synthetic_set)
    for row in range(3):
        Image.fromarray(prepared.crops[row]).save(tmp_path / f"{row}.png")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,age\n0.png,10\n1.png,40\n2.png,70\nabsent.png,20\n")
    words = ["--manifest", str(manifest), "--weights", str(tiny_run / "weights"), "--out", str(tmp_path / "r.html")]
    assert analyze_on_pipe([*words, "--crops", "--device", "cpu"]) == 1
    assert "not estimated: absent.png: there is no such file." in capsys.readouterr().err
    shown = Report(tmp_path / "r.html")
    assert "3 faces estimated, 1 not." in shown.text and len(shown.tables["worst"]) == 3
