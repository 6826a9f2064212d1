"""The CORAL evaluation of UTKFace from one's own archive and lists: the figure, what is missing, what is refused."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.data.synthetic import generate_faces
from common.difference.bank import ReferenceBank
from common.pipeline import AgePredictBasicPipeline
from scripts.run_protocol import main
from tests.conftest import SHARED

AGES = [21 + row % 40 for row in range(24)]
NAMES = [f"{age}_{age % 2}_{age % 5}_201701{row:011d}.jpg" for row, age in enumerate(AGES)]
TRAIN, TEST = NAMES[:10], NAMES[10:]
ABSENT, BROKEN = TEST[0], TEST[1]


def image_bytes(crop: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(crop).save(stream, "JPEG", quality=95)
    return stream.getvalue()


FILES = {name: image_bytes(crop) for name, crop in zip(NAMES, generate_faces(24, 5, 48)[0], strict=True)}


def write_lists(folder: Path, train=TRAIN, test=TEST) -> Path:
    folder.mkdir()
    for part, names in (("train", train), ("test", test)):
        table = pd.DataFrame({"filename": names, "age": [name.split("_")[0] for name in names], "database": "utk"})
        table.to_csv(folder / f"UTK_{part}_coral.csv")
    return folder


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"UTKFace/{name}.chip.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def lists(tmp_path) -> Path:
    return write_lists(tmp_path / "utk")


@pytest.fixture
def archive(tmp_path) -> Path:
    """All listed images but one that is absent; another is cut off; one more is not listed."""
    files = {name: data for name, data in FILES.items() if name != ABSENT}
    return write_archive(tmp_path / "UTKFace.tar.gz", files | {BROKEN: FILES[BROKEN][:300], "5_0_0_2017.jpg": b"x"})


@pytest.fixture
def weights(tiny_run, tmp_path) -> Path:
    """The tiny base, by a link in a folder of its own, so that a bank can lie beside it."""
    (tmp_path / "weights").mkdir()
    copy = tmp_path / "weights" / "Base"
    copy.mkdir()
    for path in (tiny_run / "weights").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def write_bank(weights: Path, names: list[str], fingerprint: str = "") -> None:
    """A bank beside the weights of images that they were trained on, and of the last that they were not."""
    count = len(names)
    ids = np.array([hashlib.sha1(FILES[name]).hexdigest() for name in names])
    seen, years = np.arange(count) < count - 1, np.full(count, 30, np.float32)
    made_with = fingerprint or AgePredictBasicPipeline.from_weights(weights, "cpu").fingerprint
    bank = ReferenceBank(np.ones((count, 256), np.float16), years, years, seen, ids, ids, made_with)
    (weights.parent / "Pipe").mkdir()
    bank.save(weights.parent / "Pipe" / "bank.npz")


def run(source: Path, lists: Path, weights: Path, out: Path, *words) -> int:
    options = ["--source", source, "--lists", lists, "--weights", weights, "--device", "cpu", "--out", out, *words]
    return main(["--protocol", "coral-utkface", *map(str, options)])


def expected(weights: Path, names: list[str]) -> tuple[float, float]:
    """MAE and CS@5 by hand."""
    crops = np.stack([np.asarray(Image.open(io.BytesIO(FILES[name]))) for name in names])
    error = AgePredictBasicPipeline.from_weights(weights, "cpu").predict(crops).ages
    error = np.abs(error - [float(name.split("_")[0]) for name in names])
    return float(error.mean()), float(100 * (error <= 5).mean())


def test_figure_of_the_images_found_and_the_names_of_the_others(archive, lists, weights, tmp_path, capsys):
    assert run(archive, lists, weights, tmp_path / "out") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    mae, cs5 = expected(weights, TEST[2:])
    assert metrics["base"]["mae"] == pytest.approx(mae, abs=0.01)
    assert metrics["base"]["cs5"] == pytest.approx(cs5, abs=0.01)
    assert (metrics["listed"], metrics["left_out"], metrics["base"]["n"]) == (14, 2, 12)
    reasons = pd.read_csv(tmp_path / "out" / "left_out.csv").set_index("path")["reason"]
    assert reasons[ABSENT] == "not in UTKFace.tar.gz" and "broken" in reasons[BROKEN] and len(reasons) == 2
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert [Path(path).name.removesuffix(".chip.jpg") for path in table["path"]] == TEST[2:]
    assert table["id"].tolist() == [hashlib.sha1(FILES[name]).hexdigest() for name in TEST[2:]]
    printed = capsys.readouterr().out
    assert f"12 of 14 listed images: MAE {mae:.2f} years, CS@5 {cs5:.1f} %" in printed
    assert f"2 images are missing: {ABSENT} (not in UTKFace.tar.gz); {BROKEN} (" in printed
    assert "names 3,287 test images, this one 14" in printed and "is not known: no reference bank" in printed


def test_an_image_trained_on_is_told_and_left_out(archive, lists, weights, tmp_path, capsys):
    write_bank(weights, [*TRAIN, TEST[5], TEST[6]])  # the last is a reference that was not trained on
    assert run(archive, lists, weights, tmp_path / "out") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    mae, _ = expected(weights, [name for name in TEST[2:] if name != TEST[5]])
    assert metrics["base"]["n"] == 11 and metrics["base"]["mae"] == pytest.approx(mae, abs=0.01)
    printed = capsys.readouterr().out
    assert f"{TEST[5]} (the weights were trained on this image)" in printed
    assert "Of the 11 training images that Pipe/bank.npz name, 11 are listed images of this archive, 1 of" in printed


def test_a_bank_says_nothing_of_other_weights_or_of_other_files(archive, lists, weights, tmp_path, capsys):
    write_bank(weights, TRAIN, "0" * 40)
    assert run(archive, lists, weights, tmp_path / "other_weights") == 0
    assert "is not known: no reference bank" in capsys.readouterr().out
    (weights.parent / "Pipe" / "bank.npz").unlink()
    (weights.parent / "Pipe").rmdir()
    write_bank(weights, TRAIN)
    recoded = {name: FILES[name] + b"\0" for name in NAMES}
    assert run(write_archive(tmp_path / "b.tar", recoded), lists, weights, tmp_path / "other_files") == 0
    assert "is not known: none of the 9 training images that Pipe/bank.npz" in capsys.readouterr().out


def test_a_manifest_of_the_training_set_is_compared_by_name(archive, lists, weights, tmp_path, capsys):
    prepared = tmp_path / "synthetic"  # the set that the tiny base was trained on, by its name
    prepared.mkdir()
    rows = {"path": [f"a/{TEST[4]}.chip.jpg", f"a/{TEST[7]}.chip.jpg"], "id": ["x", "y"], "split": ["base", "val"]}
    pd.DataFrame(rows).assign(age=30).to_csv(prepared / "manifest.csv", index=False)
    np.save(prepared / "crops.npy", np.zeros((2, 8, 8, 3), np.uint8))
    (prepared / "prepared.json").write_text("{}")
    assert run(archive, lists, weights, tmp_path / "out", "--data", prepared) == 0
    reasons = pd.read_csv(tmp_path / "out" / "left_out.csv").set_index("path")["reason"]
    assert sorted(reasons.index) == sorted([ABSENT, BROKEN, TEST[4]]) and "trained" in reasons[TEST[4]]
    capsys.readouterr()
    assert run(archive, lists, weights, tmp_path / "again", "--data", tmp_path / "utk") == 2
    assert "were not trained on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (TRAIN, [], "UTK_test_coral.csv names no image"),
        (TRAIN, [*TEST, TRAIN[0]], "which another list names too"),
        (TRAIN, ["photo.jpg"], "names 'photo.jpg', which is no UTKFace image of 21 to 60 years"),
        (TRAIN, ["61_0_0_20170116.jpg"], "which is no UTKFace image of 21 to 60 years"),
        (TRAIN, ["30_0_0_20170116.jpg"], "Not one of the 1 listed test images can be used"),
    ],
)
def test_lists_of_another_kind_are_one_sentence(train, test, message, archive, weights, tmp_path, capsys):
    assert run(archive, write_lists(tmp_path / "utk", train, test), weights, tmp_path / "out") == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_what_is_absent_or_something_else_is_one_sentence(archive, lists, weights, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar.gz").write_text("no archive")
    (tmp_path / "file").write_text("")
    cases = [
        ((archive, tmp_path / "empty", weights, tmp_path / "out"), "github.com/nhshin-mcl/MWR"),
        ((tmp_path / "nowhere.tar", lists, weights, tmp_path / "out"), "There is nothing at"),
        ((tmp_path / "empty", lists, weights, tmp_path / "out"), "holds no image with a utkface label"),
        ((tmp_path / "text.tar.gz", lists, weights, tmp_path / "out"), "nor a readable tar archive"),
        ((archive, lists, tmp_path / "none", tmp_path / "out"), "with released weights"),
        ((archive, lists, weights, tmp_path / "file"), "cannot be read or written"),
        ((archive, lists, weights, tmp_path / "out", "--ages", 21, 60), "coral-utkface takes no --ages"),
    ]
    for words, message in cases:
        assert run(*words) == 2
        error = capsys.readouterr().err.strip()
        assert message in error and "\n" not in error
    assert main(["--protocol", "coral-utkface", "--out", str(tmp_path / "out")]) == 2
    assert "needs --source" in capsys.readouterr().err
    assert main([str(lists), "--protocol", "official", "--source", str(archive), "--out", str(tmp_path / "o")]) == 2
    assert "are for --protocol coral-utkface" in capsys.readouterr().err


def test_real_crops_and_the_released_base(tmp_path, capsys):
    """A made-up list on real files: 20 crops of the handed-out archive, half of them 'test'."""
    if not (SHARED / "UTKFace.tar").is_file():
        pytest.skip(f"real data is absent ({SHARED / 'UTKFace.tar'})")
    files: dict[str, bytes] = {}
    with tarfile.open(SHARED / "UTKFace.tar") as archive:
        for member in archive:
            name = member.name.rsplit("/", 1)[-1].removesuffix(".chip.jpg")
            if name[:2] in ("25", "40") and name[2:3] == "_":
                files[name] = archive.extractfile(member).read()
            if len(files) == 20:
                break
    names = list(files)
    lists = write_lists(tmp_path / "utk", names[:10], names[10:])
    source = write_archive(tmp_path / "part.tar.gz", files)
    words = ["--source", source, "--lists", lists, "--device", "cpu", "--out", tmp_path / "out"]
    assert main(["--protocol", "coral-utkface", *map(str, words)]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["base"]["n"] + metrics["left_out"] == 10 and metrics["base"]["mae"] < 15
