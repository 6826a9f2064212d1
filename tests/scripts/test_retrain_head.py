import numpy as np
import torch

from common.base.model import central_view
from common.base.weights import load_bar
from common.data.manifest import load_prepared
from scripts.release.retrain_head import main


def words(synthetic_set, tiny_run, tmp_path, *more: str) -> list[str]:
    folder = ["--base", str(tiny_run / "weights"), "--out", str(tmp_path / "head")]
    return [str(synthetic_set), *folder, "--batch-size", "32", "--epochs", "3", "--learning-rate", "0.003", *more]


def test_the_head_learns_and_the_backbone_stays(synthetic_set, tiny_run, tmp_path, capsys):
    assert main(words(synthetic_set, tiny_run, tmp_path)) == 0
    before, after = (float(line.split("MAE ")[1].split(",")[0]) for line in capsys.readouterr().out.splitlines()[:2])
    assert after < before
    start, made = load_bar(tiny_run / "weights"), load_bar(tmp_path / "head" / "weights")
    assert all(
        torch.equal(value, made.backbone.state_dict()[name]) for name, value in start.backbone.state_dict().items()
    )
    assert not torch.equal(start.head.weight, made.head.weight)
    prepared = load_prepared(synthetic_set)
    with torch.inference_mode():
        output = made(central_view(torch.from_numpy(prepared.crops[prepared.rows("val")]), made.config))
    true = prepared.manifest["age"].to_numpy()[prepared.rows("val")]
    assert abs(np.abs(output.age.numpy() - true).mean() - after) < 0.05  # stored in float16
    base = torch.from_numpy(prepared.crops[prepared.rows("base")])
    with torch.inference_mode():
        assert made(central_view(base, made.config)).embedding.mean(0).abs().max() < 0.05  # standardised
    features = (tmp_path / "head").glob("base-*.npz")
    assert sum(1 for _ in features) == 1


def test_the_start_is_kept_in_part_and_mistakes_are_one_line(synthetic_set, tiny_run, tmp_path, capsys):
    assert main(words(synthetic_set, tiny_run, tmp_path, "--keep-init", "0.999999")) == 0
    start, made = load_bar(tiny_run / "weights"), load_bar(tmp_path / "head" / "weights")
    assert torch.allclose(start.head.weight, made.head.weight, atol=1e-3)
    assert main(words(synthetic_set, tiny_run, tmp_path, "--balance", "2")) == 2
    assert "balance must be in [0, 1]" in capsys.readouterr().err
