"""The search by age against a plain comparison with every reference."""

import numpy as np
import pytest

from common.difference import age_index
from common.difference import bank as bank_module
from common.difference.age_index import AgeIndex, to_int8
from common.difference.bank import EMPTY, ReferenceBank


def bank(count: int, random: np.random.Generator) -> ReferenceBank:
    ages = random.integers(20, 50, count).astype(np.float32)  # many of the same age
    return ReferenceBank(
        random.normal(size=(count, 12)).astype(np.float16), ages, ages + 1, ages < 30,
        np.array([f"p{number % 9}" if number % 3 else "" for number in range(count)]),
        np.arange(count).astype(str), "abc",
    )  # fmt: skip


def by_hand(own: ReferenceBank, look: np.ndarray, estimate: float, window: float, number: str, person: str):
    """Rows by falling similarity, and these similarities."""
    long = own.embeddings.astype(float)
    similarity = long @ look / np.linalg.norm(long, axis=1) / np.linalg.norm(look)
    rows = [
        row
        for row in np.argsort(-similarity, kind="stable")
        if abs(own.ages[row] - estimate) <= window
        and own.id[row] != number
        and (not person or own.person[row] != person)
    ]
    return rows, similarity


@pytest.mark.parametrize("large", [1, 500_000])  # from one reference on a quantised search, and an exact one
@pytest.mark.parametrize("block", [1, 7, 64, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_every_query_gets_the_nearest_of_those_allowed(monkeypatch, large, block, seed):
    monkeypatch.setattr(age_index, "BLOCK", block)
    monkeypatch.setattr(bank_module, "LARGE", large)
    random = np.random.default_rng(seed)
    own = bank(int(random.integers(1, 150)), random)
    queries, k, window = int(random.integers(1, 20)), int(random.integers(1, 12)), float(random.integers(0, 20))
    looks, estimates = random.normal(size=(queries, 12)).astype(np.float32), random.uniform(10, 60, queries)
    estimates = estimates.astype(np.float32).round()  # some windows end at an age of the bank
    numbers, persons = random.integers(0, len(own), queries).astype(str), np.array(["p1", "", "nobody", "p4"] * 5)
    found = own.query(looks, estimates, k, window, numbers, persons[:queries])
    for query in range(queries):
        rows, similarity = by_hand(own, looks[query], estimates[query], window, numbers[query], persons[query])
        said = found.index[query][found.mask[query]]
        assert len(said) == min(k, len(rows)) and (found.index[query][~found.mask[query]] == EMPTY).all()
        assert said.tolist() == rows[: len(said)]


@pytest.mark.parametrize("count", [320, 330, 4096])  # too few for chunks, no whole chunks, chunks
def test_looking_at_chunks_first_finds_the_greatest(count):
    random = np.random.default_rng(count)
    similarity = random.normal(size=(5, count))
    similarity[1, 3:] = -np.inf  # a query with three references here
    similarity[2, 64:96] += 10  # all of the greatest in one chunk
    values, places = age_index.best_of(similarity, 10)
    assert np.array_equal(np.sort(values)[:, ::-1], np.sort(similarity)[:, ::-1][:, :10])
    assert np.array_equal(np.take_along_axis(similarity, places, 1), values)
    assert all(len(set(row)) == 10 for row in places.tolist())


@pytest.mark.parametrize("seed", range(2))
def test_a_bank_of_several_blocks_with_chunks(monkeypatch, seed):
    monkeypatch.setattr(age_index, "BLOCK", 512)
    random = np.random.default_rng(seed)
    own = bank(1700, random)
    looks, estimates = random.normal(size=(9, 12)).astype(np.float32), random.uniform(20, 50, 9).astype(np.float32)
    numbers, persons = random.integers(0, len(own), 9).astype(str), np.array(["p1", "", "p4"] * 3)
    found = own.query(looks, estimates, 7, 6.0, numbers, persons)
    for query in range(9):
        rows, _ = by_hand(own, looks[query], estimates[query], 6.0, numbers[query], persons[query])
        assert found.index[query].tolist() == rows[:7]


def test_a_coarse_search_finds_the_nearest_and_says_their_exact_similarity():
    random = np.random.default_rng(0)
    embeddings, ages = random.normal(size=(5000, 64)).astype(np.float16), random.integers(0, 100, 5000).astype(float)
    looks, middle, nobody = random.normal(size=(50, 64)).astype(np.float32), np.full(50, 50.0), [np.array([], int)] * 50
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    exact, quantised = AgeIndex(embeddings, ages), AgeIndex(embeddings, ages, quantised=True)
    (values, rows), (said, found) = (index.nearest(looks, middle, 30, 20.0, nobody) for index in (exact, quantised))
    assert quantised.unit.dtype == np.int8 and (np.abs(ages[found] - 50) <= 20).all()
    recall = np.mean([len(set(one) & set(other)) / 30 for one, other in zip(rows, found, strict=True)])
    assert recall > 0.999 and np.sort(said) == pytest.approx(np.sort(values), abs=1e-5)


def test_whole_numbers_stand_for_what_they_were():
    numbers, scale = to_int8(np.array([[0.5, -1.0, 0.25], [0.0, 0.0, 0.0]]))
    assert numbers.tolist() == [[64, -127, 32], [0, 0, 0]] and scale[0].item() == pytest.approx(1 / 127)


def test_no_query_and_an_estimate_that_is_no_number():
    own = bank(20, np.random.default_rng(0))
    nobody = np.array([], dtype=str)
    assert own.query(np.empty((0, 12), np.float32), np.empty(0), 3, 5.0, nobody, nobody).index.shape == (0, 3)
    asked = np.array([np.nan, 35.0])
    found = own.query(own.embeddings[:2].astype(np.float32), asked, 3, 100.0, np.array(["", ""]), np.array(["", ""]))
    assert found.mask.sum(axis=1).tolist() == [0, 3]
