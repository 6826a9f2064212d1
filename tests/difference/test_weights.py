"""Where the weights of a difference pipeline find their base."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from common.base import weight_files
from common.base.weight_files import HASHES, stored_at, verified
from common.base.weights import load_bar
from common.difference import weights as difference_weights
from common.difference.bank import load_bank
from common.difference.heads import HeadConfig, PooledDifferenceHead
from common.difference.weights import base_of, load_difference, save_difference, share_bank
from common.errors import WeightsError
from common.files import REPOSITORY, WEIGHTS
from common.inference.terminal import CLOSED
from DiffPipeline6.DiffPipeline6__model import load_model
from Ep3Pipeline.Ep3Pipeline__model import load_model as load_ep3
from scripts.hash_weights import main as hash_weights


@pytest.fixture
def released(diff_weights, tmp_path, monkeypatch):
    """A folder that stands for weights/, with two bases; the second has the other's weights, slightly changed."""
    folder = tmp_path / "weights"
    for module in (difference_weights, weight_files):
        monkeypatch.setattr(module, "WEIGHTS", folder)
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


def test_weights_of_another_pipeline_are_named_as_such(diff_weights):
    with pytest.raises(WeightsError, match="holds weights of another pipeline .they have 'aggregation'.; check"):
        load_ep3(diff_weights, "cpu")
    with pytest.raises(WeightsError, match="holds no base regressor .no 'model' in its config.json."):
        load_bar(diff_weights)
    with pytest.raises(WeightsError, match="holds a base regressor alone: estimate with AgeRegBaseline__infer2.py"):
        load_model(diff_weights / "base", "cpu")


def test_a_table_whose_reader_goes_away_costs_no_traceback():
    words = [sys.executable, "scripts/hash_weights.py", "--list", "weights/AgeRegBaseline"]
    told = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    told.stdout.close()
    assert told.stderr.read() == b"" and told.wait() == CLOSED


def test_weights_that_name_no_base_are_of_the_default_one(released, tmp_path):
    (tmp_path / "config.json").write_text('{"head": {}}')
    assert base_of(tmp_path) == released / "AgeRegBaseline"
    (tmp_path / "config.json").write_text('{"base": "../../AgeRegBaseline-large"}')
    assert base_of(tmp_path) == released / "AgeRegBaseline-large"
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="describes no weights"):
        base_of(tmp_path)
    (tmp_path / "config.json").write_text('{"base": ".."}')
    with pytest.raises(WeightsError, match="names no folder of weights"):
        base_of(tmp_path)


@pytest.fixture
def sharing(diff_weights, released) -> Path:
    """Weights `second`, which leave their bank to `first`, the same weights, beside them."""
    for name in ("first", "second"):
        shutil.copytree(diff_weights, released / name)
    share_bank(released / "second")
    return released / "second"


def settings_of(folder: Path) -> dict:
    """config.json of a folder of weights."""
    return json.loads((folder / "config.json").read_text())


def name_bank(folder: Path, name: object) -> None:
    """Let config.json say that the bank is that of another folder of weights/."""
    (folder / "config.json").write_text(json.dumps(settings_of(folder) | {"bank": name}))


def test_a_shared_bank_is_stored_once_and_is_the_same(sharing, diff_weights):
    assert not (sharing / "bank.npz").exists() and settings_of(sharing)["bank"] == "first"
    assert stored_at(sharing, "bank.npz") == sharing.parent / "first" / "bank.npz"
    assert verified(sharing / "bank.npz") == (diff_weights / "bank.npz").read_bytes()
    ours, theirs = load_model(sharing, "cpu").bank, load_model(diff_weights, "cpu").bank
    for name in ("embeddings", "ages", "estimates", "id", "person", "seen"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))
    before = settings_of(diff_weights)[HASHES]
    assert hash_weights([str(sharing)]) == 0 and settings_of(sharing)[HASHES] == before
    share_bank(sharing.parent / "first")  # whose bank nobody else holds now
    assert (sharing.parent / "first" / "bank.npz").is_file() and "bank" not in settings_of(sharing.parent / "first")


def test_a_training_into_the_folder_has_its_own_bank(sharing, diff_weights):
    corrector = load_model(sharing, "cpu")
    notes = {"training": {"reference_window": 5}}
    save_difference(sharing, corrector.head, corrector.bank, diff_weights / "base", notes)
    assert (sharing / "bank.npz").is_file() and "bank" not in settings_of(sharing)
    shutil.rmtree(sharing.parent / "first")
    assert len(load_model(sharing, "cpu").bank) == len(corrector.bank)


def test_another_or_no_shared_bank_is_refused(sharing):
    bank = sharing.parent / "first" / "bank.npz"
    data = bytearray(bank.read_bytes())
    data[len(data) // 2] ^= 1
    bank.write_bytes(data)
    with pytest.raises(WeightsError, match=r"first/bank.npz is not the file that .*second/config.json vouches for"):
        load_model(sharing, "cpu")
    bank.unlink()
    with pytest.raises(WeightsError, match=r"first holds no DiffPipeline6 weights \(no bank.npz\)"):
        load_model(sharing, "cpu")
    shutil.rmtree(bank.parent)
    with pytest.raises(WeightsError, match=r"There is no folder .*first"):
        load_model(sharing, "cpu")


def test_the_name_of_a_bank_never_leads_outside(sharing, diff_weights):
    shutil.copytree(diff_weights, sharing.parents[1] / "x")  # beside weights/
    shutil.copy(diff_weights / "bank.npz", sharing.parents[1] / "bank.npz")
    for name in ("../x", str(sharing.parents[1] / "x"), "first/../../x", "x\0", "first\0"):
        name_bank(sharing, name)
        with pytest.raises(WeightsError, match=r"There is no folder .*/weights/x |names no folder of weights"):
            load_model(sharing, "cpu")
    for name in ("..", "../..", "", ".", "a" * 300, "\ud800" * 300):
        name_bank(sharing, name)
        with pytest.raises(WeightsError, match="names no folder of weights"):
            load_model(sharing, "cpu")
    for name in (["first"], None, 3, "\ud800"):
        name_bank(sharing, name)
        with pytest.raises(WeightsError, match="There is no folder"):
            load_model(sharing, "cpu")
    name_bank(sharing, "../../first")  # the last part alone counts
    assert len(load_model(sharing, "cpu").bank)


def test_the_released_bank_is_stored_once():
    folder = WEIGHTS / "Ep3Pipeline"
    assert settings_of(folder)["bank"] == "DiffPipeline6" and not (folder / "bank.npz").exists()
    hashes = [settings_of(WEIGHTS / name)[HASHES]["bank.npz"] for name in ("Ep3Pipeline", "DiffPipeline6")]
    assert hashes[0] == hashes[1] == "e1c6de6a94afda55b4de85df92677e2ef72656d14d2fc6df8cf5096ba2145c60"
    bank = load_ep3(folder, "cpu").bank
    assert len(bank) == 19220 and bank.id.tolist() == load_model(WEIGHTS / "DiffPipeline6", "cpu").bank.id.tolist()
