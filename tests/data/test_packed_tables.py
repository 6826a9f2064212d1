"""Tables named .csv.gz hold what a .csv holds, byte for byte the same each time; a damaged one is one sentence."""

import gzip
import time
from pathlib import Path

import pandas as pd
import pytest

from common import files
from common.data import labels, predictions
from common.data.labels import read_table
from common.data.predictions import (
    COLUMNS,
    check_out,
    read_csv,
    read_predictions,
    to_csv,
    write_predictions,
    write_table,
)
from common.errors import DataError
from common.files import WEIGHTS, plain_name, read_whole, write_whole
from DiffPipeline6.DiffPipeline6__controls import main as controls
from DiffPipeline6.DiffPipeline6__sweep import main as sweep
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__infer import main as classes
from scripts.analyze_reg_model import main as analyze
from scripts.calibrate_intervals import main as calibrate
from scripts.compare_with_peers import read_external
from scripts.evaluate_references import main as references
from scripts.report_metrics import main as metrics
from scripts.research.evaluate_robustness import main as robustness
from scripts.research.explain_estimates import main as explain

READERS = [
    (controls, ["--table"]), (sweep, ["--table"]), (classes, ["--table"]), (robustness, ["--table"]),
    (references, ["--table"]), (explain, ["--table"]), (calibrate, ["--report"]), (analyze, []), (metrics, ["a={}"]),
]  # fmt: skip


@pytest.fixture
def table() -> pd.DataFrame:
    """Predictions of 200 faces with awkward texts."""
    rows = pd.DataFrame("", range(200), COLUMNS, dtype=object)
    return rows.assign(
        id=[f"00{row}" for row in range(200)], path='a,"ü"\n.jpg', status="ok", person="Zoë", age=[30.126] * 200,
        true_age_min=30, true_age_max=[30.5] * 200,
    )  # fmt: skip


def test_a_packed_table_is_the_plain_one(table, tmp_path):
    plain, packed = tmp_path / "ages.csv", tmp_path / "ages.csv.gz"
    for path in (plain, packed):
        write_predictions(table, path)
        write_table(table, path.with_stem(f"t{path.stem}"), 2)
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes() == to_csv(table).encode()
    assert packed.stat().st_size < plain.stat().st_size / 10
    assert gzip.decompress((tmp_path / "tages.csv.gz").read_bytes()) == (tmp_path / "tages.csv").read_bytes()
    for read in (read_predictions, read_table, read_csv):
        pd.testing.assert_frame_equal(read(packed), read(plain))
    stored = read_predictions(packed)
    assert stored["id"][7] == "007" and (stored["age"] == 30.13).all() and stored["path"][0] == 'a,"ü"\n.jpg'
    frame = pd.DataFrame({"id": ["007"]})
    assert read_external(f"x={packed}", frame)[1].tolist() == [30.13]
    check_out(packed)  # its own table may be replaced
    write_whole(tmp_path / "other.csv.gz", "a,b\n1,2\n")
    with pytest.raises(DataError, match="holds no predictions"):
        check_out(tmp_path / "other.csv.gz")


def test_the_bytes_know_no_time_and_no_name(table, tmp_path, monkeypatch):
    write_predictions(table, tmp_path / "a.csv.gz")
    monkeypatch.setattr(time, "time", lambda: 2e9)
    write_predictions(table, tmp_path / "b.CSV.GZ")
    data = (tmp_path / "a.csv.gz").read_bytes()
    assert data == (tmp_path / "b.CSV.GZ").read_bytes()
    assert data[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"  # no flags, no time, level 9, any system


SETS = {"utkface_test": 1453, "publicfigures_test": 773, "fgnet_dev": 248, "photos": 24}  # rows


def test_every_stored_table_is_packed_and_whole():
    stored = sorted(WEIGHTS.glob("*/predictions/*"))
    assert len(stored) == 30 and all(path.name.endswith(".csv.gz") for path in stored)
    assert len(list(WEIGHTS.glob("*/controls.csv.gz"))) == 3
    assert not [path for path in WEIGHTS.rglob("*.csv") if path.stat().st_size > 300_000]
    for path in (*stored, *WEIGHTS.glob("*/controls.csv.gz"), *WEIGHTS.glob("*/classes/classes.csv.gz")):
        assert path.read_bytes()[3:8] == bytes(5)
        assert read_csv(path).notna().any(axis=None)
    rows = {name: len(read_predictions(WEIGHTS / f"DiffPipeline6/predictions/{name}.csv.gz")) for name in SETS}
    assert rows == SETS


def damaged(data: bytes) -> dict[str, bytes]:
    """A packed table cut, with a flipped bit, as no packed table at all, with dirt behind it, and empty."""
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 16
    return {"cut": data[:-40], "flipped": bytes(flipped), "plain": b"id,age\n", "dirt": data + b"x", "empty": b""}


@pytest.mark.parametrize("how", ["cut", "flipped", "plain", "dirt", "empty"])
def test_a_damaged_table_is_one_sentence_everywhere(table, tmp_path, capsys, how):
    path = tmp_path / "ages.csv.gz"
    write_predictions(table, path)
    path.write_bytes(damaged(path.read_bytes())[how])
    for read in (read_predictions, read_table, read_csv):
        with pytest.raises(DataError, match=r"ages.csv.gz cannot be read as a \w+ ?\w+ \(.{5,}\)\.$"):
            read(path)
    for main, words in READERS:
        given = [word.format(path) for word in words] if main is metrics else [*words, str(path)]
        assert main(given) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1 and "ages.csv.gz cannot be read as a" in said.err
    if how == "plain":
        with pytest.raises(DataError, match=r"cannot be read \(it is no .gz file.*give --out another name"):
            check_out(path)


def test_a_small_file_never_unpacks_to_gigabytes(tmp_path, monkeypatch):
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(bytes(2**21 + 1)))
    assert len(read_whole(path, 2**21 + 1)) == 2**21 + 1
    with pytest.raises(OSError, match="it unpacks to more than 2 MB"):
        read_whole(path, 2**21)
    assert files.LARGEST_UNPACKED == 2**30 and labels.LARGEST_TABLE == 2**28
    monkeypatch.setattr(labels, "LARGEST_TABLE", 2**20)
    monkeypatch.setattr(predictions, "LARGEST_UNPACKED", 2**20)
    for read in (read_table, read_csv, read_predictions):
        with pytest.raises(DataError, match=r"bomb.csv.gz cannot be read as a .* \(it unpacks to more than 1 MB\)\.$"):
            read(path)


@pytest.mark.parametrize(
    ("name", "plain"), [("a/x.csv.gz", "a/x.csv"), ("a.b/x.csv", "a.b/x.csv"), ("x.GZ", "x"), (".gz", ".gz")]
)
def test_names_without_gz(name, plain):
    assert plain_name(name) == Path(plain)
