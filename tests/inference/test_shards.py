"""infer2 on a manifest in several processes: the same bytes, and nothing lost when one of them is killed."""

import gzip
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from AgeRegBaseline.AgeRegBaseline__infer2 import main as infer_base
from common.data.manifest import load_prepared
from common.data.predictions import read_predictions
from common.inference.shards import owners
from DiffPipeline6.DiffPipeline6__infer2 import main as infer_difference
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def crops(synthetic_set, tmp_path_factory) -> Path:
    """A manifest of 150 crops with the exact age, one of which is broken and one absent."""
    folder = tmp_path_factory.mktemp("crops")
    prepared = load_prepared(synthetic_set)
    table = prepared.manifest.iloc[:150].assign(path=[f"{number:03d}.png" for number in range(150)])
    for path, crop in zip(table["path"], prepared.crops, strict=False):
        Image.fromarray(crop).save(folder / path)
    (folder / "003.png").write_bytes(b"no image")
    (folder / "140.png").unlink()
    table.to_csv(folder / "list.csv", index=False)
    return folder / "list.csv"


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.shard-*"))


def test_every_row_belongs_to_one_shard_and_blocks_stay_whole():
    owner = owners(1000, 3, 48)  # blocks of 192: batches of 48, corrections of 64
    assert owner.tolist() == [number // 192 % 3 for number in range(1000)]
    assert np.bincount(owners(320, 2, 64)).tolist() == [192, 128]
    assert set(owners(10, 4, 64)) == {0}  # the other shards are empty


@pytest.mark.parametrize("count", ["3"])
def test_the_merged_table_is_that_of_one_process(crops, diff_weights, tmp_path, capsys, count):
    words = ["--manifest", str(crops), "--crops", "--weights", str(diff_weights), "--device", "cpu", "--out"]
    assert infer_difference([*words, str(tmp_path / "one.csv")]) == 1
    alone = capsys.readouterr()
    many = tmp_path / ("many.csv" if count == "2" else "many.csv.gz")
    assert infer_difference([*words, str(many), "--processes", count]) == 1
    together = capsys.readouterr()
    assert (tmp_path / "one.csv").read_bytes() == (
        many.read_bytes() if count == "2" else gzip.decompress(many.read_bytes())
    )
    assert not shards(tmp_path) and len(read_predictions(many)) == 150
    assert alone.err.count("not estimated:") == together.err.count("not estimated:") == 2
    mae = [float(re.search(r"exact labels: n 148  mae ([\d.]+)", printed.out)[1]) for printed in (alone, together)]
    assert mae[0] == pytest.approx(mae[1], abs=0.006)


def start(words: list[str]) -> subprocess.Popen:
    entry = str(REPOSITORY / "AgeRegBaseline" / "AgeRegBaseline__infer2.py")
    return subprocess.Popen([sys.executable, entry, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def kill_worker(parent: subprocess.Popen, shard: str) -> None:
    """SIGKILL to the worker of a shard as soon as there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for worker in psutil.Process(parent.pid).children():
            try:
                if worker.cmdline()[-1:] == [shard]:
                    worker.kill()
                    return
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
    raise AssertionError("there was no such worker")


def test_after_a_killed_worker_only_its_shard_is_done_again(synthetic_set, tiny_run, tmp_path):
    out = tmp_path / "ages.csv"
    words = ["--manifest", str(synthetic_set / "manifest.csv"), "--weights", str(tiny_run / "weights")]
    words += ["--device", "cpu", "--batch-size", "32", "--out"]
    assert infer_base([*words, str(tmp_path / "one.csv")]) == 0
    out.write_text("path,age,status\n")  # an older table
    parent = start([*words, str(out), "--processes", "2"])
    kill_worker(parent, "1/2")
    _, error = parent.communicate(timeout=120)
    said = [line for line in error.splitlines() if line.startswith("AgeRegBaseline:")]
    assert parent.returncode == 2 and len(said) == 1
    assert "failed: 1/2 (killed by signal 9); the same command again does only these." in said[0]
    assert out.read_text() == "path,age,status\n"
    (kept,) = shards(tmp_path)
    assert "shard-0-of-2" in kept.name
    written = kept.stat().st_mtime_ns
    kept_rows = kept.read_bytes()

    assert infer_base([*words, str(out), "--shard", "1/2"]) == 0  # as on another machine
    assert [path.stat().st_mtime_ns for path in shards(tmp_path)][0] == written and len(shards(tmp_path)) == 2
    shards(tmp_path)[1].unlink()
    kept.write_bytes(kept_rows.replace(b",ok,", b",OK,"))  # a mark that only a shard taken as it is leaves
    again = start([*words, str(out), "--processes", "2"])
    printed, error = again.communicate(timeout=120)
    assert "1 of 2 shards are there from an earlier run" in printed and not shards(tmp_path)
    merged, whole = out.read_text().splitlines(), (tmp_path / "one.csv").read_text().splitlines()
    assert [line.replace(",OK,", ",ok,") for line in merged] == whole and len(whole) == 321
    assert sum(",OK," in line for line in merged) == 192


def test_shards_of_other_settings_are_never_merged(crops, tiny_run, tmp_path):
    weights, out = str(tiny_run / "weights"), tmp_path / "ages.csv"
    words = ["--manifest", str(crops), "--weights", weights, "--device", "cpu", "--out", str(out)]
    for further in ([], ["--batch-size", "32"]):
        assert infer_base([*words, "--crops", "--shard", "1/2", *further]) in (0, 1)
    assert len({path.name for path in shards(tmp_path)}) == 2
    table = pd.read_csv(crops, dtype=str, keep_default_na=False)
    changed = crops.with_name("changed.csv")
    table.iloc[::-1].to_csv(changed, index=False)
    assert infer_base(["--manifest", str(changed), *words[2:], "--crops", "--shard", "1/2"]) in (0, 1)
    assert len(shards(tmp_path)) == 3


@pytest.mark.parametrize("change", ["rows lacking", "another image"])
def test_a_shard_that_is_not_of_these_pictures_is_done_again(crops, tiny_run, tmp_path, change):
    words = ["--manifest", str(crops), "--weights", str(tiny_run / "weights"), "--crops", "--device", "cpu"]
    words += ["--out", str(tmp_path / "ages.csv")]
    for index in (0, 1):
        infer_base([*words, "--shard", f"{index}/2"])
    stored = shards(tmp_path)[1]
    by_size = sorted(
        (crops.parent / f"{number:03d}.png" for number in range(70, 76)), key=lambda path: path.stat().st_size
    )
    picture, before = by_size[-1], by_size[-1].read_bytes()
    if change == "rows lacking":
        stored.write_text("\n".join(stored.read_text().splitlines()[:-1]) + "\n")
    else:  # of the same size, so that only its bytes tell
        picture.write_bytes(by_size[0].read_bytes().ljust(len(before), b"\0"))
    assert infer_base([*words, "--processes", "2"]) == 1  # two images of the list cannot be read
    together = (tmp_path / "ages.csv").read_bytes()
    assert infer_base([*words[:-1], str(tmp_path / "one.csv")]) == 1
    picture.write_bytes(before)
    assert together == (tmp_path / "one.csv").read_bytes() and not shards(tmp_path)


@pytest.mark.parametrize("infer2", [infer_base, infer_difference])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--processes", "2"], "--processes divides the rows of a manifest"),
        (["--shard", "0/2", "--manifest", "list.csv"], "give --manifest and --out"),
        (["--shard", "0/2", "--processes", "2"], "not both"),
        (["--manifest", "LIST", "--out", "o.csv", "--processes", "2", "--weights", "nowhere"], "There is no nowhere"),
    ],
)
def test_mistakes_are_one_sentence(infer2: Callable, words, message, crops, capsys):
    assert infer2([str(crops) if word == "LIST" else word for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("wrong", ["2/2", "1", "-1/2", "a/b"])
def test_a_shard_is_a_part_of_a_whole(wrong, capsys):
    with pytest.raises(SystemExit):
        infer_base(["--shard", wrong])
    assert os.linesep in capsys.readouterr().err
