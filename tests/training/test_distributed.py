"""Training in two gloo processes on the CPU: the same gradients, one run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from AgeRegBaseline import AgeRegBaseline__train as train
from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig
from AgeRegBaseline.AgeRegBaseline__dataset import FaceSet, TrainingOrder
from common.errors import DataError
from common.training.checkpoints import load_checkpoint
from common.training.distributed import own_part
from tests.conftest import REPOSITORY, TINY
from tests.training.test_base_training import with_intervals

TRAIN = REPOSITORY / "AgeRegBaseline" / "AgeRegBaseline__main.py"
SETTINGS = {"backbone": "tiny", "crop_size": 48, "input_size": 48, "batch_size": 9, "augmentation": 0, "device": "cpu"}


def gradients(out: Path, *folders: str) -> None:
    """Write gradients and loss of the first batch, batch-norm in evaluation mode, as this process has them."""
    run = train.start_run(AgeRegBaselineConfig(**SETTINGS), list(folders), out, resume=False)
    run.model.eval()
    numbers = own_part(run.accelerator, next(run.order.epoch(0)))
    loss, _ = train.compute_gradients(run, run.faces.take(numbers), 0)
    found = {name: value.grad for name, value in run.plain_model.named_parameters()}
    torch.save(
        {"gradients": found, "loss": loss, "numbers": numbers.tolist()}, out / f"{run.accelerator.process_index}.pt"
    )


def torchrun(*words: str) -> subprocess.Popen:
    """Two processes of a module or file, in the repository's root, their output in one pipe."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def output_of(started: subprocess.Popen) -> str:
    """What it printed, once it has ended."""
    return started.communicate(timeout=120)[0].decode(errors="replace")


def test_two_processes_have_the_gradients_of_one(synthetic_set, tmp_path):
    """A batch of 9 faces, exact and interval labels mixed, is divided 5 to 4: unequal parts must be weighed."""
    folders = [str(synthetic_set), str(with_intervals(synthetic_set, tmp_path / "intervals"))]
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    started = torchrun("-m", "tests.training.test_distributed", str(tmp_path / "two"), *folders)
    gradients(tmp_path / "one", *folders)
    said = output_of(started)
    assert started.returncode == 0, said
    one, first, second = (torch.load(tmp_path / name) for name in ("one/0.pt", "two/0.pt", "two/1.pt"))
    assert [len(part["numbers"]) for part in (first, second)] == [5, 4]
    assert sorted(first["numbers"] + second["numbers"]) == sorted(one["numbers"])
    assert (first["loss"] + second["loss"]) / 2 == pytest.approx(one["loss"], abs=1e-5)
    assert max(value.abs().max() for value in one["gradients"].values()) > 0.01
    for part in (first, second):
        assert part["gradients"].keys() == one["gradients"].keys()
        for name, value in one["gradients"].items():
            assert (value - part["gradients"][name]).abs().max() < 1e-6, name


def history(runs: Path) -> pd.DataFrame:
    """The history of the only run there."""
    (run,) = (runs / "AgeRegBaseline").iterdir()
    return pd.read_csv(run / "history.csv")


def test_a_run_of_two_processes_stops_and_goes_on(synthetic_set, tmp_path):
    words = ["--data", str(synthetic_set), "--epochs", "3", *TINY]
    started = torchrun(str(TRAIN), *words, "--runs", str(tmp_path / "two"))
    deadline = time.monotonic() + 100
    while not list((tmp_path / "two").glob("*/*/history.csv")) and time.monotonic() < deadline:
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    said = output_of(started)
    assert said.count("; 2 processes; run folder") == 1, said
    assert said.count("Stopped. Go on with: python AgeRegBaseline/AgeRegBaseline__main.py --resume") == 1, said
    (run,) = (tmp_path / "two" / "AgeRegBaseline").iterdir()
    progress = load_checkpoint(run / "latest_model.ckpt")["progress"]
    assert 1 <= progress["epoch"] < 3
    said = output_of(torchrun(str(TRAIN), "--resume", str(run)))
    assert said.count("weights in") == 1, said
    double = history(tmp_path / "two")  # asserts that there is one run folder
    assert double["epoch"].tolist() == [1, 2, 3] and (run / "weights" / "model.safetensors").is_file()
    assert len(list(run.glob("events.out.tfevents*"))) == 2  # one of each start


def test_a_batch_too_small_for_its_processes_is_refused(synthetic_set):
    order = TrainingOrder(FaceSet([synthetic_set], "base", 48), AgeRegBaselineConfig(batch_size=4))
    order.check(2)
    with pytest.raises(DataError, match="A batch of 4 faces is too small for 3 processes"):
        order.check(3)


if __name__ == "__main__":
    gradients(Path(sys.argv[1]), *sys.argv[2:])
