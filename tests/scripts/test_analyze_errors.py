"""Bad input to the analysis scripts: one sentence on stderr, exit status 2, never a traceback."""

import numpy as np
import pandas as pd
import pytest

from common.data.predictions import prediction_table, write_predictions
from scripts.analyze_reg_model import main as analyze
from scripts.analyze_reg_model_on_actual_pipe import main as analyze_on_pipe


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a good predictions table and files that are not good."""
    folder = tmp_path_factory.mktemp("files")
    manifest = pd.DataFrame({"id": ["a", "b", "c"], "path": ["a.jpg", "b.jpg", "c.jpg"], "age": [10.0, 20.0, 30.0]})
    for column in ("person", "gender", "group"):
        manifest[column] = ""
    manifest["age_min"], manifest["age_max"] = np.nan, np.nan
    table = prediction_table(manifest, np.array([11.0, 19.0, 33.0]))
    write_predictions(table, folder / "good.csv")
    write_predictions(table.assign(true_age_min=np.nan, true_age_max=np.nan), folder / "unlabelled.csv")
    write_predictions(table.assign(true_age_min=70, true_age_max=70), folder / "others.csv")
    write_predictions(table.assign(age=["11", "young", "inf"]), folder / "words.csv")
    (folder / "narrow.csv").write_text("age,status,true_age_min,true_age_max\n1,ok,2,2\n")
    (folder / "tool.csv").write_text("id,age\na,12\nb,18\n")
    (folder / "twice.csv").write_text("id,age\na,12\na,18\n")
    (folder / "elsewhere.csv").write_text("id,age\nx,12\n")
    (folder / "years.csv").write_text("id,years\na,12\n")
    (folder / "text.csv").write_text("id,age\na,old\n")
    (folder / "binary.csv").write_bytes(bytes(range(256)))
    (folder / "empty.csv").write_text("")
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "Give a predictions CSV, or --manifest"),
        ("absent.csv", "absent.csv cannot be read as a predictions table"),
        ("tool.csv", "is no predictions table: it has no column status"),
        ("narrow.csv", "is no predictions table: it has no column id"),
        ("words.csv", "words.csv, line 3: age 'young' is no number."),
        ("unlabelled.csv", "No estimated face has a known age"),
        ("empty.csv", "cannot be read as a predictions table"),
        ("binary.csv", "cannot be read as a predictions table"),
        ("good.csv --split test", "--split needs --manifest."),
        ("good.csv --manifest m.csv --split test", "stored predictions are analysed whole"),
        ("good.csv --interval 90", "--interval takes a probability between 0 and 1, not 90.0."),
        ("good.csv --batch-size 0", "--batch-size must be 1 or more"),
        ("good.csv --out good.csv/below/r.html", "The report cannot be written to"),
        ("good.csv --compare good=tool.csv", "The name 'good' is that of the analysed predictions"),
        ("--manifest absent.csv", "There is no manifest at absent.csv"),
        ("--manifest good.csv", "is not a prepared data set (no manifest.csv)"),
        ("--compare good.csv tool.csv", "'good.csv' must look like NAME=predictions.csv."),
        ("--compare a=good.csv", "A comparison needs two or more predictions"),
        ("--compare a=good.csv a=tool.csv", "The name 'a' is given twice in --compare."),
        ("--compare a=good.csv b=years.csv", "years.csv has no column 'age'"),
        ("--compare a=good.csv b=text.csv", "text.csv, line 2: age 'old' is no number."),
        ("--compare a=good.csv b=twice.csv", "twice.csv has several ages for the face a"),
        ("--compare a=good.csv b=elsewhere.csv", "have no exactly labelled face in common"),
        ("--compare a=good.csv b=others.csv", "give different true ages for the face a"),
        ("--compare a=tool.csv b=tool.csv", "None of the files knows true ages"),
        ("--compare a=good.csv b=binary.csv", "binary.csv cannot be read as a CSV table"),
        ("--compare a=good.csv b=absent.csv", "absent.csv cannot be read as a CSV table"),
    ],
)
def test_bad_input_is_one_sentence(words, message, files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    out = [] if "--out" in words else ["--out", "r.html"]
    assert analyze([*words.split(), *out]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1
    assert printed.err.startswith("analyze_reg_model: ") and not printed.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "Give --manifest with the faces to estimate."),
        ("--manifest absent.csv", "There is no manifest at absent.csv"),
        ("--manifest good.csv --weights absent", "There is no folder absent with released weights"),
        ("--manifest good.csv --device abacus", "There is no device 'abacus'"),
    ],
)
def test_bad_input_through_the_pipeline(words, message, files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    assert analyze_on_pipe([*words.split(), "--out", "r.html"]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1


def test_weights_that_do_not_fit(synthetic_set, tiny_run, tmp_path, capsys):
    manifest, weights = synthetic_set / "manifest.csv", tiny_run / "weights"
    words = ["--manifest", str(manifest), "--out", str(tmp_path / "r.html")]
    assert analyze([*words, "--weights", str(tmp_path)]) == 2
    assert "holds no released weights" in capsys.readouterr().err
    for main in (analyze, analyze_on_pipe):
        assert main([*words, "--weights", str(weights), "--interval", "0.9"]) == 2
        assert "has no intervals for mode bypass" in capsys.readouterr().err
