import io
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skimage.data
from PIL import Image

from common.data import packing as prepare_crops
from common.data.manifest import COLUMNS, age_bounds, load_prepared, read_manifest
from common.data.prepare import Preparation, open_source
from common.data.readers import Entry, Source, read_fgnet, read_utkface
from common.errors import DataError
from common.faces.alignment import TEMPLATE
from common.faces.detection import FaceDetector
from scripts.prepare_data import main

RNG = np.random.default_rng(0)


def picture(size: int = 200, quality: int = 95) -> bytes:
    pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def recompressed(data: bytes, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(data)).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


@pytest.fixture
def utkface(tmp_path) -> Path:
    """40 good crops, one exact copy, a re-encoded pair with conflicting ages, one misnamed, broken, impossible."""
    folder = tmp_path / "UTKFace"
    folder.mkdir()
    files = {f"{20 + i}_{i % 2}_{i % 5}_2017011{i:07d}.jpg.chip.jpg": picture() for i in range(40)}
    first = next(iter(files.values()))
    conflict = picture()
    files |= {
        "20_0_0_20990101.jpg.chip.jpg": first,
        "30_0_0_20990102.jpg.chip.jpg": conflict,
        "50_0_0_20990103.jpg.chip.jpg": recompressed(conflict, 40),
        "39_1_20170116.jpg.chip.jpg": picture(),
        "25_0_0_20990104.jpg.chip.jpg": picture()[:300],
        "150_0_0_20990105.jpg.chip.jpg": picture(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def run(*words) -> int:
    return main([str(word) for word in words])


def test_utkface_folder(utkface, tmp_path, capsys):
    assert run("utkface", "--source", utkface, "--out", tmp_path / "out", "--size", 64) == 0
    prepared = load_prepared(tmp_path / "out")
    assert list(prepared.manifest.columns) == COLUMNS
    assert prepared.crops.shape == (40, 64, 64, 3) and len(prepared.manifest) == 40
    row = prepared.manifest[prepared.manifest["path"].str.startswith("23_1_3")].iloc[0]
    assert (row["age"], row["gender"], row["group"]) == (23.0, "female", "indian")
    reasons = pd.read_csv(tmp_path / "out" / "left_out.csv").set_index("path")["reason"]
    assert len(reasons) == 6
    assert "a copy" in reasons["20_0_0_20990101.jpg.chip.jpg"]
    assert "more than 2 years" in reasons["30_0_0_20990102.jpg.chip.jpg"]
    assert "more than 2 years" in reasons["50_0_0_20990103.jpg.chip.jpg"]
    assert "misnamed" in reasons["39_1_20170116.jpg.chip.jpg"]
    assert "broken" in reasons["25_0_0_20990104.jpg.chip.jpg"]
    assert "impossible age 150" in reasons["150_0_0_20990105.jpg.chip.jpg"]
    assert (tmp_path / "out" / "ages.png").stat().st_size > 5_000
    assert "40 faces" in capsys.readouterr().out


def test_crop_is_the_picture_of_its_row(utkface, tmp_path):
    run("utkface", "--source", utkface, "--out", tmp_path / "out", "--size", 200)
    prepared = load_prepared(tmp_path / "out")
    for row in (0, 17, 39):
        original = np.array(Image.open(utkface / prepared.manifest["path"][row]))
        assert np.array_equal(prepared.crops[row], original)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_gives_the_same_as_the_folder(utkface, tmp_path, mode):
    archive = tmp_path / "faces.tar.gz"
    with tarfile.open(archive, mode) as tar:
        tar.add(utkface, "UTKFace")
    run("utkface", "--source", utkface, "--out", tmp_path / "folder", "--size", 32)
    run("utkface", "--source", archive, "--out", tmp_path / "archive", "--size", 32)
    folder, packed = load_prepared(tmp_path / "folder"), load_prepared(tmp_path / "archive")
    assert folder.manifest[["id", "split"]].equals(packed.manifest[["id", "split"]])
    assert np.array_equal(folder.crops, packed.crops)


def test_an_interrupted_preparation_goes_on_and_gives_the_same(utkface, tmp_path, monkeypatch):
    run("utkface", "--source", utkface, "--out", tmp_path / "whole", "--size", 32)
    made = []
    make = prepare_crops.CropMaker.__call__

    def stopping(self, entry, data):
        made.append(entry.path)
        if len(made) == 25:
            raise KeyboardInterrupt
        return make(self, entry, data)

    monkeypatch.setattr(prepare_crops.CropMaker, "__call__", stopping)
    arguments = ("utkface", "--source", utkface, "--out", tmp_path / "cut", "--size", 32)
    assert run(*arguments) == 130
    made.append("a second run never reaches 25 at the same place")
    assert run(*arguments) == 0
    assert len(made) == 25 + 1 + 20  # what was made before the interruption was not made again
    whole, cut = load_prepared(tmp_path / "whole"), load_prepared(tmp_path / "cut")
    assert whole.manifest.equals(cut.manifest) and np.array_equal(whole.crops, cut.crops)


def test_a_finished_preparation_is_not_repeated_and_other_settings_are_refused(utkface, tmp_path, monkeypatch, capsys):
    arguments = ("utkface", "--source", utkface, "--out", tmp_path / "out", "--size", 32)
    run(*arguments)
    monkeypatch.setattr(prepare_crops.CropMaker, "__call__", lambda *_: pytest.fail("made again"))
    assert run(*arguments) == 0
    assert "nothing changed" in capsys.readouterr().out
    assert run(*arguments[:-1], 64) == 2
    assert "prepared with other settings" in capsys.readouterr().err


def test_both_utkface_name_styles(tmp_path):
    (tmp_path / "61_1_0_20170109142408075.jpg").write_bytes(b"")
    (tmp_path / "61_1_0_20170109142408075.jpg.chip.jpg").write_bytes(b"")
    whole, chip = read_utkface(Source(tmp_path), {"crops": False})
    assert (whole.age, whole.ready_crop, chip.age, chip.ready_crop) == (61.0, False, 61.0, True)


def test_fairface_intervals_and_published_part(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
    rows = ["path,age_min,age_max,gender,race"]
    for number in range(60):
        name = f"{'val' if number % 6 == 0 else 'train'}/{number}.jpg"
        (tmp_path / name).write_bytes(picture(128))
        rows.append(f"{name},{'70,' if number == 7 else '20,29'},Female,East Asian")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert run("fairface", "--source", tmp_path, "--out", tmp_path / "out", "--size", 32) == 0
    manifest = load_prepared(tmp_path / "out").manifest
    low, high = age_bounds(manifest)
    open_end = (manifest["path"] == "train/7.jpg").to_numpy()
    assert (low[open_end], high[open_end]) == (70, 120)
    assert set(zip(low[~open_end], high[~open_end], strict=True)) == {(20.0, 29.0)}
    assert manifest["age"].isna().all() and set(manifest["group"]) == {"east asian"}
    assert (manifest[manifest["path"].str.startswith("val/")]["split"] == "test").all()
    assert manifest[manifest["path"].str.startswith("train/")]["split"].nunique() > 2


def test_whole_photos_are_detected_and_aligned(tmp_path):
    source = tmp_path / "FGNET"
    source.mkdir()
    portrait = Image.fromarray(skimage.data.astronaut())
    portrait.crop((100, 0, 400, 300)).save(source / "001A41.JPG", quality=95)
    portrait.crop((60, 0, 460, 400)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(source / "002A43a.JPG")
    Image.fromarray(skimage.data.coffee()).save(source / "003A10.JPG")
    (source / "readme.jpg").write_bytes(picture())
    assert run("fgnet", "--source", source, "--out", tmp_path / "out") == 0
    prepared = load_prepared(tmp_path / "out")
    assert prepared.manifest[["age", "person"]].to_numpy().tolist() == [[41.0, "001"], [43.0, "002"]]
    reasons = pd.read_csv(tmp_path / "out" / "left_out.csv").set_index("path")["reason"]
    assert "no face" in reasons["003A10.JPG"] and "misnamed" in reasons["readme.jpg"]
    for crop in prepared.crops:  # both faces lie on the template, as exactly as the detector sees such small faces
        (face,) = FaceDetector().detect(crop)
        assert np.abs(face.landmarks - np.array(TEMPLATE) * 128 / 200).max() < 14  # unaligned: 25 and more


def test_fgnet_names():
    source = Source.__new__(Source)
    source.names = ["a/001A02.JPG", "a/001a43B.jpg", "a/1A02.JPG"]
    entries = read_fgnet(source, {"crops": False})
    assert [(entry.person, entry.age) for entry in entries[:2] if isinstance(entry, Entry)] == [("001", 2), ("001", 43)]
    assert entries[2].reason.startswith("misnamed")


def test_generic_csv(tmp_path, capsys):
    for number in range(12):
        (tmp_path / f"{number}.png").write_bytes(picture())
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(13)], "years": [str(20 + i) for i in range(13)]})
    table["person"], table.loc[3, "years"] = [f"P{i // 2}" for i in range(13)], "old"
    table.to_csv(tmp_path / "mine.csv", index=False)
    (tmp_path / "list.csv").write_text("name,split\n0.png,test\n")
    arguments = ("csv", "--source", tmp_path / "mine.csv", "--out", tmp_path / "out", "--crops", "--size", 32)
    assert run(*arguments) == 2
    assert "needs the columns 'path' and 'age'" in capsys.readouterr().err
    assert run(*arguments, "--column", "age=jahre") == 2
    assert "has no column 'jahre'" in capsys.readouterr().err
    assert run(*arguments, "--column", "age=years", "--split-file", tmp_path / "list.csv") == 0
    manifest = load_prepared(tmp_path / "out").manifest
    assert len(manifest) == 11 and manifest["age"].min() == 20
    assert manifest.set_index("path")["split"][["0.png", "1.png"]].tolist() == ["test", "test"]  # person P0
    reasons = pd.read_csv(tmp_path / "out" / "left_out.csv").set_index("path")["reason"]
    assert "'old' is no age" in reasons["3.png"] and "no such file" in reasons["12.png"]


def test_the_table_named_is_read_and_none_of_the_same_name_deeper_down(tmp_path):
    for folder in (".cache", "old"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.csv").write_text("path,age\nwrong.png,70\n")
    (tmp_path / "mine.csv").write_text("path,age\n0.png,20\n")
    assert Source(tmp_path).find("mine.csv") == "mine.csv"
    folder, table = Source(tmp_path).table("mine.csv")
    assert folder == "" and table["path"].tolist() == ["0.png"]


def test_synthetic_set(synthetic_set):
    prepared = load_prepared(synthetic_set)
    assert prepared.crops.shape[1:] == (48, 48, 3) and len(prepared.manifest) > 300
    by_person = prepared.manifest.groupby("person")["split"].nunique()
    assert by_person.max() == 1 and len(by_person) == 80
    assert set(prepared.manifest["split"]) == {"base", "dar", "val", "calib", "test"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("utkface", "--out", "{}/out"), "needs --source"),
        (("utkface", "--source", "{}/nowhere", "--out", "{}/out"), "nothing at"),
        (("utkface", "--source", "{}/text.tar", "--out", "{}/out"), "neither a folder nor a readable tar"),
        (("utkface", "--source", "{}/empty", "--out", "{}/out"), "holds no image with a utkface label"),
        (("fairface", "--source", "{}/empty", "--out", "{}/out"), "holds no labels.csv"),
        (("csv", "--source", "{}/empty", "--out", "{}/out"), "no CSV file"),
        (("synthetic", "--count", "4", "--out", "{}/text.tar"), "is a file"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(words, message, tmp_path, capsys):
    (tmp_path / "text.tar").write_text("not an archive")
    (tmp_path / "empty").mkdir()
    assert run(*(word.replace("{}", str(tmp_path)) for word in words)) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_manifest_errors(tmp_path, capsys):
    with pytest.raises(DataError, match="no manifest at"):
        read_manifest(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("file,age\nx.jpg,3\n")
    with pytest.raises(DataError, match="no column 'path'"):
        read_manifest(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("path,age\nx.jpg,3\ny.jpg,old\n")
    assert read_manifest(tmp_path / "c.csv")["age"].isna().tolist() == [False, True]
    assert "the age of y.jpg is not used: 'old' is no age" in capsys.readouterr().err
    (tmp_path / "d.csv").write_text("path,age\nx.jpg,soon\ny.jpg,old\n")
    with pytest.raises(DataError, match="d.csv: no age in it can be read; that of x.jpg: 'soon' is no age"):
        read_manifest(tmp_path / "d.csv")
    with pytest.raises(DataError, match="not a prepared data set"):
        load_prepared(tmp_path)


def test_real_names_are_understood(shared_data):
    with tarfile.open(shared_data / "UTKFace.tar") as archive:
        source = Source.__new__(Source)
        source.names = archive.getnames()
    entries = read_utkface(source, {"crops": False})
    good = [entry for entry in entries if isinstance(entry, Entry)]
    assert len(entries) == 19_023 and len(good) == 19_018


def test_an_empty_split_is_said(tmp_path, capsys):
    assert main(["synthetic", "--count", "8", "--size", "16", "--out", str(tmp_path / "few")]) == 0
    printed = capsys.readouterr().out
    counts = printed.split("split: ")[1].splitlines()[0].split(", ")  # "base 4", "dar 0", …
    empty = [count.split()[0] for count in counts if count.endswith(" 0")]
    assert empty and f"no face in {', '.join(empty)}: too few" in printed


def test_what_lies_beside_a_table_or_in_hidden_folders_is_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("common.data.source.LARGEST_FILE", 10_000)
    for name in (".venv/lib/big.so", "big.bin", "named.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0" * 20_000)
    (tmp_path / "labels.csv").write_text("path,age\nnamed.jpg,30\n")
    assert [problem.path for problem in Source(tmp_path).problems] == ["big.bin", "named.jpg"]
    source, _ = open_source(Preparation("csv", tmp_path / "out", tmp_path / "labels.csv"))
    assert [problem.path for problem in source.problems] == ["named.jpg"]
