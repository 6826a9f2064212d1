"""What must hold for every input: ordinal levels, distributions over ages, the search in a bank."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.base.distribution import expectation, gaussian_targets, interval_log_likelihood, median
from common.difference.age_index import AgeIndex
from common.difference.ordinal import difference_levels, hard_difference, level_probabilities, soft_difference

AGES = torch.arange(0.0, 101.0)
few = settings(max_examples=60, deadline=None)
finite = st.floats(-200, 200, width=32)
logits = st.lists(st.floats(-30, 30, width=32), min_size=101, max_size=101)


@few
@given(st.integers(1, 40), finite)
def test_levels_say_the_difference_cut_at_the_radius(radius, difference):
    levels = difference_levels(torch.tensor([difference]), radius)
    cut = min(max(difference, -radius), radius)
    assert levels.shape == (1, 2 * radius)
    assert (levels.diff(dim=1) <= 0).all()
    assert abs(soft_difference(levels).item() - cut) < 1e-4
    assert abs(hard_difference(levels).item() - cut) <= 0.5 + 1e-4


@few
@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=40))
def test_condor_never_contradicts_itself(scores):
    passed = level_probabilities(torch.tensor([scores]), "condor")
    assert (passed.diff(dim=1) <= 0).all() and (passed >= 0).all() and (passed <= 1).all()


@few
@given(logits, st.floats(0, 100, width=32), st.floats(0, 100, width=32), st.floats(0, 10, width=32))
def test_a_wider_interval_is_never_less_likely(scores, one, other, more):
    log_probs = torch.tensor([scores]).log_softmax(1)
    low, high = torch.tensor([min(one, other)]), torch.tensor([max(one, other)])
    narrow = interval_log_likelihood(log_probs, low, high, AGES)
    wide = interval_log_likelihood(log_probs, low - more, high + more, AGES)
    assert narrow <= 1e-4 and wide >= narrow - 1e-4
    assert abs(interval_log_likelihood(log_probs, AGES[:1] - 1, AGES[-1:] + 1, AGES).item()) < 1e-4


@few
@given(logits, st.floats(5, 95, width=32), st.floats(0.5, 5, width=32))
def test_read_outs_stay_within_the_ages(scores, age, sigma):
    log_probs = torch.tensor([scores]).log_softmax(1)
    for read in (expectation, median):
        assert -1e-3 <= read(log_probs, AGES).item() <= 100.001
    target = gaussian_targets(torch.tensor([age]), AGES, sigma)
    assert abs(target.sum().item() - 1) < 1e-4
    if 4 * sigma < age < 100 - 4 * sigma:
        assert abs(expectation(target.log(), AGES).item() - age) < 0.05


@few
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 12), st.floats(0, 60))
def test_the_search_finds_what_looking_at_every_reference_finds(seed, count, k, window):
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(count, 8)).astype(np.float16)
    ages, estimate = random.integers(0, 90, count).astype(np.float32), random.uniform(0, 90, 3)
    queries = random.normal(size=(3, 8)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    excluded = [random.choice(count, random.integers(0, count + 1), replace=False) for _ in range(3)]
    similarity, rows = AgeIndex(embeddings, ages).nearest(queries, estimate, k, window, excluded)
    unit = embeddings.astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for query in range(3):
        allowed = np.abs(ages - estimate[query]) <= window
        allowed[excluded[query]] = False
        expected = np.sort((unit @ queries[query])[allowed])[::-1][:k]
        found = np.isfinite(similarity[query])
        assert found.sum() == len(expected)
        assert np.allclose(similarity[query][found], expected, atol=1e-5)
        assert allowed[rows[query][found]].all() and len(set(rows[query][found])) == found.sum()
