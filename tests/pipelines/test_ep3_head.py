"""Ep3Pipeline's head, errors, references, loss and iteration by number."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from common.difference.bank import EMPTY, Found, ReferenceBank
from common.difference.corrector import Correction, Corrector, Faces
from common.difference.embedded import EmbeddedFaces, bank_of
from common.difference.heads import Query, References
from common.pipeline import AgePredictBasicPipeline
from Ep3Pipeline.Ep3Pipeline__config import Ep3PipelineConfig
from Ep3Pipeline.Ep3Pipeline__controls import BlindHead
from Ep3Pipeline.Ep3Pipeline__dataset import Data, ErrorSampler, base_errors, cached_batch, draw_some, fit_errors
from Ep3Pipeline.Ep3Pipeline__model import (
    SETTLED,
    AgeTable,
    IteratedCorrector,
    PairDifferenceHead,
    build_model,
    compute_loss,
)
from Ep3Pipeline.Ep3Pipeline__train import finish_epoch, make_run, predict, train_epoch

SMALL = {"embedding_size": 16, "hidden_size": 24, "age_size": 8, "references": 5}


def stirred_head(kind: type[PairDifferenceHead] = PairDifferenceHead, **settings) -> PairDifferenceHead:
    """A head in evaluation mode whose every parameter is random, so that nothing is zero by its start."""
    head = build_model(Ep3PipelineConfig(**SMALL | settings), kind).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name != "sharpness":
                parameter.add_(0.2 * torch.randn_like(parameter))
    return head


def drawn_pairs(batch: int, count: int) -> tuple[Query, References]:
    random = torch.Generator().manual_seed(5)
    query = Query(torch.randn(batch, 16, generator=random), 20 + 40 * torch.rand(batch, generator=random))
    age = query.estimate[:, None] + 8 * torch.rand(batch, count, generator=random) - 4
    embedding = torch.randn(batch, count, 16, generator=random)
    everything = torch.ones(batch, count, dtype=torch.bool)
    return query, References(embedding, age, age + 1, ~everything, everything)


# --- head -------------------------------------------------------------------------------------------------------------


def test_a_blind_head_knows_the_ages_of_its_references_and_not_their_looks():
    query, references = drawn_pairs(6, 5)
    others = references._replace(embedding=references.embedding.flip(0) + 1)
    older = references._replace(age=references.age + 1)
    blind, seeing = stirred_head(BlindHead), stirred_head()
    assert torch.equal(blind(query, references).age, blind(query, others).age)
    assert (blind(query, references).age - blind(query, older).age).abs().min() > 1e-4
    assert (seeing(query, references).age - seeing(query, others).age).abs().min() > 1e-4


def test_the_antisymmetric_difference_changes_its_sign_when_query_and_reference_change_places():
    head = stirred_head(directions="antisymmetric")
    query, references = drawn_pairs(8, 1)
    swapped = (
        Query(references.embedding[:, 0], references.age[:, 0]),
        references._replace(embedding=query.embedding[:, None], age=query.estimate[:, None]),
    )
    there, back = head(query, references), head(*swapped)
    assert torch.allclose(there.difference, -back.difference, rtol=0, atol=1e-5)
    assert torch.equal(there.forward_age, there.reverse_age)
    assert (there.difference - (query.estimate[:, None] - references.age)).abs().max() > 0.1
    plain = stirred_head(directions="both")(query, references)
    assert torch.allclose(plain.difference, there.difference, rtol=0, atol=1e-5)
    assert (plain.forward_age - plain.reverse_age).abs().max() > 0.05


def test_shrinkage_scales_what_is_learnt_and_only_outside_of_training():
    query, references = drawn_pairs(4, 3)
    whole, half, none = (stirred_head(shrinkage=part, directions="forward", dropout=0.0) for part in (1.0, 0.5, 0.0))
    assert torch.allclose(none(query, references).age, query.estimate, atol=1e-4)
    moved, by_half = (head(query, references).age - query.estimate for head in (whole, half))
    assert (by_half.abs() < moved.abs()).all()
    assert torch.allclose(half.train()(query, references).age - query.estimate, moved, atol=1e-5)
    with pytest.raises(ValueError, match="shrinkage must be in"):
        Ep3PipelineConfig(shrinkage=-0.1)


def test_one_direction_alone_is_what_its_name_says():
    query, references = drawn_pairs(4, 3)
    forward, both = (stirred_head(directions=name)(query, references) for name in ("forward", "both"))
    assert forward.reverse is None and torch.equal(forward.forward_age, forward.age)
    assert torch.allclose(forward.difference, both.forward.difference, atol=1e-5)


@pytest.mark.parametrize("directions", ["both", "antisymmetric", "forward"])
def test_an_untrained_head_says_the_estimate_and_so_does_one_without_references(directions):
    query, references = drawn_pairs(6, 5)
    far = references._replace(age=references.age + 35)
    fresh = build_model(Ep3PipelineConfig(**SMALL, directions=directions)).eval()
    for given in (references, far):
        assert torch.allclose(fresh(query, given).age, query.estimate, atol=1e-4)
    nobody = References(*(tensor[:, :0] for tensor in references))
    hidden = references._replace(mask=torch.zeros_like(references.mask))
    for given in (nobody, hidden):
        output = stirred_head(directions=directions)(query, given)
        assert torch.equal(output.age, query.estimate) and output.weight.sum() == 0


@pytest.mark.parametrize("weighting", ["head", "uniform"])
def test_masked_references_have_no_influence_not_even_nan(weighting):
    head, (query, references) = stirred_head(weighting=weighting), drawn_pairs(4, 5)
    mask = torch.tensor([[True, True, False, True, False]] * 4)
    results = []
    for wrong in (0.0, 77.0, float("nan")):
        spoilt = [torch.where(mask[..., None], references.embedding, wrong)]
        spoilt += [torch.where(mask, values, wrong) for values in (references.age, references.estimate)]
        results.append(head(query, References(*spoilt, references.seen, mask)))
    for output in results[1:]:
        for name in ("age", "weight", "difference", "levels", "forward_age", "reverse_age"):
            assert torch.equal(getattr(output, name), getattr(results[0], name)), name
    assert torch.isfinite(results[2].age).all()
    assert (results[0].weight[~mask] == 0).all()
    assert torch.allclose(results[0].weight.sum(dim=1), torch.ones(4))


def test_masked_references_teach_nothing_not_even_nan():
    config = Ep3PipelineConfig(**SMALL)
    head, (query, references) = stirred_head(), drawn_pairs(4, 5)
    mask = torch.tensor([[True, True, False, True, False]] * 4)
    label = query.estimate.round()
    gradients = []
    for wrong in (1.0, float("nan")):
        spoilt = references._replace(age=torch.where(mask, references.age, wrong), mask=mask)
        head.zero_grad()
        compute_loss(head(query, spoilt), spoilt, label, label, config).total.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in head.parameters()]))
    assert torch.isfinite(gradients[1]).all() and torch.equal(*gradients)


def test_the_order_of_references_does_not_matter():
    head, (query, references) = stirred_head(), drawn_pairs(4, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    first, second = head(query, references), head(query, References(*(tensor[:, order] for tensor in references)))
    assert torch.allclose(first.age, second.age, rtol=0, atol=1e-4)
    assert torch.allclose(first.weight[:, order], second.weight, atol=1e-5)


def test_the_age_table_covers_both_ends():
    table = AgeTable(0, 100, 8)
    assert table.rows.shape == (101, 8)
    read = table(torch.tensor([0.0, 100.0, 99.0, 99.25, -7.0, 130.0]))
    rows = table.rows
    expected = torch.stack([rows[0], rows[100], rows[99], 0.75 * rows[99] + 0.25 * rows[100], rows[0], rows[100]])
    assert torch.allclose(read, expected, atol=1e-6)
    assert all((rows[row] - rows[row + 1]).abs().max() > 0.01 for row in (0, 99))


# --- errors, references, loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kde", "gaussian", "uniform"])
def test_drawn_errors_have_the_moments_of_the_errors(kind):
    errors = np.random.default_rng(0).gamma(2.0, 2.0, 3000) - 3.0
    sampler = ErrorSampler(errors, kind, 20.0)
    drawn = sampler.draw(200_000, np.random.default_rng(1))
    widened = np.hypot(1, (4 / (3 * len(errors))) ** 0.2) if kind == "kde" else 1.0
    assert drawn.mean() == pytest.approx(errors.mean(), abs=0.03)
    assert drawn.std() == pytest.approx(widened * errors.std(), rel=0.015)
    if kind == "kde":
        assert np.percentile(drawn, [10, 50, 90]) == pytest.approx(np.percentile(errors, [10, 50, 90]), abs=0.35)
    assert np.array_equal(sampler.draw(9, np.random.default_rng(2)), sampler.draw(9, np.random.default_rng(2)))


@pytest.mark.parametrize("kind", ["kde", "gaussian", "uniform"])
def test_drawn_errors_are_saturated(kind):
    drawn = ErrorSampler(np.array([-60.0, 55.0, 3.0, -30.0, 41.0]), kind, 20.0).draw(1000, np.random.default_rng(0))
    assert drawn.min() == -20 and drawn.max() == 20


def aged_faces(count: int, seed: int) -> EmbeddedFaces:
    """Faces whose embedding tells the age to 1.5 years, and whose estimate is off by 6."""
    random = np.random.default_rng(seed)
    age = random.uniform(15, 75, count).round().astype(np.float32)
    directions = np.random.default_rng(99).normal(size=(2, 16))
    phase = (age + random.normal(0, 1.5, count))[:, None] / 40
    embedding = np.sin(phase) * directions[:1] + np.cos(phase) * directions[1:] + 0.01 * random.normal(size=(count, 16))
    names = np.array([f"{seed}-{number}" for number in range(count)])
    estimate = (age + random.normal(0, 6, count)).astype(np.float32)
    return EmbeddedFaces(
        embedding[None].astype(np.float16), estimate[None], age, age,
        np.full(count, ""), names, np.arange(count), np.zeros(count, int),
    )  # fmt: skip


def looked_at(queries: EmbeddedFaces, validation: EmbeddedFaces, bank: ReferenceBank, config) -> Data:
    return Data(queries, validation, bank, queries, [], fit_errors(base_errors(queries), config))


def test_training_estimates_are_wrong_only_where_the_age_is_exact():
    faces = aged_faces(400, 1)
    high = faces.high.copy()
    high[:200] += 9
    faces = replace(faces, high=high)
    bank = bank_of([(aged_faces(300, 2), False)], "abc")
    config = Ep3PipelineConfig(**SMALL)
    numbers = np.arange(400)

    def batch_with(**settings):
        changed = replace(config, **settings)
        return cached_batch(looked_at(faces, faces, bank, changed), numbers, changed, np.random.default_rng(0))

    batch = batch_with()
    error = (batch.low - batch.query.estimate).numpy()
    assert np.array_equal(batch.query.estimate[:200].numpy(), faces.estimates[0, :200])
    assert error[200:].std() == pytest.approx((faces.low - faces.estimates[0])[200:].std(), rel=0.2)
    distance = (batch.references.age - batch.query.estimate[:, None]).abs()[batch.references.mask]
    assert distance.max() <= config.reference_window
    own = batch_with(estimate_errors="none").query
    assert np.array_equal(own.estimate.numpy(), faces.estimates[0])
    asked = (own.embedding.numpy(), faces.estimates[0], 5, config.reference_window, faces.id, faces.person)
    nearest = bank.query(*asked)
    for pool, same in ((1, True), (3, False)):
        again = batch_with(estimate_errors="none", pool=pool).references.age
        assert np.array_equal(again, bank.take(nearest).age) == same


def test_references_are_drawn_from_the_nearest_without_repetition():
    index = np.arange(15)[None].repeat(2000, 0)
    mask = np.ones_like(index, bool)
    mask[0, 3:] = False
    some = draw_some(Found(np.where(mask, index, EMPTY), mask), 5, np.random.default_rng(0))
    assert some.index[0].tolist() == [0, 1, 2, EMPTY, EMPTY] and some.mask[0].tolist() == [True] * 3 + [False] * 2
    assert (np.diff(some.index[1:], axis=1) > 0).all()
    share = np.bincount(some.index[1:].ravel(), minlength=15) / 1999
    assert share == pytest.approx(np.full(15, 1 / 3), abs=0.05)


def test_the_loss_by_hand():
    query, references = drawn_pairs(3, 2)
    config = Ep3PipelineConfig(**SMALL, class_weight=2.0)
    output = build_model(config).eval()(query, references)
    low = query.estimate + torch.tensor([3.0, -1.0, 4.0])
    high = low + torch.tensor([0.0, 5.0, 0.0])
    loss = compute_loss(output, references, low, high, config)
    assert loss.distance.tolist() == pytest.approx([3, 0, 4], abs=1e-4)
    assert loss.terms["age"].item() == pytest.approx((9 + 0 + 16) / 3, rel=1e-4)
    assert loss.terms["difference"].item() == pytest.approx((9 + 16) / 2, rel=1e-4)  # intervals have no difference
    weights = {"age": 1, "difference": 1, "condor": 1, "class": 2, "mean": 0.2, "variance": 0.05}
    assert loss.total.item() == pytest.approx(sum(w * loss.terms[name].item() for name, w in weights.items()), rel=1e-5)
    alone = compute_loss(output, references, low - 1, high + 1, config)
    assert [alone.terms[name].item() for name in ("difference", "condor", "class")] == [0, 0, 0]


def test_training_takes_the_age_from_faces_beside_references(tiny_run, tmp_path):
    config = Ep3PipelineConfig(
        **SMALL | {"hidden_size": 64}, views=0, batch_size=64, epochs=12, learning_rate=3e-3, device="cpu", dropout=0.1
    )
    pipeline = AgePredictBasicPipeline.from_weights(tiny_run / "weights", "cpu")
    queries, validation, bank = aged_faces(800, 1), aged_faces(300, 2), bank_of([(aged_faces(800, 3), False)], "abc")
    run = make_run(config, tmp_path, tiny_run / "weights", pipeline, looked_at(queries, validation, bank, config))
    for _ in range(config.epochs):
        finish_epoch(run, train_epoch(run))
    base, full = (
        np.abs(ages - validation.low).mean() for ages in (validation.estimates[0], predict(run, validation, 1))
    )
    assert base > 4.3 and full < 0.6 * base
    history = pd.read_csv(tmp_path / "history.csv")[["train_age", "train_difference", "train_condor", "train_class"]]
    assert (history.iloc[-1] < history.iloc[0]).all()


# --- iteration --------------------------------------------------------------------------------------------------------


def halving_corrector(monkeypatch, iterations: int) -> tuple[IteratedCorrector, list[np.ndarray]]:
    """A corrector that always goes half of the way to age 40, and the ages of every call."""
    seen: list[np.ndarray] = []

    def halfway(self, faces, at_age=None, votes=True):
        count = len(faces.estimate)
        vote = np.full((count, 1), 40.0 if votes else np.nan)
        index, mask = np.zeros((count, 1), int), np.ones((count, 1), bool)
        seen.append((faces.estimate + 40) / 2)
        return Correction(seen[-1], index, mask, np.ones((count, 1)), vote)

    monkeypatch.setattr(Corrector, "correct", halfway)
    return IteratedCorrector(None, None, None, 1, 1.0, iterations), seen


def test_iteration_feeds_ages_back_and_stops(monkeypatch):
    start = np.array([40 - 1.6, 40 + 1.6])
    faces = Faces(np.zeros((2, 4)), start, np.array(["a", "b"]), np.array(["", ""]))
    corrector, seen = halving_corrector(monkeypatch, 3)
    assert corrector.correct(faces).age == pytest.approx([39.8, 40.2])
    assert [len(seen), *(float(np.abs(ages - 40).max()) for ages in seen)] == pytest.approx([3, 0.8, 0.4, 0.2])
    corrector, seen = halving_corrector(monkeypatch, 50)
    result = corrector.correct(faces)
    assert len(seen) == 7 and np.abs(seen[-2] - seen[-1]).max() < SETTLED <= np.abs(seen[-3] - seen[-4]).max()
    assert np.isfinite(result.vote).all() and np.isnan(corrector.correct(faces, votes=False).vote).all()


def test_iteration_of_a_face_does_not_depend_on_the_others(monkeypatch):
    corrector, _ = halving_corrector(monkeypatch, 10)
    near, far = 40.04, 80.0
    both, alone = (
        corrector.correct(Faces(np.zeros((len(start), 4)), np.array(start), np.array(["a"]), np.array([""])))
        for start in ([near, far], [near])
    )
    assert both.age[0] == alone.age[0] == pytest.approx(40.02)
