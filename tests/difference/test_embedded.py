"""Caches hold what bytes and weights decide, and nothing that can be corrected."""

import errno
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from common.data.labels import SET_MARK
from common.difference import embedded
from common.difference.bank import ReferenceBank
from common.difference.embedded import Views, bank_of, embed_split, join, rounded, set_names
from common.evaluation.pairs import random_pairs
from common.pipeline import AgePredictBasicPipeline
from scripts import prepare_data
from tests.data.test_prepare_changes import draw, label


@pytest.fixture(scope="module")
def pipeline(tiny_run) -> AgePredictBasicPipeline:
    return AgePredictBasicPipeline.from_weights(tiny_run / "weights", "cpu")


def prepare(folder, ages: dict[str, float], size: int, person: str = "") -> str:
    """A prepared set of drawn images, all of them in the split `dar`."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(ages):
        if not (folder / name).exists():
            draw(folder / name, 1000 * len(folder.name) + 7 * ord(folder.name[0]) + number)
    label(folder, ages)
    table = pd.read_csv(folder / "labels.csv").assign(person=person, split="dar")
    table.to_csv(folder / "labels.csv", index=False)
    words = ["csv", "--source", str(folder / "labels.csv"), "--crops", "--size", str(size), "--out"]
    assert prepare_data.main([*words, str(folder / "prepared")]) == 0
    return str(folder / "prepared")


def test_corrected_ages_reach_training_though_embeddings_are_kept(tmp_path, pipeline, monkeypatch):
    size, ages = pipeline.config.crop_size, {f"{number}.png": 30.0 + number for number in range(8)}
    views = Views(str(tmp_path / "cache"))
    folder = prepare(tmp_path / "a", ages, size)
    before = embed_split(pipeline, folder, "dar", views)
    monkeypatch.setattr(embedded, "embed", lambda *_: pytest.fail("embedded again"))
    ages["3.png"] = 77.0
    prepare(tmp_path / "a", ages, size, person="anna")
    after = embed_split(pipeline, folder, "dar", views)
    assert before.low.tolist() == [30 + number for number in range(8)]
    assert after.low.tolist() == list(ages.values()) and set(after.person) == {"anna"}
    assert np.array_equal(after.embeddings, before.embeddings)


def test_exchanged_pictures_are_embedded_again(tmp_path, pipeline):
    size, ages = pipeline.config.crop_size, {f"{number}.png": 30.0 + number for number in range(8)}
    views = Views(str(tmp_path / "cache"))
    folder = prepare(tmp_path / "a", ages, size)
    before = embed_split(pipeline, folder, "dar", views)
    draw(tmp_path / "a" / "3.png", 123456)
    prepare(tmp_path / "a", ages, size)
    after = embed_split(pipeline, folder, "dar", views)
    same = (after.embeddings == before.embeddings).all(axis=(0, 2))
    assert same.tolist() == [number != 3 for number in range(8)] and after.id[3] != before.id[3]


@pytest.mark.parametrize("damage", ["cut", "other shape", "other width", "empty"])
def test_a_damaged_cache_is_made_again(tmp_path, pipeline, damage):
    size, ages = pipeline.config.crop_size, {f"{number}.png": 30.0 + number for number in range(8)}
    views = Views(str(tmp_path / "cache"))
    folder = prepare(tmp_path / "a", ages, size)
    before = embed_split(pipeline, folder, "dar", views)
    (stored,) = (tmp_path / "cache").iterdir()
    if damage.startswith("other"):
        with np.load(stored) as arrays:
            cut = {name: array[..., :3] for name, array in arrays.items() if "shape" in damage or array.ndim == 3}
            parts = dict(arrays.items()) | cut
        np.savez(stored, **parts)
    else:
        stored.write_bytes(stored.read_bytes()[: 100 if damage == "cut" else 0])
    assert np.array_equal(embed_split(pipeline, folder, "dar", views).embeddings, before.embeddings)


def test_a_cache_that_cannot_be_written_costs_a_sentence(tmp_path, pipeline, monkeypatch, capsys):
    size, ages = pipeline.config.crop_size, {f"{number}.png": 30.0 + number for number in range(8)}
    folder = prepare(tmp_path / "a", ages, size)
    kept = embed_split(pipeline, folder, "dar", Views(str(tmp_path / "cache")))
    (tmp_path / "file").write_text("")
    capsys.readouterr()
    unkept = embed_split(pipeline, folder, "dar", Views(str(tmp_path / "file" / "cache")))
    assert capsys.readouterr().err == f"embeddings are not kept in {tmp_path / 'file' / 'cache'} (Not a directory).\n"

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    too_full = embed_split(pipeline, folder, "dar", Views(str(tmp_path / "full")))
    assert capsys.readouterr().err == f"embeddings are not kept in {tmp_path / 'full'} (No space left on device).\n"
    assert not list((tmp_path / "full").iterdir())
    for faces in (unkept, too_full):
        assert np.array_equal(faces.embeddings, kept.embeddings)


def test_sets_in_folders_of_one_name_are_told_apart(tmp_path, pipeline):
    size = pipeline.config.crop_size
    folders = [prepare(tmp_path / name, {"0.png": 30.0, "1.png": 31.0}, size, "001") for name in ("a", "b")]
    parts = [embed_split(pipeline, folder, "dar", Views(str(tmp_path / "cache"))) for folder in folders]
    assert sorted(set(join(parts, folders).person)) == [f"a/prepared{SET_MARK}001", f"b/prepared{SET_MARK}001"]
    assert set_names([folders[0]] * 2) == ["prepared"] * 2  # one set given twice
    assert set_names(["x/utkface", "x/fairface"]) == ["utkface", "fairface"]


def test_a_person_named_with_a_set_is_kept_from_a_bank_of_one(tmp_path, pipeline):
    folder = prepare(tmp_path / "a", {f"{i}.png": 30.0 + i for i in range(4)}, pipeline.config.crop_size, "001")
    faces = embed_split(pipeline, folder, "dar", Views(str(tmp_path / "cache")))
    bank = bank_of([(faces, False)], "x")
    asked = replace(faces, person=np.array(["a::001", "b::002", "001", ""]))
    found = bank.query(np.ones((4, bank.embeddings.shape[1])), np.full(4, 32.0), 8, 99, np.full(4, ""), asked.person)
    assert found.mask.sum(axis=1).tolist() == [0, 4, 0, 4]
    assert random_pairs(asked, bank, 8, 99).mask.sum(axis=1).tolist() == [0, 3, 0, 3]  # a face itself is no reference


def test_001_of_two_sets_are_two_people_and_still_excluded_by_their_own_name(tmp_path, pipeline):
    size = pipeline.config.crop_size
    folders = [prepare(tmp_path / name, {f"{i}.png": 30.0 + i for i in range(4)}, size, "001") for name in ("a", "b")]
    views = Views(str(tmp_path / "cache"))
    parts = [embed_split(pipeline, folder, "dar", views) for folder in folders]
    assert set(join(parts[:1], folders[:1]).person) == {"001"}
    renamed = [str(tmp_path / "first"), str(tmp_path / "second")]
    faces = join(parts, renamed)
    assert sorted(set(faces.person)) == [f"first{SET_MARK}001", f"second{SET_MARK}001"]
    bank = ReferenceBank(
        faces.embeddings[0], faces.low, faces.estimates[0], np.zeros(8, bool), faces.person, faces.id, "x"
    )
    asked = np.array([f"first{SET_MARK}001", "001", "002"])
    found = bank.query(np.ones((3, faces.embeddings.shape[2])), np.full(3, 32.0), 8, 99, np.full(3, ""), asked)
    assert found.mask.sum(axis=1).tolist() == [4, 0, 8]


def test_rounded_embeddings_are_near_and_half_as_large():
    embeddings = np.random.default_rng(0).normal(0, 1.1, (2000, 64)).astype(np.float16)
    near = rounded(embeddings)
    assert near.dtype == np.float16 and np.array_equal(near * 16, np.round(near.astype(float) * 16))
    assert np.abs(near.astype(float) - embeddings).max() <= 1 / 32
    assert len(zlib.compress(near.tobytes())) < 0.6 * len(zlib.compress(embeddings.tobytes()))
    assert np.array_equal(rounded(near), near)
