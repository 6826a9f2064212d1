"""Where the weights of a difference pipeline find their base."""

import json
import shutil

import pytest
import torch

from common import difference_weights
from common.difference_heads import HeadConfig, PooledDifferenceHead
from common.difference_weights import base_of, load_difference, save_difference
from common.errors import WeightsError
from common.reference_bank import load_bank
from DiffPipeline6.DiffPipeline6__model import load_model


@pytest.fixture
def released(diff_weights, tmp_path, monkeypatch):
    """A folder that stands for weights/, with two bases; the second has the other's weights, slightly changed."""
    folder = tmp_path / "weights"
    monkeypatch.setattr(difference_weights, "WEIGHTS", folder)
    for name in ("AgeRegBaseline", "AgeRegBaseline-large"):
        shutil.copytree(diff_weights / "base", folder / name)
    other = folder / "AgeRegBaseline" / "model.safetensors"
    other.write_bytes(other.read_bytes().replace(b"\x00\x3c", b"\x01\x3c"))
    return folder


def test_a_base_of_weights_is_named_and_not_copied(diff_weights, released, tmp_path):
    corrector = load_model(diff_weights, "cpu")
    bank = load_bank(diff_weights / "bank.npz", corrector.pipeline.fingerprint)
    notes = {"training": {"reference_window": 5}}
    folder = save_difference(tmp_path / "own", corrector.head, bank, released / "AgeRegBaseline-large", notes)
    assert not (folder / "base").exists() and base_of(folder) == released / "AgeRegBaseline-large"
    loaded = load_difference(folder, "X", lambda settings: PooledDifferenceHead(HeadConfig(**settings)), "cpu")
    assert loaded.pipeline.fingerprint == corrector.pipeline.fingerprint
    assert all(map(torch.equal, loaded.head.state_dict().values(), corrector.head.state_dict().values()))
    copied = save_difference(tmp_path / "copied", corrector.head, bank, diff_weights / "base", notes)
    assert base_of(copied) == copied / "base" and "base" not in json.loads((copied / "config.json").read_text())


def test_weights_that_name_no_base_are_of_the_default_one(released, tmp_path):
    (tmp_path / "config.json").write_text('{"head": {}}')
    assert base_of(tmp_path) == released / "AgeRegBaseline"
    (tmp_path / "config.json").write_text('{"base": "../../AgeRegBaseline-large"}')
    assert base_of(tmp_path) == released / "AgeRegBaseline-large"
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="describes no weights"):
        base_of(tmp_path)
