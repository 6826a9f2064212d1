"""Stage 2 by numbers: the base's own warm-up from the epoch it is unfrozen, and one limit for all gradients."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from common.training.differences import make_optimizer, trained_by
from common.training.loop import LARGEST_NORM, Descent

HOW = {"learning_rate": 1e-3, "backbone_learning_rate": 1e-4, "weight_decay": 0.0, "warm_up": 0.2, "epochs": 10}


def config(unfreeze_epoch: int) -> SimpleNamespace:
    return SimpleNamespace(**HOW, batch_size=4, unfreeze_epoch=unfreeze_epoch)


def rates(optimizer, schedule, steps: int) -> list[list[float]]:
    """The rates of every group at each step."""
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if schedule.last_epoch < schedule.total_steps - 1:
            schedule.step()
    return found


def test_the_base_waits_and_then_warms_up_by_itself():
    head, base = nn.Linear(3, 1), nn.Linear(2, 3)
    found = rates(*make_optimizer(config(5), head, base, 40), steps=100)  # 10 steps an epoch
    late = [rate for _, rate in found]
    assert late[:50] == [0.0] * 50
    assert late[50] == pytest.approx(1e-4 / 25)  # the first step of Adam on the base is a small one
    assert max(range(100), key=late.__getitem__) == 59 and late[59] == pytest.approx(1e-4)  # a fifth of the 50 left
    assert late[54] == pytest.approx(4e-6 + (1e-4 - 4e-6) / 2 * (1 - torch.cos(torch.tensor(torch.pi * 4 / 9)).item()))
    assert all(a < b for a, b in zip(late[50:59], late[51:60], strict=True))
    assert all(a > b for a, b in zip(late[59:99], late[60:], strict=True)) and late[99] < 1e-8
    alone = AdamW(nn.Linear(3, 1).parameters(), lr=1e-3)
    usual = rates(alone, OneCycleLR(alone, 1e-3, total_steps=100, pct_start=0.2), steps=100)
    assert [rate for rate, _ in found] == pytest.approx([rate for (rate,) in usual])


def test_a_base_that_is_never_unfrozen_has_no_group_and_from_the_start_the_usual_cycle():
    head, base = nn.Linear(3, 1), nn.Linear(2, 3)
    optimizer, _ = make_optimizer(config(-1), head, base, 40)
    assert len(optimizer.param_groups) == 1
    first = rates(*make_optimizer(config(0), head, base, 40), steps=100)
    assert [late for _, late in first] == pytest.approx([rate / 10 for rate, _ in first])


def test_it_is_taken_up_where_it_stopped():
    parts = [make_optimizer(config(5), nn.Linear(3, 1), nn.Linear(2, 3), 40) for _ in range(2)]
    whole = rates(*parts[0], steps=70)
    optimizer, schedule = make_optimizer(config(5), nn.Linear(3, 1), nn.Linear(2, 3), 40)
    rates(optimizer, schedule, steps=55)
    parts[1][0].load_state_dict(optimizer.state_dict())
    parts[1][1].load_state_dict(schedule.state_dict())
    assert rates(*parts[1], steps=15) == whole[55:]


@pytest.mark.parametrize("unfreeze_epoch", [0, -1])
def test_the_gradients_of_all_that_is_trained_are_clipped_together(unfreeze_epoch):
    torch.manual_seed(0)
    head, base, how = nn.Linear(3, 1), nn.Linear(2, 3), config(unfreeze_epoch)
    trained = trained_by(how, head, base)
    descent = Descent(Accelerator(mixed_precision="no", cpu=True), trained, *make_optimizer(how, head, base, 40))
    parameters = [*head.parameters(), *(base.parameters() if unfreeze_epoch >= 0 else [])]
    seen = base(torch.ones(4, 2)) if unfreeze_epoch >= 0 else torch.ones(4, 3)
    loss = 1000 * head(seen).sum()
    expected = torch.autograd.grad(loss, parameters, retain_graph=True)
    norm = torch.cat([part.flatten() for part in expected]).norm()
    descent.step(loss, 1)
    for parameter, before in zip(parameters, expected, strict=True):
        assert torch.allclose(parameter.grad, before * (LARGEST_NORM / norm), rtol=1e-4)
