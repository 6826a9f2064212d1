import math

import pytest
import torch

from common.base.distribution import (
    expectation,
    gaussian_log_probs,
    gaussian_targets,
    interval_distance,
    interval_log_likelihood,
    kl_loss,
    mean_variance_loss,
    median,
)

AGES = torch.arange(0.0, 101.0)


def test_gaussian_targets_closed_form():
    target = gaussian_targets(torch.tensor([30.0, 0.0]), AGES, sigma=2.0)
    weights = [math.exp(-((age - 30) ** 2) / 8) for age in range(101)]
    assert torch.allclose(target[0], torch.tensor(weights) / sum(weights), atol=1e-6)
    assert torch.allclose(target.sum(dim=1), torch.ones(2))
    assert target[1].argmax() == 0
    assert target[0, 28] == pytest.approx(target[0, 32].item())


def test_kl_is_zero_at_the_target_and_closed_form_elsewhere():
    target = gaussian_targets(torch.tensor([40.0]), AGES, sigma=2.0)
    assert kl_loss(gaussian_log_probs(torch.tensor([40.0]), AGES, 2.0), target).item() == pytest.approx(0, abs=1e-6)
    uniform = torch.full((1, 101), 1 / 101).log()
    entropy = -(target * target.clamp(min=1e-38).log()).sum().item()
    assert kl_loss(uniform, target).item() == pytest.approx(math.log(101) - entropy, abs=1e-4)


def test_kl_names_both_shapes_when_they_differ():
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(2, 3\)"):
        kl_loss(torch.zeros(1, 3), torch.zeros(2, 3))


def test_interval_likelihood_is_the_sum_of_its_years():
    log_probs = torch.log_softmax(torch.randn(4, 101, generator=torch.Generator().manual_seed(0)), dim=1)
    low, high = torch.tensor([20.0, 0.0, 70.0, 33.0]), torch.tensor([29.0, 2.0, 120.0, 33.0])
    expected = [
        log_probs[i].exp()[int(a) : int(b) + 1].sum().log().item()
        for i, (a, b) in enumerate(zip(low, high, strict=True))
    ]
    assert interval_log_likelihood(log_probs, low, high, AGES).tolist() == pytest.approx(expected, abs=1e-5)


def test_interval_likelihood_of_everything_is_zero():
    log_probs = torch.log_softmax(torch.randn(2, 101), dim=1)
    all_ages = interval_log_likelihood(log_probs, torch.zeros(2), torch.full((2,), 100.0), AGES)
    assert all_ages.tolist() == pytest.approx([0, 0], abs=1e-5)


def test_read_outs():
    target = gaussian_targets(torch.tensor([30.0, 30.3]), AGES, sigma=2.0).log()
    assert expectation(target, AGES).tolist() == pytest.approx([30.0, 30.3], abs=1e-3)
    assert median(target, AGES).tolist() == pytest.approx([30.0, 30.3], abs=0.02)
    skewed = torch.tensor([[0.1, 0.7, 0.1, 0.1]]).log()
    assert median(skewed, torch.arange(4.0)).item() == pytest.approx(0.5 + 0.4 / 0.7, abs=1e-5)


def test_median_of_a_certain_age_is_that_age():
    certain = torch.full((2, 101), -1e4)
    certain[0, 0], certain[1, 100] = 0.0, 0.0
    assert median(certain, AGES).tolist() == pytest.approx([0.0, 100.0])


def test_mean_variance_terms():
    log_probs = torch.tensor([[0.5, 0.0, 0.5]]).clamp(min=1e-30).log()
    mean, variance = mean_variance_loss(log_probs, torch.tensor([2.0]), torch.arange(3.0))
    assert (mean.item(), variance.item()) == pytest.approx((0.5, 1.0))


def test_interval_distance():
    age, low, high = torch.tensor([18.0, 25.0, 31.5]), torch.full((3,), 20.0), torch.full((3,), 29.0)
    assert interval_distance(age, low, high).tolist() == [2.0, 0.0, 2.5]
    assert interval_distance(torch.tensor([18.0]), torch.tensor([20.0]), torch.tensor([20.0])).item() == 2.0
