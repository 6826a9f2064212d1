"""The mean of two bases: every number is between theirs, by the part that is asked for."""

import json

import pytest
import torch

from common.base.model import BAR, BARConfig
from common.base.weights import load_bar, save_bar
from common.errors import WeightsError
from scripts.release.average_weights import average, main


def base(seed: int, **settings) -> BAR:
    torch.manual_seed(seed)
    return BAR(BARConfig(**{"backbone": "mobilefacenet", "input_size": 88, "embedding_size": 16} | settings)).eval()


def test_every_weight_lies_between_the_two_by_the_part():
    first, second = base(1), base(2)
    expected = 0.75 * first.head.weight.detach() + 0.25 * second.head.weight.detach()
    count = {name: value.clone() for name, value in first.state_dict().items() if not value.is_floating_point()}
    mean = average(first, second, 0.25, input_size=92)
    assert torch.allclose(mean.head.weight, expected, atol=1e-7) and not torch.equal(
        mean.head.weight, second.head.weight
    )
    assert mean.config.input_size == 92 and mean(torch.rand(1, 3, 92, 92)).age.shape == (1,)
    assert count and all(torch.equal(mean.state_dict()[name], value) for name, value in count.items())
    with pytest.raises(WeightsError, match="not of one shape"):
        average(base(1), base(2, embedding_size=8), 0.5)


def test_the_command_writes_the_mean_and_what_it_is_of(tmp_path, capsys):
    for name, seed in (("first", 1), ("second", 2)):
        save_bar(base(seed), tmp_path / name, {"data": [name]})
    words = [str(tmp_path / name) for name in ("first", "second")]
    assert main([*words, "--part", "0.5", "--out", str(tmp_path / "mean")]) == 0
    mean, parts = load_bar(tmp_path / "mean"), [load_bar(word) for word in words]
    halved = (parts[0].head.weight + parts[1].head.weight) / 2
    assert torch.allclose(mean.head.weight, halved, atol=1e-3) and mean.config.input_size == 88
    said = json.loads((tmp_path / "mean" / "config.json").read_text())
    assert said["data"] == ["first", "second"] and said["mean_of"]["part"] == 0.5
    assert main([*words, "--part", "1.5", "--out", str(tmp_path / "no")]) == 2
    assert "--part must be from 0 to 1" in capsys.readouterr().err and not (tmp_path / "no").exists()
