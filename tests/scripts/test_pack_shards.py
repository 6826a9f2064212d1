"""Prepared sets as WebP shards and back."""

import json

import numpy as np
import pytest

from common.data.manifest import load_prepared
from common.errors import DataError
from scripts.release import pack_shards
from scripts.release.pack_shards import main


@pytest.fixture
def packed(synthetic_set, tmp_path, monkeypatch):
    """Shards of a few faces each of the synthetic set's base and val splits."""
    monkeypatch.setattr(pack_shards, "SHARD_BYTES", 20_000)
    assert main(["pack", str(synthetic_set), "--quality", "80", "--out", str(tmp_path / "shards")]) == 0
    return tmp_path / "shards" / synthetic_set.name


def test_a_set_comes_back_with_its_rows_and_nearly_its_pixels(packed, synthetic_set, tmp_path, capsys):
    assert len(list(packed.glob("*.webps"))) > 2
    assert main(["unpack", str(packed), "--out", str(tmp_path / "prepared")]) == 0
    before, after = load_prepared(synthetic_set), load_prepared(tmp_path / "prepared" / synthetic_set.name)
    rows = np.flatnonzero(before.manifest["split"].isin(["base", "val"]).to_numpy())
    assert len(after.manifest) == len(rows) and set(after.manifest["split"]) == {"base", "val"}
    for column in ("id", "age", "person"):
        assert after.manifest[column].equals(before.manifest[column].iloc[rows].reset_index(drop=True))
    apart = np.abs(np.array(after.crops).astype(int) - np.array(before.crops[rows]).astype(int))
    assert 0 < apart.mean() < 6
    assert f"{len(rows)} faces" in capsys.readouterr().out
    assert main(["unpack", str(packed), "--out", str(tmp_path / "prepared")]) == 2
    assert "holds crops already" in capsys.readouterr().err


def damaged(change):
    """What `change` of shards.json makes of it."""

    def write(folder):
        said = json.loads((folder / "shards.json").read_text())
        change(said)
        (folder / "shards.json").write_text(json.dumps(said))

    return write


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "001.webps").unlink(), "cannot be read"),
        (lambda folder: (folder / "001.webps").write_bytes(b"RIFF"), "is not the shard that was packed"),
        (lambda folder: (folder / "shards.json").write_text("[]"), "is no folder of shards"),
        (damaged(lambda said: said.update(side=64)), "another size than 64 px"),
        (damaged(lambda said: said.update(side=10**6)), "contradicts itself"),
        (damaged(lambda said: said.update(faces=3)), "contradicts itself"),
        (damaged(lambda said: said["shards"][0]["lengths"].reverse()), "no WebP image|contradicts|not the shard"),
    ],
)
def test_what_is_damaged_or_foreign_is_one_sentence(packed, tmp_path, capsys, change, words):
    change(packed)
    with pytest.raises(DataError, match=words):
        pack_shards.unpack(packed, tmp_path / "prepared")
    assert not list((tmp_path / "prepared").glob("*/crops.npy"))


def test_a_set_that_is_too_large_is_told(synthetic_set, tmp_path, capsys):
    assert main(["pack", str(synthetic_set), "--limit", "0.01", "--out", str(tmp_path / "a")]) == 2
    assert "lower --quality" in capsys.readouterr().err
    assert main(["pack", str(synthetic_set), "--splits", "none", "--out", str(tmp_path / "b")]) == 2
    assert main(["pack", str(synthetic_set), "--out", str(tmp_path / "a")]) == 2
    assert "is not empty" in capsys.readouterr().err
