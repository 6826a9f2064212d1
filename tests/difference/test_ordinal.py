import pytest
import torch

from common.difference.ordinal import (
    condor_loss,
    coral_loss,
    difference_levels,
    hard_difference,
    level_probabilities,
    logistic_logits,
    soft_difference,
)


def test_levels_at_both_ends_and_between():
    levels = difference_levels(torch.tensor([-3.0, -2.0, 2.0, 3.0, 40.0, -40.0]), radius=3)
    expected = [[0] * 6, [1, 0, 0, 0, 0, 0], [1] * 5 + [0], [1] * 6, [1] * 6, [0] * 6]
    assert torch.equal(levels, torch.tensor(expected).float())


@pytest.mark.parametrize("radius", [1, 4, 20])
def test_decoding_returns_every_difference(radius):
    whole = torch.arange(-radius, radius + 1).float()
    levels = difference_levels(whole, radius)
    assert torch.equal(soft_difference(levels), whole) and torch.equal(hard_difference(levels), whole)
    parts = torch.linspace(-radius, radius, 33)
    assert torch.allclose(soft_difference(difference_levels(parts, radius)), parts, atol=1e-5)


def test_coral_is_the_sum_of_binary_cross_entropies():
    logits, levels = torch.randn(5, 6), (torch.rand(5, 6) > 0.5).float()
    p = torch.sigmoid(logits)
    by_hand = -(levels * p.log() + (1 - levels) * (1 - p).log()).sum(dim=1)
    assert torch.allclose(coral_loss(logits, levels), by_hand, atol=1e-5)


def test_condor_is_minus_the_log_likelihood_of_the_rank():
    logits = torch.randn(7, 6)
    above = level_probabilities(logits, "condor")  # P(rank > k)
    padded = torch.cat([torch.ones(7, 1), above, torch.zeros(7, 1)], dim=1)
    of_rank = padded[:, :-1] - padded[:, 1:]  # [7, 7] P(rank = k)
    differences = torch.arange(-3.0, 4.0)
    loss = condor_loss(logits, difference_levels(differences, 3))
    assert torch.allclose(loss, -of_rank.diagonal().log(), atol=1e-4)


def test_condor_learns_no_level_that_is_not_reached():
    logits = torch.zeros(1, 6, requires_grad=True)
    condor_loss(logits, difference_levels(torch.tensor([-2.0]), 3)).sum().backward()
    assert torch.equal(logits.grad != 0, torch.tensor([[True, True, False, False, False, False]]))


def test_condor_probabilities_never_rise():
    assert (level_probabilities(torch.randn(50, 20), "condor").diff(dim=1) <= 0).all()


@pytest.mark.parametrize("ordinal", ["condor", "coral"])
def test_the_logistic_start_says_its_centre(ordinal):
    center = torch.tensor([-6.0, 0.0, 0.3, 7.5])
    sharpness = torch.tensor(0.7)
    logits = logistic_logits(center, sharpness, 20, ordinal)
    step = torch.arange(40) - 20 + 0.5
    expected = torch.sigmoid(sharpness * (center[:, None] - step))
    assert torch.allclose(level_probabilities(logits, ordinal), expected, atol=1e-4)
    assert torch.allclose(soft_difference(expected), center, atol=0.01)


def test_wrong_shapes_and_names_are_said():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        condor_loss(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="radius"):
        difference_levels(torch.zeros(1), 0)
    with pytest.raises(ValueError, match="condor, coral"):
        level_probabilities(torch.zeros(1, 2), "probit")
