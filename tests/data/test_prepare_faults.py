"""Preparations of sources and folders that somebody else damaged, locked or filled with links."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.data.manifest import load_prepared
from common.errors import DataError
from scripts import prepare_data


def picture(number: int, kind: str = "PNG") -> bytes:
    """An image that is like no other."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def words(tmp_path) -> list[str]:
    """The command that prepares ten labelled images."""
    names = [f"{number}.png" for number in range(10)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(picture(number))
    pd.DataFrame({"path": names, "age": range(20, 30)}).to_csv(tmp_path / "labels.csv", index=False)
    return ["csv", "--source", f"{tmp_path}/labels.csv", "--crops", "--size", "32", "--out", f"{tmp_path}/out"]


def reasons(out: Path) -> dict[str, str]:
    return pd.read_csv(out / "left_out.csv").set_index("path")["reason"].to_dict()


def unreadable(monkeypatch, name: str, after: int) -> None:
    """Let reading of one file fail when it was read so often."""
    read, readings = Path.read_bytes, []

    def failing(self):
        if self.name == name:
            readings.append(name)
            if len(readings) > after:
                raise PermissionError(13, "Permission denied")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", failing)


def test_a_picture_that_cannot_be_read_is_left_out_alone(words, tmp_path, monkeypatch):
    unreadable(monkeypatch, "7.png", after=0)
    assert prepare_data.main(words) == 0
    assert len(load_prepared(tmp_path / "out").manifest) == 9
    assert "cannot be read" in reasons(tmp_path / "out")["7.png"]


def test_a_table_that_names_no_file_may_be_corrected(words, tmp_path, capsys):
    labels = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(labels.replace(".png", ".gif"))
    assert prepare_data.main(words) == 2
    assert "0.gif: there is no such file below the folder of the source" in capsys.readouterr().err
    (tmp_path / "labels.csv").write_text(labels)
    assert prepare_data.main([*words, "--size", "48"]) == 0  # other settings, after a try that left nothing
    assert len(load_prepared(tmp_path / "out").manifest) == 10


def test_a_picture_that_vanishes_in_between_is_one_sentence(words, tmp_path, monkeypatch, capsys):
    unreadable(monkeypatch, "7.png", after=1)
    assert prepare_data.main(words) == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("7.png changed while it was prepared; run the same command again.")
    )
    monkeypatch.undo()
    assert prepare_data.main(words) == 0 and len(load_prepared(tmp_path / "out").manifest) == 10


@pytest.mark.parametrize("name", ["crops.partial", "progress.tsv"])
def test_a_planted_link_is_not_written_through(words, tmp_path, name, capsys):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "victim")
    assert prepare_data.main(words) == 2
    assert (tmp_path / "victim").read_text() == "precious"
    error = capsys.readouterr().err.strip()
    assert name in error and "symbolic links" in error and "\n" not in error


def test_links_in_an_archive_are_named(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(5):
            member, data = tarfile.TarInfo(f"{20 + number}_0_0_2017.jpg.chip.jpg"), picture(number, "JPEG")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for kind, name, target in ((tarfile.LNKTYPE, "40", "20_0_0_2017.jpg.chip.jpg"), (tarfile.SYMTYPE, "41", "/x")):
            member = tarfile.TarInfo(f"{name}_0_0_2017.jpg.chip.jpg")
            member.type, member.linkname = kind, target
            tar.addfile(member)
    source, out = str(tmp_path / "a.tar"), tmp_path / "out"
    assert prepare_data.main(["utkface", "--source", source, "--size", "32", "--out", str(out)]) == 0
    assert len(load_prepared(out).manifest) == 5
    assert reasons(out) == {f"{age}_0_0_2017.jpg.chip.jpg": "a link or a device" for age in (40, 41)}


def test_drawn_faces_that_were_damaged_are_drawn_again(tmp_path):
    words = ["synthetic", "--count", "30", "--size", "16", "--out", str(tmp_path / "out")]
    assert prepare_data.main(words) == 0
    crops = (tmp_path / "out" / "crops.npy").read_bytes()
    (tmp_path / "out" / "crops.npy").write_bytes(crops[: len(crops) // 2])
    with pytest.raises(DataError, match="prepare it again"):
        load_prepared(tmp_path / "out")
    assert prepare_data.main(words) == 0
    assert load_prepared(tmp_path / "out").crops.shape == (30, 16, 16, 3)
    assert (tmp_path / "out" / "crops.npy").read_bytes() == crops


def test_a_split_list_that_changes_is_taken_over_and_said(words, tmp_path, capsys):
    words += ["--split-file", str(tmp_path / "list.csv")]
    for split in ("test", "val"):
        (tmp_path / "list.csv").write_text(f"name,split\n0.png,{split}\n")
        assert prepare_data.main(words) == 0
        manifest = load_prepared(tmp_path / "out").manifest.set_index("path")
        assert manifest.loc["0.png", "split"] == split
    assert f"{tmp_path / 'out'}: 1 in another split." in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_one_sentence(words, capsys):
    assert prepare_data.main([*words[:-1], "/proc/nothing"]) == 2
    assert capsys.readouterr().err == (
        "prepare_data: /proc/nothing cannot be read or written (No such file or directory).\n"
    )
