"""References of every age: so many of each 5-year bin, the most similar ones, counted by hand."""

import json

import numpy as np
import pytest

from common.difference.corrector import Faces, load_corrector
from common.difference.embedded import EmbeddedFaces
from common.difference.spanning import BINS, query_spanning
from common.errors import WeightsError
from DiffPipeline6.DiffPipeline6__config import PRESETS, DiffPipeline6Config
from DiffPipeline6.DiffPipeline6__dataset import find_references
from DiffPipeline6.DiffPipeline6__main import main as train
from DiffPipeline6.DiffPipeline6__model import load_model
from tests.difference.test_bank import bank as make_bank

NOBODY = np.array([""])


def spread_bank():
    """400 references of whole ages 5 to 84, in four of which the query's person is shown."""
    from dataclasses import replace

    own = make_bank(400)
    ages = np.tile(np.arange(5, 85), 5).astype(np.float32)
    person = np.where(np.arange(400) < 4, "anna", "")
    return replace(own, ages=ages, person=person, id=np.array([f"id{row}" for row in range(400)]))


def test_every_bin_gives_its_most_similar_ones():
    own, query = spread_bank(), np.random.default_rng(1).normal(size=(1, 8)).astype(np.float32)
    found = query_spanning(own, query, np.array([40.3]), 3, NOBODY, NOBODY)
    assert found.index.shape == (1, 24) and found.mask.all() and len(set(found.index[0])) == 24
    similarity = own.unit @ query[0]
    for low in np.arange(20.3, 60, 5):
        inside = np.flatnonzero((own.ages > low) & (own.ages < low + 5))
        assert set(inside[np.argsort(-similarity[inside])][:3]) <= set(found.index[0])
    assert (np.diff(similarity[found.index[0]]) <= 0).all()  # the most similar first


def test_one_on_an_edge_counts_once_and_the_person_and_the_image_never():
    own = spread_bank()
    found = query_spanning(own, own.embeddings[:1].astype(np.float32), np.array([25.0]), 40, own.id[:1], own.person[:1])
    taken = found.index[0][found.mask[0]]
    assert len(set(taken)) == len(taken) and not {0, 1, 2, 3} & set(taken)
    assert set(taken) == set(np.flatnonzero((own.ages <= 45) & (np.arange(400) >= 4)))


def test_training_and_inference_look_for_the_same():
    own, random = spread_bank(), np.random.default_rng(2)
    embeddings, estimates = random.normal(size=(1, 6, 8)).astype(np.float16), random.uniform(10, 70, (1, 6))
    none, ages = np.full(6, ""), np.full(6, 30.0)
    faces = EmbeddedFaces(embeddings, estimates, ages, ages, none, none, np.arange(6), np.zeros(6, int))
    found = find_references(faces, own, DiffPipeline6Config(per_bin=2, references=2 * BINS))
    again = query_spanning(own, embeddings[0].astype(np.float32), estimates[0], 2, none, none)
    assert np.array_equal(found.index, again.index) and np.array_equal(found.mask, again.mask)


def test_the_number_of_references_is_that_of_the_bins():
    assert DiffPipeline6Config(**PRESETS["released"]).references == BINS * PRESETS["released"]["per_bin"]
    with pytest.raises(ValueError, match="references 8 times it, not 30"):
        DiffPipeline6Config(per_bin=4)


def test_weights_remember_it(diff_words, tmp_path):
    words = [*diff_words, "--runs", str(tmp_path), "--per-bin", "1", "--references", "8", "--epochs", "1"]
    assert train(words) == 0
    (run,) = (tmp_path / "DiffPipeline6").iterdir()
    for corrector in (load_model(run / "weights", "cpu"), load_corrector(run / "weights", "cpu")):
        own, bank = corrector, corrector.bank
        faces = Faces(bank.embeddings[:3].astype(np.float32), bank.estimates[:3], bank.id[:3], bank.person[:3])
        found = own.find(faces)
        assert own.per_bin == 1 and found.index.shape == (3, 8)
        apart = np.sort((bank.ages[found.index] - bank.estimates[:3, None])[0][found.mask[0]])
        assert np.abs(apart).max() <= 20 and len(set(np.floor(apart / 5))) >= found.mask[0].sum() - 1
    settings = json.loads((run / "weights" / "config.json").read_text())
    settings["training"]["per_bin"] = "many"
    (run / "weights" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match="does not hold a difference regressor"):
        load_model(run / "weights", "cpu")
