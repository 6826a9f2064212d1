from dataclasses import replace

import pytest
import torch

from common.difference.heads import (
    AGGREGATIONS,
    HeadConfig,
    PooledDifferenceHead,
    Query,
    References,
    anchor_age,
    median_age,
)


def head(aggregation: str, ordinal: str = "condor") -> PooledDifferenceHead:
    """A head whose every weight matters (a fresh one says no more than base and references do)."""
    torch.manual_seed(1)
    made = PooledDifferenceHead(HeadConfig(16, 12, aggregation, 6, 5, ordinal))
    torch.nn.init.normal_(made.out[-1].weight, std=0.3)
    return made.eval()


def faces(batch: int = 4, count: int = 6) -> tuple[Query, References]:
    torch.manual_seed(0)
    query = Query(torch.randn(batch, 16), 30 + 5 * torch.randn(batch))
    age = query.estimate[:, None] + 3 * torch.randn(batch, count)
    references = References(
        torch.randn(batch, count, 16), age, age + torch.randn(batch, count), torch.rand(batch, count) > 0.5,
        torch.ones(batch, count, dtype=torch.bool),
    )  # fmt: skip
    return query, references


@pytest.mark.parametrize("ordinal", ["condor", "coral"])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_shapes_sums_and_two_identical_runs(aggregation, ordinal):
    model, (query, references) = head(aggregation, ordinal), faces()
    output = model(query, references)
    assert output.levels.shape == (4, 10) and output.difference.shape == output.age.shape == (4,)
    assert torch.allclose(output.weight.sum(dim=1), torch.ones(4))
    again = model(query, references)
    assert all(torch.equal(first, second) for first, second in zip(output, again, strict=True))
    anchor = anchor_age(query, references, output.weight, 5)
    assert torch.allclose(output.age, anchor + output.difference)


@pytest.mark.parametrize("aggregation", ["max", "avg", "attention"])
def test_the_order_of_references_does_not_matter(aggregation):
    model, (query, references) = head(aggregation), faces()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    shuffled = References(*(tensor[:, order] for tensor in references))
    assert torch.allclose(model(query, references).age, model(query, shuffled).age, atol=1e-4)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_masked_references_have_no_influence_at_all(aggregation):
    model, (query, references) = head(aggregation), faces()
    mask = torch.tensor([True, True, False, True, False, False]).expand(4, 6)
    first = model(query, references._replace(mask=mask)).age
    hidden = ~mask
    spoiled = References(
        references.embedding.masked_fill(hidden[:, :, None], torch.nan),
        references.age.masked_fill(hidden, torch.nan),
        references.estimate.masked_fill(hidden, torch.inf),
        references.seen ^ hidden,
        mask,
    )
    assert torch.equal(first, model(query, spoiled).age)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_without_references_the_anchor_is_the_estimate(aggregation):
    model, (query, references) = head(aggregation), faces()
    output = model(query, references._replace(mask=torch.zeros(4, 6, dtype=torch.bool)))
    assert torch.allclose(output.age - output.difference, query.estimate)
    assert torch.isfinite(output.age).all() and (output.weight == 0).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_fresh_head_says_what_base_and_median_reference_say(share):
    query, references = faces()
    fresh = PooledDifferenceHead(HeadConfig(16, 12, "avg", 6, 15, median_share=share)).eval()
    expected = (1 - share) * query.estimate + share * median_age(query, references)
    assert (query.estimate - median_age(query, references)).abs().max() > 1
    assert torch.allclose(fresh(query, references).age, expected, atol=0.3)


def test_shrinkage_scales_what_is_learnt_and_only_outside_of_training():
    query, references = faces()
    whole = head("avg")
    half, none = (PooledDifferenceHead(replace(whole.config, shrinkage=part, dropout=0.0)) for part in (0.5, 0.0))
    for model in (half, none):
        model.load_state_dict(whole.state_dict())
    full, start = whole(query, references).levels, none.eval()(query, references).levels
    assert (full - start).abs().max() > 0.1
    assert torch.allclose(half.eval()(query, references).levels, (full + start) / 2, atol=1e-5)
    assert torch.allclose(half.train()(query, references).levels, full, atol=1e-5)
    with pytest.raises(ValueError, match="shrinkage must be in"):
        HeadConfig(shrinkage=1.5)


def test_the_median_age_is_that_of_the_references_there_are():
    query, references = faces(batch=3, count=4)
    age = torch.tensor([[30.0, 40.0, 20.0, 90.0], [10.0, torch.nan, 14.0, 11.0], [1.0, 2.0, 3.0, 4.0]])
    mask = torch.tensor([[True, True, True, True], [True, False, True, True], [False] * 4])
    found = median_age(query, references._replace(age=age, mask=mask))
    assert found.tolist() == pytest.approx([35, 11, query.estimate[2].item()])
    none = References(*(tensor[:, :0] for tensor in references))
    assert torch.equal(median_age(query, none), query.estimate)


def test_the_residual_of_a_seen_reference_is_not_read():
    model, (query, references) = head("avg"), faces()
    scalars = model.relations(query, references._replace(seen=torch.ones(4, 6, dtype=torch.bool)))
    assert (scalars[:, :, 2] == 0).all() and (scalars[:, :, 3] == 1).all()


def test_far_references_do_not_move_the_anchor():
    query = Query(torch.zeros(1, 16), torch.tensor([30.0]))
    references = References(
        torch.zeros(1, 3, 16), torch.tensor([[28.0, 34.0, 60.0]]), torch.zeros(1, 3),
        torch.zeros(1, 3, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool),
    )  # fmt: skip
    assert anchor_age(query, references, torch.tensor([[0.25, 0.25, 0.5]]), 5).item() == pytest.approx(31.0)


def test_fc_takes_fewer_references_but_not_more():
    model, (query, references) = head("fc"), faces()
    few = References(*(tensor[:, :2] for tensor in references))
    padded = references._replace(mask=torch.tensor([True, True, False, False, False, False]).expand(4, 6))
    assert torch.allclose(model(query, few).age, model(query, padded).age, atol=1e-5)
    many = References(*(torch.cat([tensor, tensor], dim=1) for tensor in references))
    with pytest.raises(ValueError, match="6 references, not 12"):
        model(query, many)
