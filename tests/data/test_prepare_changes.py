"""A prepared set whose source, files or writers change between two runs: every row stays its image's."""

import hashlib
import io
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.data import packing as prepare_crops
from common.data.manifest import crops_digest, load_prepared
from common.errors import DataError
from common.files import only_writer
from scripts import prepare_data
from tests.conftest import REPOSITORY

SIZE = 32


def draw(path: Path, number: int) -> None:
    """An image that is like no other."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(path)


def label(folder: Path, ages: dict[str, float]) -> None:
    """Write labels.csv, in the order of `ages`."""
    pd.DataFrame({"path": ages.keys(), "age": ages.values()}).to_csv(folder / "labels.csv", index=False)


@pytest.fixture
def album(tmp_path) -> dict[str, float]:
    """Forty images with ages, labelled in tmp_path/labels.csv."""
    ages = {f"{number:02d}.png": 20.0 + number for number in range(40)}
    for number, name in enumerate(ages):
        draw(tmp_path / name, number)
    label(tmp_path, ages)
    return ages


def words(folder: Path, *more: str) -> list[str]:
    source, out = str(folder / "labels.csv"), str(folder / "out")
    return ["csv", "--source", source, "--crops", "--size", str(SIZE), "--out", out, *more]


def check(folder: Path, ages: dict[str, float]) -> pd.DataFrame:
    """Every row of the prepared set is its image's, and all images are there; the manifest."""
    prepared = load_prepared(folder / "out")
    assert sorted(prepared.manifest["path"]) == sorted(ages)
    for row, record in enumerate(prepared.manifest.itertuples()):
        assert record.id == hashlib.sha1((folder / record.path).read_bytes()).hexdigest()
        assert record.age == ages[record.path]
        assert np.array_equal(prepared.crops[row], np.asarray(Image.open(folder / record.path)))
    return prepared.manifest


def cut_off(folder: Path, monkeypatch, after: int = 25) -> None:
    """Start a preparation that ends after so many images."""
    make, made = prepare_crops.CropMaker.__call__, []

    def stopping(self, entry, data):
        made.append(entry.path)
        if len(made) > after:
            raise KeyboardInterrupt
        return make(self, entry, data)

    with monkeypatch.context() as context:
        context.setattr(prepare_crops.CropMaker, "__call__", stopping)
        assert prepare_data.main(words(folder)) == 130


def test_a_label_list_that_changes_while_a_preparation_lies_cut_off(tmp_path, album, monkeypatch):
    cut_off(tmp_path, monkeypatch)
    del album["03.png"]
    draw(tmp_path / "new.png", 99)
    album = {"new.png": 77.0} | dict(reversed(album.items()))
    draw(tmp_path / "05.png", 98)  # other bytes under an old name
    label(tmp_path, album)
    assert prepare_data.main(words(tmp_path)) == 0
    check(tmp_path, album)


def test_progress_cut_in_the_middle_of_a_line_or_a_crop_is_forgotten(tmp_path, album, monkeypatch):
    cut_off(tmp_path, monkeypatch)
    lines = (tmp_path / "out" / "progress.tsv").read_text()
    (tmp_path / "out" / "progress.tsv").write_text(lines[:-9])
    made = bytearray((tmp_path / "out" / "crops.partial").read_bytes())
    made[20 * SIZE * SIZE * 3 + 5] ^= 1
    (tmp_path / "out" / "crops.partial").write_bytes(made)
    assert prepare_data.main(words(tmp_path)) == 0
    check(tmp_path, album)


def test_a_finished_set_takes_over_what_changed_and_says_so(tmp_path, album, capsys, monkeypatch):
    assert prepare_data.main(words(tmp_path)) == 0
    first = crops_digest(tmp_path / "out")
    album |= {"00.png": 70.0, "01.png": 71.0, "new.png": 30.0, "newer.png": 31.0}
    del album["09.png"]
    draw(tmp_path / "new.png", 99)
    draw(tmp_path / "newer.png", 98)
    draw(tmp_path / "08.png", 97)
    label(tmp_path, album)
    made, make = [], prepare_crops.CropMaker.__call__
    noting = lambda self, entry, data: made.append(entry.path) or make(self, entry, data)  # noqa: E731
    monkeypatch.setattr(prepare_crops.CropMaker, "__call__", noting)
    capsys.readouterr()
    assert prepare_data.main(words(tmp_path)) == 0
    assert "2 labels changed, 1 images exchanged, 2 images added, 1 gone" in capsys.readouterr().out
    assert sorted(made) == ["08.png", "new.png", "newer.png"] and crops_digest(tmp_path / "out") != first
    check(tmp_path, album)
    assert prepare_data.main(words(tmp_path)) == 0
    assert "nothing changed" in capsys.readouterr().out


@pytest.mark.parametrize("moment", ["crops.npy", "manifest.csv", "left_out.csv", "crops.csv", "crops.json"])
def test_an_update_killed_between_two_files_is_refused_until_it_is_done(tmp_path, album, moment, monkeypatch):
    assert prepare_data.main(words(tmp_path)) == 0
    draw(tmp_path / "08.png", 97)
    label(tmp_path, album)
    replace = Path.replace

    def killed(self, target):
        if Path(target).name == moment:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as context:
        context.setattr(Path, "replace", killed)
        assert prepare_data.main(words(tmp_path)) == 130
    with pytest.raises(DataError, match="was not finished"):
        load_prepared(tmp_path / "out")
    assert prepare_data.main(words(tmp_path)) == 0
    check(tmp_path, album)


def test_a_second_writer_is_refused_in_one_sentence(tmp_path, album):
    with only_writer(tmp_path / "out" / "crops.npy") if (tmp_path / "out").mkdir() is None else None:
        process = subprocess.run(
            [sys.executable, "scripts/prepare_data.py", *words(tmp_path)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
    assert process.returncode == 2 and "is being written by another process" in process.stderr
    assert process.stderr.count("\n") == 1


def test_a_manifest_sorted_or_cut_in_a_spreadsheet_keeps_its_crops(tmp_path, album):
    assert prepare_data.main(words(tmp_path)) == 0
    path = tmp_path / "out" / "manifest.csv"
    manifest = pd.read_csv(path, dtype=str, keep_default_na=False)
    manifest.sort_values("path", ascending=False).iloc[5:].to_csv(path, index=False)
    assert len(check(tmp_path, {name: age for name, age in album.items() if int(name[:2]) < 35})) == 35
    crops = load_prepared(tmp_path / "out").crops
    assert np.array_equal(np.asarray(crops)[::2], crops[::2]) and crops.shape == (35, SIZE, SIZE, 3)
    for column, value in (("id", "0" * 40), ("id", "")):
        manifest.assign(**{column: [value, *manifest[column][1:]]}).to_csv(path, index=False)
        with pytest.raises(DataError, match="without a crop"):
            load_prepared(tmp_path / "out")


def test_crops_or_an_index_of_another_set_are_refused(tmp_path, album):
    assert prepare_data.main(words(tmp_path)) == 0
    crops = np.load(tmp_path / "out" / "crops.npy")
    np.save(tmp_path / "out" / "crops.npy", crops[::-1])
    with pytest.raises(DataError, match="not the file that was prepared"):
        load_prepared(tmp_path / "out")
    np.save(tmp_path / "out" / "crops.npy", crops)  # the same bytes at another time
    check(tmp_path, album)
    index = pd.read_csv(tmp_path / "out" / "crops.csv", dtype=str)
    index["id"] = index["id"].to_numpy()[::-1]
    index.to_csv(tmp_path / "out" / "crops.csv", index=False)
    with pytest.raises(DataError, match="not the index"):
        load_prepared(tmp_path / "out")


def test_a_full_disk_is_one_sentence_and_leaves_nothing_that_loads(tmp_path, album):
    limit = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
    code = limit + "from scripts.prepare_data import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.run(
        [sys.executable, "-c", code, *words(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert process.returncode == 2 and "disk full" in process.stderr and "Traceback" not in process.stderr
    with pytest.raises(DataError):
        load_prepared(tmp_path / "out")
    assert prepare_data.main(words(tmp_path)) == 0
    check(tmp_path, album)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_labels_of_any_spreadsheet(tmp_path, album):
    rows = ["\ufeff Path ;AGE; Gender;;", "00.png;31;m;;", "01.png;(25, 32);;;", "02.png;2014;;;", "03.png;NaN;;;"]
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    assert prepare_data.main(words(tmp_path)) == 0
    manifest = load_prepared(tmp_path / "out").manifest
    assert manifest["path"].tolist() == ["00.png", "01.png"] and manifest["age"][0] == 31
    assert (manifest["age_min"][1], manifest["age_max"][1]) == (25, 32)
    reasons = pd.read_csv(tmp_path / "out" / "left_out.csv").set_index("path")["reason"]
    assert "impossible age 2014" in reasons["02.png"] and reasons["03.png"] == "no age"


def archive(folder: Path, name: str, mode: str) -> Path:
    """An archive of sixty UTKFace-like crops."""
    path = folder / name
    with tarfile.open(path, mode) as tar:
        for number in range(60):
            data = io.BytesIO()
            pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(data, "JPEG")
            member = tarfile.TarInfo(f"UTK/{20 + number}_0_0_2017{number:04d}.jpg.chip.jpg")
            member.size = len(data.getvalue())
            tar.addfile(member, io.BytesIO(data.getvalue()))
    return path


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz")])
@pytest.mark.parametrize("damage", ["cut", "cut between", "damaged"])
def test_a_damaged_archive_is_refused_and_never_half_a_set(tmp_path, name, mode, damage, capsys):
    path = archive(tmp_path, name, mode)
    data = bytearray(path.read_bytes())
    if damage == "damaged":
        header = data.find(b"UTK/50_", 1024) if name == "a.tar" else len(data) // 2
        data[header : header + 4] = b"\x00\xff\x00\xff"
    elif damage == "cut between" and name == "a.tar":
        data = data[: data.find(b"UTK/50_", 1024)]
    else:
        data = data[: len(data) // 2]
    path.write_bytes(data)
    assert prepare_data.main(["utkface", "--source", str(path), "--size", "32", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert "damaged" in error and "\n" not in error


def test_names_twice_and_files_too_large_are_left_out_and_named(tmp_path, monkeypatch):
    path = archive(tmp_path, "a.tar", "w")
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("UTK/20_0_0_20170000.jpg.chip.jpg")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    monkeypatch.setattr("common.data.source.LARGEST_FILE", 20_000)
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("UTK/90_0_0_20179999.jpg.chip.jpg")
        member.size = 20_001
        tar.addfile(member, io.BytesIO(bytes(20_001)))
    assert prepare_data.main(["utkface", "--source", str(path), "--size", "32", "--out", str(tmp_path / "out")]) == 0
    reasons = pd.read_csv(tmp_path / "out" / "left_out.csv").set_index("path")["reason"]
    assert "twice" in reasons["UTK/20_0_0_20170000.jpg.chip.jpg"]
    assert "larger" in reasons["UTK/90_0_0_20179999.jpg.chip.jpg"]
    assert len(load_prepared(tmp_path / "out").manifest) == 59
