import json
from dataclasses import FrozenInstanceError, asdict

import pytest

from AgeRegBaseline.AgeRegBaseline__config import PRESETS, AgeRegBaselineConfig, parse_arguments
from common.base.weight_files import read_settings
from common.files import WEIGHTS
from common.training.config import read_config


def refused(capsys, *words) -> str:
    with pytest.raises(SystemExit) as caught:
        parse_arguments([str(word) for word in words])
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return error


def test_defaults_are_the_released_preset():
    config, options = parse_arguments([])
    assert config == AgeRegBaselineConfig() and config.backbone == "mobilefacenet" and config.input_size == 88
    assert (options.data, options.resume, options.preset) == ([], None, "released")
    assert list(PRESETS) == ["released", "finetune", "large", "vgg16_kl"]


def test_fine_tuning_begins_with_what_the_released_weights_see():
    released = read_settings(WEIGHTS / "AgeRegBaseline")["model"]
    config = parse_arguments(["--preset", "finetune", "--init-weights", "weights/AgeRegBaseline"])[0]
    for key in ("input_size", "crop_size", "crop_fraction", "crop_rise", "backbone", "head", "embedding_size"):
        assert getattr(config, key) == released[key], key


def test_preset_then_file_then_command_line(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"epochs": 3, "sigma": 1.5, "batch_size": 16}))
    config, _ = parse_arguments(["--preset", "vgg16_kl", "--config", str(tmp_path / "mine.json"), "--batch-size", "8"])
    assert (config.backbone, config.min_age, config.max_age) == ("vgg16", 1, 100)
    assert (config.epochs, config.sigma, config.batch_size, config.learning_rate) == (3, 1.5, 8, 1e-4)


def test_dash_and_underscore_are_the_same_and_data_takes_several():
    config, options = parse_arguments(["--learning-rate=0.01", "--weight_decay", "0", "--data", "a", "b"])
    assert (config.learning_rate, config.weight_decay, options.data) == (0.01, 0.0, ["a", "b"])


def test_json_round_trip(tmp_path):
    config = AgeRegBaselineConfig(head="regression", epochs=7)
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    assert read_config(AgeRegBaselineConfig, tmp_path / "config.json") == config
    assert parse_arguments(["--config", str(tmp_path / "config.json")])[0] == config
    with pytest.raises(FrozenInstanceError):
        config.epochs = 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epoch", "3"], "unknown key 'epoch'; did you mean 'epochs'?"),
        (["--lerning-rate", "3"], "did you mean 'learning_rate'?"),
        (["--head", "kl"], "head must be one of distribution, mean_variance, regression, not 'kl'"),
        (["--epochs", "many"], 'key "epochs"'),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--preset", "heavy"], "invalid choice: 'heavy'"),
        (["--config", "nowhere.json"], "no config file at nowhere.json"),
    ],
)
def test_mistakes_are_named_in_one_line(words, message, capsys):
    assert message in refused(capsys, *words)


def test_unknown_key_in_a_file_names_the_nearest(tmp_path, capsys):
    (tmp_path / "bad.json").write_text('{"batchsize": 3}')
    assert "did you mean 'batch_size'?" in refused(capsys, "--config", tmp_path / "bad.json")
    with pytest.raises(ValueError, match="unknown key 'batchsize'; did you mean 'batch_size'"):
        read_config(AgeRegBaselineConfig, tmp_path / "bad.json")
