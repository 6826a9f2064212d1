"""Ages from Python: what `AgePipeline` says is what the command says, and what is no photo is refused."""

import shutil
import threading
import warnings
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from common.base.intervals import IntervalCalibrator, save_calibrators
from common.base.weight_files import fingerprint
from common.data.manifest import load_prepared
from common.data.predictions import read_predictions
from common.errors import DataError, ImageError, WeightsError
from common.files import WEIGHTS
from common.inference.estimates import Face
from common.pipeline import NO_FACE, AgePipeline, FaceAge
from DiffPipeline6.DiffPipeline6__infer2 import main as infer2


@pytest.fixture(scope="module")
def released() -> AgePipeline:
    return AgePipeline.from_weights(device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    portrait = Image.fromarray(skimage.data.astronaut())
    portrait.save(folder / "portrait.png")
    portrait.resize((128, 128)).save(folder / "small.png")  # as large as a crop, and none
    Image.new("RGB", (300, 200), (90, 120, 60)).save(folder / "meadow.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    return folder


def table_of(folder: Path, *words: str):
    infer2([str(folder), "--out", str(folder.parent / "ages.csv"), "--columns", "all", "--device", "cpu", *words])
    return read_predictions(folder.parent / "ages.csv").set_index("path")


def test_ages_are_those_of_the_command(released, photos):
    table = table_of(photos, "--interval", "0.9")
    files = sorted(photos.iterdir())
    faces = released.estimate(files, interval=0.9)
    assert [face.photo for face in faces] == [str(file) for file in files]
    for face in faces:
        row = table.loc[face.photo]
        assert face.status == row["status"]
        if face.status == "ok":
            said = [face.base_age, face.age, face.low, face.high]
            wanted = [row[name] for name in ("base_age", "age", "interval_low", "interval_high")]
            assert said == pytest.approx([float(value) for value in wanted], abs=0.006)
            assert face.references == row["n_references"] and face.face == 0
            assert [round(edge) for edge in face.box] == [int(edge) for edge in row["box"].split()]
    statuses = {Path(face.photo).name: face.status for face in faces}
    assert statuses["meadow.png"] == NO_FACE and statuses["portrait.png"] == statuses["small.png"] == "ok"
    assert statuses["broken.jpg"] not in ("ok", NO_FACE) and str(photos) not in statuses["broken.jpg"]


def test_a_file_a_picture_and_an_array_are_the_same(released, photos):
    file = photos / "portrait.png"
    (from_file,) = released.estimate(file)
    (from_text,), (from_picture,), (from_array,) = (
        released.estimate(image) for image in (str(file), Image.open(file), skimage.data.astronaut())
    )
    assert from_text == replace(from_file, low=from_text.low, high=from_text.high)  # NaN is not equal to itself
    for other in (from_picture, from_array):
        assert (other.age, other.box, other.photo) == (from_file.age, from_file.box, "0")
    assert np.isnan([from_file.low, from_file.high]).all() and len(repr(from_file)) < 300
    with pytest.raises(FrozenInstanceError):
        from_file.age = 1.0


def test_crops_of_any_size_are_estimated_and_in_their_order(released, photos):
    (found,) = released.base.faces(photos / "portrait.png")
    larger = np.asarray(Image.fromarray(found.crop).resize((200, 200), Image.Resampling.BICUBIC))
    ages = [face.age for face in released.estimate_crops([found.crop, found.crop[:, ::-1], larger])]
    assert ages[0] == pytest.approx(released.estimate(photos / "portrait.png")[0].age, abs=1e-3)
    assert ages[2] == pytest.approx(ages[0], abs=2) and ages[1] != ages[0]


def test_own_references_correct_as_the_command_does(diff_weights, synthetic_set, tmp_path):
    shutil.copytree(diff_weights, tmp_path / "weights")
    diff_weights = tmp_path / "weights"
    calibrator = IntervalCalibrator([1.0, 0.0, 0.0, 0.0, 0.5], [np.linspace(0, 3, 99).round(4).tolist()] * 8)
    save_calibrators(diff_weights / "base", {"bypass": calibrator}, fingerprint(diff_weights / "base"))
    pipeline = AgePipeline.from_weights(diff_weights, "cpu")
    bank = pipeline.corrector.bank.rows(np.arange(60))
    ids, unseen = np.char.add("own", bank.id), np.zeros(60, bool)
    biased = replace(bank, ages=bank.ages + 25, id=ids, person=np.full(60, "anna"), seen=unseen)
    biased.save(tmp_path / "own.npz")
    prepared = load_prepared(synthetic_set)
    (tmp_path / "crops").mkdir()
    files = [tmp_path / "crops" / f"{row}.png" for row in range(6)]
    for row, file in enumerate(files):
        Image.fromarray(prepared.crops[row]).save(file)
    for person in (None, "Anna"):
        words = [
            "--crops",
            "--weights",
            str(diff_weights),
            "--references",
            str(tmp_path / "own.npz"),
            "--interval",
            "0.8",
        ]
        table = table_of(tmp_path / "crops", *words, *(["--person", person] if person else []))
        for banks in (tmp_path / "own.npz", [biased]):
            faces = pipeline.estimate_crops(files, banks, person, interval=0.8)
            assert [face.age for face in faces] == pytest.approx(table["age"].tolist(), abs=0.02)
            assert [face.low for face in faces] == pytest.approx(table["interval_low"].tolist(), abs=0.02)
            assert [face.references for face in faces] == table["n_references"].tolist()
    with pytest.raises(DataError, match="shows 'ben'; they name anna"):
        pipeline.estimate_crops(prepared.crops[:1], [biased], "ben")
    with pytest.raises(DataError, match="give the bank as references"):
        pipeline.estimate_crops(prepared.crops[:1], person="anna")
    with pytest.raises(WeightsError, match="other base weights"):
        pipeline.estimate_crops(prepared.crops[:1], [replace(biased, fingerprint="another")])


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((200, 200, 3), np.float32), r"image 1 must be \[H, W, 3\] uint8 RGB .* not \[200, 200, 3\] float32"),
        (np.zeros((200, 200), np.uint8), r"not \[200, 200\] uint8"),
        (np.zeros((3, 200, 200), np.uint8), r"not \[3, 200, 200\] uint8"),
        (np.zeros((8, 200, 3), np.uint8), "only 200 x 8 pixels"),
        (17, "image 1 must be a file, a PIL image or an array, not int"),
    ],
)
def test_what_is_no_photo_is_refused(released, photos, image, said):
    with pytest.raises(ImageError, match=said):
        released.estimate([photos / "meadow.png", image])


def test_a_picture_of_the_bank_is_not_its_own_reference(diff_weights, synthetic_set, tmp_path):
    pipeline, prepared = AgePipeline.from_weights(diff_weights, "cpu"), load_prepared(synthetic_set)
    bank = pipeline.corrector.bank
    place = int(np.abs(bank.ages - bank.estimates).argmin())  # within the window of its own estimate
    (row,) = np.flatnonzero(prepared.manifest["id"] == bank.id[place])
    Image.fromarray(prepared.crops[row]).save(tmp_path / "seen.png")
    alone = replace(pipeline.corrector, bank=bank.rows(np.array([place])))
    (known,) = AgePipeline(pipeline.base, alone, diff_weights).estimate_crops(tmp_path / "seen.png")
    (unknown,) = AgePipeline(pipeline.base, alone, diff_weights).estimate_crops(prepared.crops[row])
    assert (known.references, unknown.references) == (0, 1)


def test_what_is_no_crop_is_refused(released):
    with pytest.raises(ImageError, match="a crop must be square, not 20 x 30"):
        released.estimate_crops([np.zeros((30, 20, 3), np.uint8)])
    with pytest.raises(ImageError, match="crop 0 must be .* float64"):
        released.estimate_crops(np.zeros((1, 128, 128, 3)))


def test_a_base_alone_and_int8(photos):
    base = AgePipeline.from_weights("AgeRegBaseline", "cpu")
    (face,) = base.estimate(photos / "portrait.png", interval=0.9)
    assert face.age == face.base_age and face.references == 0 and face.low < face.age < face.high
    (fast,) = AgePipeline.from_weights("AgeRegBaseline", "cpu", "int8").estimate(photos / "portrait.png")
    assert 0 < abs(fast.age - face.age) < 4
    with pytest.raises(WeightsError, match="precision must be float32 or int8, not 'bf16'"):
        AgePipeline.from_weights(precision="bf16")
    with pytest.raises(WeightsError, match="no folder .*Nothing"):
        AgePipeline.from_weights("Nothing")


def test_nothing_gives_nothing(released):
    assert released.estimate([]) == [] and released.estimate_crops([]) == []
    assert FaceAge("a").status == "ok" and np.isnan(FaceAge("a").age)


def test_threads_may_share_a_pipeline_and_nothing_else_is_changed(photos):
    pipeline = AgePipeline.from_weights("AgeRegBaseline", "cpu")  # its detector is loaded by whichever thread is first
    filters, files = list(warnings.filters), [photos / "portrait.png", photos / "broken.jpg"]
    found: list[list[FaceAge]] = []
    threads = [threading.Thread(target=lambda: found.append(pipeline.estimate(files))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[face.status == "ok" for face in faces] for faces in found] == [[True, False]] * 4
    assert len({faces[0].age for faces in found}) == 1 and warnings.filters == filters


def test_a_photo_on_its_side_is_turned_and_a_face_that_can_hardly_be_seen_is_in_doubt(released):
    portrait = skimage.data.astronaut()
    (upright,), (turned,) = released.estimate(portrait), released.estimate(np.rot90(portrait))
    assert (upright.turned, turned.turned) == (0, 270) and turned.age == pytest.approx(upright.age, abs=3)
    left, top, right, bottom = upright.box
    assert turned.box == pytest.approx((top, 512 - right, bottom, 512 - left), abs=6)  # in the photo as it is displayed
    (dark,) = released.estimate((portrait * 0.05).astype(np.uint8))
    assert dark.status == "doubtful: the face is too dark" and np.isfinite(dark.age)


@pytest.mark.parametrize("weights", ["DiffPipeline6", "AgeRegBaseline", "AgeRegBaseline-large"])
def test_what_the_base_can_hardly_read_is_doubtful(weights):
    pipeline = AgePipeline.from_weights(weights, "cpu")
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    for face in pipeline.estimate_crops([noise, np.full_like(noise, 200)]):
        assert face.status.startswith("doubtful: an error of ") and face.spread > 13 and np.isfinite(face.age)


def test_without_intervals_no_face_is_doubtful_by_its_estimate_and_damaged_ones_are_told(tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(WEIGHTS / "AgeRegBaseline", folder)
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    pipeline = AgePipeline.from_weights(folder, "cpu")
    face = Face(FaceAge("noise", 0), noise)
    (folder / "intervals.json").write_text("{}")
    found = pipeline.estimate_faces([face])
    assert found.faces[0].status == "ok" and found.notes[0].startswith("Faces that the base can hardly read are not")
    (folder / "intervals.json").unlink()
    found = pipeline.estimate_faces([face])
    assert found.faces[0].status == "ok" and not found.notes
