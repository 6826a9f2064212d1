"""Every age belongs to its picture: real commands, killed at random moments, their inputs edited in between.

    python tests/belongs.py                      # twenty kills, about six minutes on 2 cores
    python tests/belongs.py --kills 3 --seed 1

After every command that ends, each row it wrote is compared with the picture's own bytes, the label as it stands now,
and the estimate of that picture alone. Exit status: 0 all belong, 1 one does not (it is named).
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from common.pipeline import AgePredictBasicPipeline
from common.synthetic import generate_faces

REPOSITORY = Path(__file__).resolve().parents[1]
SIZE = 128  # of the crops that the released weights take
FACES = 150
TINY = [
    "--preset", "light", "--epochs", "2", "--crop-size", "128", "--input-size", "32", "--batch-size", "16",
    "--precision", "no", "--device", "cpu",
]  # fmt: skip


class Wrong(AssertionError):
    """A row that does not belong to its picture."""


class Album:
    """Pictures and labels of drawn faces in a folder, and what a row about one of them must say."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        crops, labels = generate_faces(FACES + 60, seed, SIZE)
        self.spare = list(zip(crops, labels["age"], strict=True))
        self.ages: dict[str, float] = {}
        self.estimates: dict[str, float] = {}  # of a picture alone, by SHA-1
        self.pipeline = AgePredictBasicPipeline.from_weights(device="cpu")
        (folder / "photos").mkdir()
        for _ in range(FACES):
            self.add()
        self.write()

    def add(self) -> None:
        """One more picture."""
        crop, age = self.spare.pop()
        name = f"photos/{len(self.spare):03d}.png"
        Image.fromarray(crop).save(self.folder / name)
        self.ages[name] = float(age)

    def edit(self) -> None:
        """Remove a picture, add one, correct an age, exchange the bytes of two, and list all in another order."""
        names = list(self.ages)
        gone, corrected, first, second = self.random.sample(names, 4)
        del self.ages[gone]
        self.ages[corrected] = (self.ages[corrected] + 20) % 90
        one, other = ((self.folder / name).read_bytes() for name in (first, second))
        (self.folder / first).write_bytes(other)
        (self.folder / second).write_bytes(one)
        self.add()
        listed = list(self.ages.items())
        self.random.shuffle(listed)
        self.ages = dict(listed)
        self.write()

    def write(self) -> None:
        """Write labels.csv as it stands."""
        pd.DataFrame({"path": self.ages.keys(), "age": self.ages.values()}).to_csv(
            self.folder / "labels.csv", index=False
        )

    def id_of(self, name: str) -> str:
        """SHA-1 of a picture's bytes now."""
        return hashlib.sha1((self.folder / name).read_bytes()).hexdigest()

    def estimate(self, name: str) -> float:
        """What the base says of this picture alone, in years."""
        number = self.id_of(name)
        if number not in self.estimates:
            self.estimates[number] = float(self.pipeline.predict(self.crop(name)[None]).ages[0])
        return self.estimates[number]

    def crop(self, name: str) -> np.ndarray:
        """The picture [S, S, 3] uint8."""
        return np.asarray(Image.open(self.folder / name))

    def by_id(self) -> dict[str, str]:
        """Name of every listed picture by its id."""
        return {self.id_of(name): name for name in self.ages}

    def expect(self, what: str, name: str, said: float, true: float) -> None:
        """Raise Wrong unless two numbers of a picture agree to what a batch may change."""
        if not abs(said - true) < 0.03:
            raise Wrong(f"{what} of {name} is {said}, should be {true}")

    def check_prepared(self, prepared: Path) -> int:
        """Check manifest.csv and crops.npy of a prepared folder; returns how many rows they have."""
        table = pd.read_csv(prepared / "manifest.csv", dtype={"id": str})
        crops = np.load(prepared / "crops.npy")
        left_out = set(pd.read_csv(prepared / "left_out.csv")["path"])
        if len(table) != len(crops) or set(table["path"]) | left_out != set(self.ages):
            raise Wrong(f"{prepared} has {len(table)} rows, {len(crops)} crops, of {len(self.ages)} pictures")
        for row, crop in zip(table.itertuples(), crops, strict=True):
            if row.id != self.id_of(row.path) or not np.array_equal(crop, self.crop(row.path)):
                raise Wrong(f"{prepared}: the row of {row.path} has another picture's id or crop")
            self.expect("the age", row.path, row.age, self.ages[row.path])
        return len(table)

    def check_bank(self, bank: Path, names: dict[str, str]) -> int:
        """Check ages and estimates of a bank whose pictures have these names by id; returns how many it has."""
        with np.load(bank) as stored:
            rows = list(zip(stored["id"], stored["ages"], stored["estimates"], strict=True))
        for number, age, estimate in rows:
            if number not in names:
                continue  # a picture that is listed no more: an appended bank keeps it
            self.expect("the age in the bank", names[number], float(age), self.ages[names[number]])
            self.expect("the estimate in the bank", names[number], float(estimate), self.estimate(names[number]))
        missing = set(names) - {str(number) for number, _, _ in rows}
        if missing:
            raise Wrong(f"{bank} lacks {names[missing.pop()]}")
        return len(rows)

    def check_predictions(self, path: Path) -> int:
        """Check a predictions table of all pictures; returns how many rows it has."""
        table = pd.read_csv(path, dtype={"id": str})
        if table["path"].tolist() != list(self.ages):
            raise Wrong(f"{path} does not list the pictures in the order of labels.csv")
        for row in table.itertuples():
            if row.id != self.id_of(row.path):
                raise Wrong(f"{path}: the row of {row.path} has another picture's id")
            self.expect("the true age", row.path, row.true_age, self.ages[row.path])
            self.expect("the base's age", row.path, row.base_age, self.estimate(row.path))
        return len(table)


class Runner:
    """Runs commands of the repository, killing some of them at random moments first."""

    def __init__(self, folder: Path, kills: int, seed: int):
        self.folder, self.left, self.random = folder, kills, random.Random(seed)
        self.usual: dict[str, float] = {}  # seconds that a command took last
        self.environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}

    def start(self, words: list[str]) -> subprocess.Popen:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, str(REPOSITORY / words[0]), *words[1:]], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def kill(self, words: list[str]) -> bool:
        """Start a command and kill it and its children at a random moment; whether it was still running."""
        process = self.start(words)
        try:
            process.communicate(timeout=self.random.uniform(0.3, 1.05) * self.usual.get(words[0], 8.0))
            return False
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            self.left -= 1
            print(f"  killed: {words[0]}", flush=True)
            return True

    def run(self, words: list[str], between: Callable[[], None] = lambda: None) -> str:
        """Run a command to its end, perhaps after kills, each followed by `between`; raises Wrong if it fails."""
        while self.left and self.random.random() < 0.6 and self.kill(words):
            between()
        began = time.monotonic()
        process = self.start(words)
        said, _ = process.communicate(timeout=600)
        self.usual[words[0]] = time.monotonic() - began
        if process.returncode not in (0, 1) or "Traceback" in said:
            raise Wrong(f"{' '.join(words)} ended with status {process.returncode}:\n{said}")
        return said


def training(runner: Runner, folder: Path) -> list[str]:
    """Words of a training: a new one, or the newest run that was cut off, to be resumed."""
    runs = sorted((folder / "runs" / "AgeRegBaseline").glob("*"))
    unfinished = [run for run in runs if (run / "latest_model.ckpt").is_file() and not (run / "weights").is_dir()]
    script = "AgeRegBaseline/AgeRegBaseline__main.py"
    if unfinished:
        return [script, "--resume", str(unfinished[-1])]
    return [script, "--data", "prepared", "--runs", "runs", *TINY]


def one_round(album: Album, runner: Runner) -> None:
    """Edit the album, run every command on it, and check what each one wrote; raises Wrong."""
    folder = album.folder
    album.edit()
    labels = ["--source", "labels.csv", "--crops"]
    runner.run(["scripts/prepare_data.py", "csv", *labels, "--size", str(SIZE), "--out", "prepared"], album.edit)
    print(f"prepared set: {album.check_prepared(folder / 'prepared')} rows belong", flush=True)
    kept = set(pd.read_csv(folder / "prepared" / "manifest.csv", dtype=str)["id"])
    names = album.by_id()
    while runner.left and runner.random.random() < 0.6 and runner.kill(training(runner, folder)):
        pass
    runner.run(training(runner, folder))
    (folder / "of_set.npz").unlink(missing_ok=True)
    runner.run(["scripts/build_reference_bank.py", "--source", "prepared", "--out", "of_set.npz"])
    count = album.check_bank(folder / "of_set.npz", {number: names[number] for number in kept})
    print(f"bank of the set: {count} references belong", flush=True)
    runner.run(["scripts/build_reference_bank.py", *labels, "--out", "mine.npz", "--append"], album.edit)
    print(f"bank appended to: {album.check_bank(folder / 'mine.npz', album.by_id())} references belong", flush=True)
    infer = ["DiffPipeline6/DiffPipeline6__infer2.py", "--manifest", "labels.csv", "--crops", "--out", "ages.csv"]
    runner.run([*infer, "--processes", "2", "--batch-size", "16"], album.edit)
    print(f"predictions: {album.check_predictions(folder / 'ages.csv')} rows belong", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="commands to kill in all (20)")
    parser.add_argument("--seed", type=int, default=0, help="of pictures, edits and moments (0)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        album = Album(Path(name), arguments.seed)
        runner = Runner(Path(name), arguments.kills, arguments.seed)
        try:
            rounds = 0
            while runner.left or rounds < 2:
                one_round(album, runner)
                rounds += 1
        except Wrong as error:
            print(f"WRONG: {error}", file=sys.stderr)
            return 1
    print(f"{arguments.kills} commands killed; every age belongs to its picture.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
