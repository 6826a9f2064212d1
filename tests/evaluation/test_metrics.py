import json

import numpy as np
import pandas as pd
import pytest

from common.data.predictions import COLUMNS, prediction_table, read_predictions, write_predictions
from common.errors import DataError
from common.evaluation.metrics import balanced_mae, interval_metrics, point_metrics, summarise
from common.files import WEIGHTS, plain_name
from scripts.report_metrics import gain_lines
from scripts.report_metrics import main as report_main


def manifest(**columns) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    table = pd.DataFrame({name: [""] * count for name in ("path", "id", "person", "gender", "group")})
    for name in ("age", "age_min", "age_max"):
        table[name] = np.nan
    return table.assign(**columns)


def test_point_metrics_by_hand():
    result = point_metrics(np.array([10.0, 24.0, 31.0, 40.0]), np.array([10.0, 20.0, 32.0, 51.0]))
    assert result["n"] == 4
    assert result["mae"] == pytest.approx((0 + 4 + 1 + 11) / 4)
    assert result["rmse"] == pytest.approx(((0 + 16 + 1 + 121) / 4) ** 0.5, abs=1e-3)
    assert result["bias"] == pytest.approx((0 + 4 - 1 - 11) / 4)
    assert [result[f"cs{k}"] for k in (1, 3, 5, 10)] == [50.0, 50.0, 75.0, 75.0]


def test_the_balanced_mae_is_the_mean_over_bins_of_five_years_that_have_five_faces():
    truth = np.array([20.0] * 10 + [24.0] * 5 + [70.0] * 5 + [90.0] * 4)  # bins 20-24, 70-74, and 90-94 of four faces
    age = truth + np.array([3.0] * 10 + [-6.0] * 5 + [8.0] * 5 + [40.0] * 4)
    assert balanced_mae(age, truth) == pytest.approx(((10 * 3 + 5 * 6) / 15 + 8) / 2)
    result = point_metrics(age, truth)
    assert (result["balanced_mae"], result["mae"]) == (6.0, pytest.approx((30 + 30 + 40 + 160) / 24, abs=1e-3))
    assert np.isnan(balanced_mae(np.ones(4), np.ones(4)))
    assert "balanced_mae" not in point_metrics(np.ones(4), np.ones(4))


def test_metrics_agree_with_scikit_learn():
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 90, 500)
    age = truth + rng.normal(1, 6, 500)
    result = point_metrics(age, truth)
    assert result["mae"] == pytest.approx(mean_absolute_error(truth, age), abs=1e-3)
    assert result["rmse"] == pytest.approx(root_mean_squared_error(truth, age), abs=1e-3)


@pytest.mark.parametrize(("age", "truth"), [(np.zeros(3), np.zeros(2)), (np.zeros(0), np.zeros(0))])
def test_unequal_or_empty_arrays_are_refused(age, truth):
    with pytest.raises(ValueError, match="must be equal and not empty"):
        point_metrics(age, truth)


def test_an_estimate_counts_for_the_whole_year_it_rounds_to():
    age = np.array([19.4, 19.6, 29.4, 29.6, 35.0])
    result = interval_metrics(age, np.full(5, 20.0), np.full(5, 29.0))
    assert result["hit_rate"] == 40.0
    assert result["distance"] == pytest.approx((0.1 + 0 + 0 + 0.1 + 5.5) / 5, abs=1e-3)


def test_summary_separates_exact_interval_and_failed():
    table = prediction_table(
        manifest(
            age=[5.0, 40.0, 70.0, np.nan],
            age_min=[np.nan, np.nan, np.nan, 20.0],
            age_max=[np.nan, np.nan, np.nan, 29.0],
            gender=["male", "female", "female", "male"],
        ),
        np.array([7.0, 43.0, 60.0, 25.0]),
    )
    table.loc[1, "status"] = "no face found"
    result = summarise(table)
    assert (result["faces"], result["failed"]) == (3, 1)
    assert result["exact"]["all"]["mae"] == 6.0 and result["interval"]["all"]["hit_rate"] == 100.0
    assert result["exact"]["by_gender"]["male"]["bias"] == 2.0
    by_age = result["exact"]["by_age"]
    assert by_age["0-12"]["n"] == 1 and by_age["65+"]["bias"] == -10.0 and "18-64" not in by_age
    assert by_age["0-9"]["mae"] == 2.0 and by_age["70-79"]["mae"] == 10.0


def test_predictions_survive_a_csv(tmp_path):
    table = prediction_table(manifest(age=[5.0, 7.5], path=["a.jpg", "b.jpg"], person=["001", ""]), [6.126, 8.0])
    write_predictions(table, tmp_path / "new" / "p.csv")
    again = read_predictions(tmp_path / "new" / "p.csv")
    assert list(again.columns) == COLUMNS
    assert again["age"].tolist() == [6.13, 8.0] and again["person"].tolist() == ["001", ""]
    assert summarise(again)["exact"]["all"]["mae"] == pytest.approx(0.815, abs=0.001)


def test_what_is_no_predictions_table_is_refused(tmp_path):
    (tmp_path / "p.csv").write_text("id,years\n1,2\n")
    with pytest.raises(DataError, match="is no predictions table: it has no column age"):
        read_predictions(tmp_path / "p.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="cannot be written"):
        write_predictions(read_empty(), tmp_path / "p.csv" / "below_a_file.csv")


def read_empty() -> pd.DataFrame:
    return pd.DataFrame(columns=COLUMNS)


def test_report_prints_and_stores_the_metrics_of_csv_files(tmp_path, capsys):
    exact = prediction_table(manifest(age=[5.0, 30.0, 70.0]), np.array([7.0, 33.0, 60.0]))
    interval = prediction_table(manifest(age_min=[20.0], age_max=[29.0], group=["indian"]), np.array([31.5]))
    write_predictions(exact, tmp_path / "a.csv")
    write_predictions(interval, tmp_path / "b.csv")
    words = [f"A={tmp_path / 'a.csv'}", f"B={tmp_path / 'b.csv'}", "--json", str(tmp_path / "m.json")]
    assert report_main(words) == 0
    printed = capsys.readouterr().out
    assert "| A | 3 | 5.00 |" in printed and "| – 65+ years | 1 | 10.00 |" in printed
    assert "| B | 1 | 0.0 | 2.00 |" in printed and "| – indian | 1 |" in printed
    assert json.loads((tmp_path / "m.json").read_text())["sets"]["A"]["exact"]["all"]["mae"] == 5.0
    assert report_main(["a.csv"]) == 2 and "must look like NAME=" in capsys.readouterr().err
    (tmp_path / "predictions").mkdir()
    exact.to_csv(tmp_path / "predictions" / "x.csv.gz", index=False)
    assert report_main([str(tmp_path)]) == 0 and "| x | 3 | 5.00 |" in capsys.readouterr().out


@pytest.mark.parametrize("folder", sorted(path.parent for path in WEIGHTS.glob("*/metrics.json")), ids=lambda f: f.name)
def test_released_metrics_are_those_of_the_stored_predictions(folder):
    stored = json.loads((folder / "metrics.json").read_text())
    files = {plain_name(path).stem: path for path in (folder / "predictions").glob("*.csv.gz")}
    assert set(stored["sets"]) == set(files) and "utkface_test" in files
    for name, path in files.items():
        assert summarise(read_predictions(path)) == stored["sets"][name]


@pytest.mark.parametrize(
    ("weights", "name", "aim"),
    [
        ("AgeRegBaseline", "utkface_test", 4.7),
        ("AgeRegBaseline", "publicfigures_test", 5.1),
        ("DiffPipeline6-large", "utkface_test", 4.35),
        ("DiffPipeline6-large", "publicfigures_test", 4.75),
    ],
)
def test_released_weights_are_no_worse_than_they_were(weights, name, aim):
    stored = json.loads((WEIGHTS / weights / "metrics.json").read_text())
    assert stored["sets"][name]["exact"]["all"]["mae"] <= aim


def test_gain_of_corrected_over_base_by_hand():
    table = pd.DataFrame(
        {
            "status": ["ok", "ok", "ok", "no face found"],
            "base_age": [30.0, 41.0, 25.0, np.nan],
            "age": [32.0, 40.0, 29.0, np.nan],
            "true_age_min": [33.0, 40.0, 30.0, 5.0],
            "true_age_max": [33.0, 40.0, 39.0, 5.0],
            "person": ["", "", "", ""],
        }
    )
    lines = gain_lines({"set": table, "plain": table.assign(age=table["base_age"])})
    assert lines[3].startswith("| set, MAE | 2 | 2.000 | 0.500 | +1.500 (")  # |30-33|, |41-40| and |32-33|, 0
    assert lines[4].startswith("| set, distance to the interval | 1 | 4.500 | 0.500 | +4.000 (")  # 30-39 begins at 29.5
    assert len(lines) == 5
    assert gain_lines({"plain": table.assign(age=table["base_age"])}) == []
