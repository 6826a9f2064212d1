"""The command lines a user types, from synthetic faces to ages, and every bad input a user can bring."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from AgeRegBaseline.AgeRegBaseline__infer import describe
from AgeRegBaseline.AgeRegBaseline__infer import main as infer
from AgeRegBaseline.AgeRegBaseline__infer2 import main as infer2
from common.data.manifest import load_prepared
from common.data.predictions import read_predictions
from common.errors import ImageError, WeightsError
from common.faces.images import load_image
from common.inference.inputs import demo_photo
from common.pipeline import RELEASED, AgePredictBasicPipeline
from tests.conftest import REPOSITORY

ENTRIES = ["AgeRegBaseline__main.py", "AgeRegBaseline__infer.py", "AgeRegBaseline__infer2.py"]


@pytest.fixture(scope="module")
def weights(tiny_run) -> str:
    return str(tiny_run / "weights")


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    """A folder with one good photo, three bad files and something that is no image."""
    folder = tmp_path_factory.mktemp("album")
    portrait = Image.fromarray(skimage.data.astronaut())
    portrait.save(folder / "good.jpg", quality=95)
    (folder / "corrupt.jpg").write_bytes((folder / "good.jpg").read_bytes()[:2000])
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.fromarray(skimage.data.coffee()).save(folder / "no_face.png")
    (folder / "notes.txt").write_text("not listed")
    return folder


def test_train_then_infer_on_drawn_faces(synthetic_set, weights, tmp_path, capsys):
    out = tmp_path / "p.csv"
    words = ["--manifest", str(synthetic_set / "manifest.csv"), "--split", "test", "--weights", weights]
    assert infer2([*words, "--out", str(out)]) == 0
    table, prepared = read_predictions(out), load_prepared(synthetic_set)
    rows = prepared.rows("test")
    pipeline = AgePredictBasicPipeline.from_weights(weights, "cpu")
    assert table["id"].tolist() == prepared.manifest["id"][rows].tolist()
    assert table["age"].to_numpy() == pytest.approx(pipeline.predict(prepared.crops[rows]).ages, abs=0.006)
    mae = (table["age"] - prepared.manifest["age"][rows].to_numpy()).abs().mean()
    printed = capsys.readouterr().out
    assert f"n {len(rows)} " in printed
    assert float(printed.split("mae ")[1].split()[0]) == pytest.approx(mae, abs=0.01)


def test_the_demo_portrait_and_its_drawing(weights, tmp_path, capsys):
    assert infer2(["--weights", weights, "--explain", str(tmp_path / "drawn"), "--out", str(tmp_path / "p.csv")]) == 0
    (row,) = read_predictions(tmp_path / "p.csv").itertuples()
    left, top, right, bottom = (float(edge) for edge in row.box.split())
    assert left < 204 < right and top < 101 < bottom  # the box holds the left eye
    (drawn,) = (tmp_path / "drawn").glob("*.jpg")
    assert Image.open(drawn).size[0] >= 300 and "astronaut.png" in capsys.readouterr().out


def test_what_was_drawn_within_a_folder_is_not_estimated_the_next_time(weights, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(demo_photo().read_bytes())
    words = ["--weights", weights, "--explain", str(folder / "drawn"), "--out", str(tmp_path / "p.csv")]
    for _ in range(2):
        assert infer2([str(folder), *words]) == 0
        assert [Path(path).name for path in read_predictions(tmp_path / "p.csv")["path"]] == ["a.png"]
    assert len(list((folder / "drawn").iterdir())) == 1


def test_one_bad_file_never_loses_the_rest(album, weights, tmp_path, capsys):
    assert infer2([str(album), "--weights", weights, "--out", str(tmp_path / "p.csv")]) == 1
    table = read_predictions(tmp_path / "p.csv").set_index("path")
    status = {Path(path).name: value for path, value in table["status"].items()}
    assert len(status) == 4 and status["good.jpg"] == "ok" and status["no_face.png"] == "no face found"
    assert "broken" in status["corrupt.jpg"] and "too small" in status["dot.png"]
    assert table["age"].notna().sum() == 1
    assert capsys.readouterr().err.count("not estimated:") == 3


def test_no_empty_table_where_no_face_is_found(tmp_path, weights, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    assert infer2([str(tmp_path / "black.png"), "--weights", weights]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "black.png: no face found" in printed.err


def test_a_folder_of_ready_crops(synthetic_set, weights, tmp_path):
    crops = load_prepared(synthetic_set).crops[:3]
    for number, crop in enumerate(crops):
        Image.fromarray(crop).save(tmp_path / f"{number}.png")
    assert infer2([str(tmp_path), "--crops", "--weights", weights, "--out", str(tmp_path / "p.csv")]) == 0
    expected = AgePredictBasicPipeline.from_weights(weights, "cpu").predict(crops).ages
    assert read_predictions(tmp_path / "p.csv")["age"].to_numpy() == pytest.approx(expected, abs=0.006)


def test_a_manifest_of_photos_is_relative_to_itself(album, weights, tmp_path, capsys):
    (album / "list.csv").write_text("path,age,person\ngood.jpg,41,collins\nabsent.jpg,30,\n")
    assert infer2(["--manifest", str(album / "list.csv"), "--weights", weights, "--out", str(tmp_path / "p.csv")]) == 1
    table = read_predictions(tmp_path / "p.csv")
    assert table["true_age"].tolist()[0] == 41 and table["status"].tolist() == ["ok", "there is no such file."]
    assert "true age" in capsys.readouterr().out


def test_batches_change_nothing(synthetic_set, weights, tmp_path):
    ages = []
    for size in ("1", "64"):
        out = tmp_path / f"{size}.csv"
        words = ["--manifest", str(synthetic_set / "manifest.csv"), "--split", "val", "--weights", weights]
        infer2([*words, "--batch-size", size, "--out", str(out)])
        ages.append(read_predictions(out)["age"].to_numpy())
    assert ages[0] == pytest.approx(ages[1], abs=0.011)


def test_multi_crop_averages_other_views(synthetic_set, weights, tmp_path):
    ages = {}
    for words in ([], ["--multi-crop"]):
        out = tmp_path / f"{len(words)}.csv"
        infer2(["--manifest", f"{synthetic_set}/manifest.csv", "--weights", weights, "--out", str(out), *words])
        ages[len(words)] = read_predictions(out)["age"].to_numpy()
    moved = np.abs(ages[1] - ages[0])
    assert 0 < moved.mean() < 5 and np.corrcoef(ages[0], ages[1])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "full"], "argument --mode: invalid choice: 'full' (choose from 'bypass')"),
        (["--weihgts", "x"], "there is no --weihgts here; did you mean --weights?"),
        (["--multi-crop", "--interval", "0.9"], "--multi-crop goes without --interval"),
        (["--references", "bank.npz"], "there is no --references here; own references go to DiffPipeline6__infer2.py"),
        (["--person", "auto"], "there is no --person here; own references go to DiffPipeline6__infer2.py"),
        (["--interval", "0.9"], "no intervals for mode bypass"),
        (["--split", "test"], "--split needs --manifest"),
        (["--manifest", "absent.csv"], "no manifest at absent.csv"),
        (["x.jpg", "--manifest", "absent.csv"], "Give photos or --manifest, not both"),
        (["--weights", "nowhere"], "There is no folder nowhere with released weights"),
        (["--device", "tpu"], "There is no device 'tpu'"),
        (["--crops", "--explain", "drawn"], "--mode bypass has none with --crops"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(words, message, weights, capsys):
    words = words if "--weights" in words else [*words, "--weights", weights]
    try:
        status = infer2(words)
    except SystemExit as ended:  # a mistake in the words themselves
        status = ended.code
    assert status == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_nothing_estimated_is_status_2(album, weights, tmp_path):
    assert infer2([str(album / "corrupt.jpg"), str(tmp_path / "absent.jpg"), "--weights", weights]) == 2
    (tmp_path / "empty").mkdir()
    assert infer2([str(tmp_path / "empty"), "--weights", weights]) == 2
    assert infer2([str(tmp_path / "empty"), str(album / "good.jpg"), "--weights", weights]) == 1
    assert infer([str(album / "corrupt.jpg"), "--weights", weights]) == 2


def test_distribution_printed_and_drawn(weights, tmp_path, capsys):
    assert infer(["--weights", weights, "--plot", str(tmp_path)]) == 0
    assert "astronaut.png" in capsys.readouterr().out
    (drawn,) = tmp_path.glob("*.png")
    assert Image.open(drawn).size == (1080, 408)


def test_description_of_a_distribution():
    ages = np.arange(0.0, 101.0)
    probs = np.full(101, 1e-12)
    probs[[30, 31, 50]] = [0.5, 0.3, 0.2]
    shape = describe(ages.astype(np.float32), np.log(probs).astype(np.float32))
    assert (shape["mode"], shape["low"], shape["high"]) == (30, 30, 50)
    assert shape["median"] == pytest.approx(30.5, abs=0.01)


def test_pipeline_in_python(weights, album):
    pipeline = AgePredictBasicPipeline.from_weights(weights, "cpu")
    (face,) = pipeline.faces(album / "good.jpg")
    assert face.crop.shape == (48, 48, 3)
    result = pipeline.predict([face.crop, str(album / "good.jpg"), load_image(album / "no_face.png")])
    assert result.ages[0] == pytest.approx(result.ages[1], abs=1e-3) and np.isnan(result.ages[2])
    assert result.log_probs.shape == (3, 101) and result.embeddings.shape == (3, 256)
    assert np.exp(result.log_probs[0]).sum() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(pipeline.predict([face.crop]).ages, pipeline.predict([face.crop]).ages)
    with pytest.raises(ImageError, match="corrupt.jpg"):
        pipeline.predict([album / "corrupt.jpg"])
    with pytest.raises(WeightsError, match="no device"):
        AgePredictBasicPipeline.from_weights(weights, "tpu")


@pytest.mark.parametrize(("entry", "inside"), [*((entry, True) for entry in ENTRIES), (ENTRIES[0], False)])
def test_every_entry_file_runs_from_its_folder_and_from_the_root(entry, inside):
    folder = REPOSITORY / "AgeRegBaseline"
    where, file = (folder, entry) if inside else (REPOSITORY, f"AgeRegBaseline/{entry}")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, file, "--help"]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "usage" in done.stdout, done.stderr


def test_released_weights_see_a_grown_woman_in_the_demo_portrait():
    result = AgePredictBasicPipeline.from_weights(RELEASED, "cpu").predict([skimage.data.astronaut()])
    assert 25 < result.ages[0] < 50  # Eileen Collins was 42


def test_released_weights_on_the_portraits_of_the_team(shared_data, tmp_path):
    infer2(["--manifest", str(shared_data / "photos" / "photos.csv"), "--out", str(tmp_path / "p.csv")])
    table = read_predictions(tmp_path / "p.csv")
    assert len(table) == 24 and (table["status"] == "ok").all()
    assert (table["age"] - table["true_age"]).abs().mean() < 5  # 4.28 when released
