import json

import torch

from common.checkpoints import load_bar, save_bar
from scripts.average_weights import average, main


def test_tensors_are_means_and_the_read_out_is_chosen(tiny_run, synthetic_set, tmp_path, capsys):
    first = load_bar(tiny_run / "weights")
    second = load_bar(tiny_run / "weights")
    with torch.no_grad():
        for value in second.parameters():
            value.add_(0.25)
    mean = average([first, second]).state_dict()
    assert all(torch.allclose(mean[name], value + 0.125) for name, value in first.named_parameters())
    save_bar(second, tmp_path / "second", {"data": ["synthetic"]})
    words = [str(tiny_run / "weights"), str(tmp_path / "second"), "--out", str(tmp_path / "out")]
    assert main([*words, "--data", str(synthetic_set)]) == 0
    document = json.loads((tmp_path / "out" / "config.json").read_text())
    errors = document["validation_error_years"]
    assert document["model"]["decode"] == min(errors, key=errors.get) and len(document["averaged"]) == 2
    assert torch.allclose(load_bar(tmp_path / "out").head.bias, mean["head.bias"], atol=2e-3)


def test_missing_weights_are_one_sentence(tmp_path, capsys):
    assert main([str(tmp_path), "--data", "nowhere", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
