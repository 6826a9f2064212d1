"""Every age belongs to its image: real commands, killed at random moments, their inputs edited in between.

    python tests/belongs.py --kills 20 --seed 0      # the usual numbers; about ten minutes on 2 cores

After every command that ends, each row it wrote is compared with the image's own bytes, the label as it stands now,
and the estimate of that image alone. Exit status: 0 all belong, 1 one does not (it is named).
"""

import argparse
import hashlib
import io
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from common.data.synthetic import generate_faces
from common.pipeline import AgePredictBasicPipeline
from DiffPipeline6.DiffPipeline6__infer2 import main as infer2

REPOSITORY = Path(__file__).resolve().parents[1]
SIDE = 128  # pixels of a crop that the released weights take
FILE_SIZE = 65536  # bytes of every image, so that no size tells two of them apart
SAMPLE = 5  # corrected ages that are compared with those of their images alone, at each check
TOLERANCE = 0.0101  # years; numbers are written with two decimals
TINY = [
    "--backbone", "tiny", "--epochs", "1", "--crop-size", "128", "--input-size", "32", "--batch-size", "16",
    "--precision", "no", "--device", "cpu",
]  # fmt: skip
QUICK = [
    "--views", "1", "--epochs", "1", "--references", "6", "--per-bin", "0", "--device", "cpu", "--hidden-size", "16",
]  # fmt: skip
PREPARE = ["scripts/prepare_data.py", "csv", "--source", "labels.csv", "--crops", "--out", "prepared"]
BANK = ["scripts/build_reference_bank.py", "--keep-outliers", "--append"]
TRAIN = ["AgeRegBaseline/AgeRegBaseline__main.py", "--runs", "runs"]
DIFFER = ["DiffPipeline6/DiffPipeline6__main.py", "--data", "prepared", "--runs", "runs", *QUICK]
INFER = ["DiffPipeline6/DiffPipeline6__infer2.py", "--crops", "--batch-size", "16"]
BUSY = "is being written by another process"


class Wrong(AssertionError):
    """A row that does not belong to its image, or a command that failed."""


class Album:
    """Images and labels of synthetic faces in a folder, and what a row about one of them must say.

    `ages` are the labels of labels.csv, in its order; `known` all labels that an image's bytes (SHA-1) ever had.
    """

    def __init__(self, folder: Path, faces: int, seed: int, spare: int):
        self.folder, self.random = folder, random.Random(seed)
        self.spare = list(generate_faces(faces + spare, seed, SIDE)[0])
        self.ages: dict[str, float] = {}
        self.known: dict[str, set[float]] = defaultdict(set)
        self.pipeline, self.alone = AgePredictBasicPipeline.from_weights(device="cpu"), {}  # estimates by SHA-1
        (folder / "photos").mkdir()
        for _ in range(faces):
            self.add()
        self.write()

    def add(self) -> None:
        """One more image."""
        name = f"photos/{len(self.spare):03d}.png"
        self.draw(name)
        self.ages[name] = float(self.random.randrange(90))

    def draw(self, name: str) -> None:
        """Give an image bytes that no other one has had."""
        data = io.BytesIO()
        Image.fromarray(self.spare.pop()).save(data, "png")
        (self.folder / name).write_bytes(data.getvalue().ljust(FILE_SIZE, b"\0"))

    def edit(self) -> None:
        """Remove an image, add one, correct an age, draw one anew, exchange two, and list all in another order."""
        gone, corrected, anew, first, second = self.random.sample(list(self.ages), 5)
        del self.ages[gone]
        self.ages[corrected] = (self.ages[corrected] + 20) % 90
        self.draw(anew)
        one, other = ((self.folder / name).read_bytes() for name in (first, second))
        (self.folder / first).write_bytes(other)
        (self.folder / second).write_bytes(one)
        self.add()
        self.ages = dict(self.random.sample(list(self.ages.items()), len(self.ages)))
        self.write()

    def write(self) -> None:
        """Write labels.csv as it stands."""
        lines = "".join(f"{name},{age:g}\n" for name, age in self.ages.items())
        (self.folder / "labels.csv").write_text("path,age\n" + lines)
        for name, age in self.ages.items():
            self.known[self.id_of(name)].add(age)

    def id_of(self, name: str) -> str:
        """SHA-1 of an image's bytes now."""
        return hashlib.sha1((self.folder / name).read_bytes()).hexdigest()

    def names(self) -> dict[str, str]:
        """Name of every listed image by its id."""
        return {self.id_of(name): name for name in self.ages}

    def crop(self, name: str) -> np.ndarray:
        """The image [S, S, 3] uint8."""
        return np.asarray(Image.open(self.folder / name))

    def base_age(self, name: str) -> float:
        """What the base predicts of this image alone, in years."""
        number = self.id_of(name)
        if number not in self.alone:
            self.alone[number] = float(self.pipeline.predict(self.crop(name)[None]).ages[0])
        return self.alone[number]

    def corrected_age(self, name: str) -> float:
        """What the released weights say of this image alone, in years."""
        with redirect_stdout(io.StringIO()):
            infer2([str(self.folder / name), "--crops", "--out", str(self.folder / "alone.csv")])
        return float(pd.read_csv(self.folder / "alone.csv")["age"][0])


def expect(what: str, name: str, said: float, true: float) -> None:
    """Raise Wrong unless two numbers of an image agree."""
    if not abs(said - true) <= TOLERANCE:
        raise Wrong(f"{what} of {name} is {said}, not {true}")


def check_prepared(album: Album, prepared: Path) -> None:
    """Check manifest.csv and crops.npy of a prepared folder."""
    table, crops = pd.read_csv(prepared / "manifest.csv", dtype={"id": str}), np.load(prepared / "crops.npy")
    paths = {*table["path"], *pd.read_csv(prepared / "left_out.csv")["path"]}
    if len(table) != len(crops) or paths != set(album.ages):
        raise Wrong(f"{prepared} has {len(table)} rows, {len(crops)} crops; wrong: {sorted(paths ^ set(album.ages))}")
    for row, crop in zip(table.itertuples(), crops, strict=True):
        if row.id != album.id_of(row.path) or not np.array_equal(crop, album.crop(row.path)):
            raise Wrong(f"{prepared}: the row of {row.path} has another image's id or crop")
        expect("the age in manifest.csv", row.path, row.age, album.ages[row.path])
    print(f"{prepared.name}: {len(table)} rows belong", flush=True)


def check_bank(album: Album, bank: Path, wanted: set[str]) -> None:
    """Check ages and estimates of a bank, and that it has these ids."""
    with np.load(bank) as stored:
        rows = list(zip(stored["id"].tolist(), stored["ages"], stored["estimates"], strict=True))
    names = album.names()
    for number, age, estimate in rows:
        if number in names:
            expect(f"the age in {bank.name}", names[number], float(age), album.ages[names[number]])
            expect(f"the estimate in {bank.name}", names[number], float(estimate), album.base_age(names[number]))
        elif float(age) not in album.known.get(number, ()):
            raise Wrong(f"{bank} has {age} years for {number}, which is listed no more and never had that age")
    missing = wanted - {number for number, _, _ in rows}
    if missing:
        raise Wrong(f"{bank} lacks {names[missing.pop()]}")
    print(f"{bank.name}: {len(rows)} references belong", flush=True)


def check_predictions(album: Album, path: Path, names: list[str]) -> None:
    """Check a table of released weights that should have these images in this order."""
    table = pd.read_csv(path, dtype={"id": str})
    if table["path"].tolist() != names:
        raise Wrong(f"{path} does not list the images in the order of its manifest")
    compared = album.random.sample(names, min(SAMPLE, len(names)))
    for name, row in zip(names, table.itertuples(), strict=True):
        if row.id != album.id_of(name):
            raise Wrong(f"{path}: the row of {name} has another image's id")
        expect(f"the true age in {path.name}", name, row.true_age, album.ages[name])
        expect(f"the base's age in {path.name}", name, row.base_age, album.base_age(name))
        if name in compared:
            expect(f"the corrected age in {path.name}", name, row.age, album.corrected_age(name))
    print(f"{path.name}: {len(table)} rows belong", flush=True)


def check_validation(album: Album, run: Path) -> None:
    """Check the true ages that a run selected by."""
    table, names = pd.read_csv(run / "predictions_val.csv", dtype={"id": str}), album.names()
    for row in table.itertuples():
        name = names.get(row.id, "no image of the album")
        expect(f"the true age in {run.parent.name}", name, row.true_age, album.ages.get(name, np.nan))
    print(f"{run.parent.name}: {len(table)} true ages belong", flush=True)


class Runner:
    """Runs commands of the repository in a folder, killing some of them at random moments first."""

    def __init__(self, folder: Path, kills: int, seed: int):
        self.folder, self.left, self.random = folder, kills, random.Random(seed)
        self.usual, self.killed = {}, {}  # by command: seconds that it took last, how often it was killed

    def start(self, words: list[str]) -> subprocess.Popen:
        """Start a command; what it says goes to the file `said`."""
        with (self.folder / "said").open("w") as said:
            return subprocess.Popen(
                [sys.executable, str(REPOSITORY / words[0]), *words[1:]], cwd=self.folder, stdout=said, stderr=said,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
            )  # fmt: skip

    def kill(self, words: list[str]) -> bool:
        """Perhaps start a command and kill it, not its children, at a random moment; whether that cut it off."""
        often = self.killed.setdefault(words[0], 0) > min(self.killed.values())
        if not self.left or self.random.random() > (0.3 if often else 0.8):
            return False
        process = self.start(words)
        time.sleep(self.random.uniform(0.3, 1.0) * self.usual.get(words[0], 8.0))
        if process.poll() is not None:
            return False
        process.kill()
        process.wait()
        self.left, self.killed[words[0]] = self.left - 1, self.killed[words[0]] + 1
        print(f"  killed: {words[0]}", flush=True)
        return True

    def run(self, words: list[str], between: Callable[[], None] = lambda: None) -> None:
        """Run a command to its end, perhaps after kills, each followed by `between`; raises Wrong if it fails."""
        while self.kill(words):
            between()
        began, said = time.monotonic(), BUSY
        while BUSY in said and time.monotonic() - began < 120:  # children of a killed command are at it
            status, said = self.start(words).wait(timeout=600), (self.folder / "said").read_text()
        self.usual[words[0]] = time.monotonic() - began
        if status != 0 or "Traceback" in said:
            raise Wrong(f"{' '.join(words)} ended with status {status}:\n{said}")


def prepare(album: Album, runner: Runner) -> None:
    """The prepared set."""
    runner.run(PREPARE, album.edit)
    check_prepared(album, album.folder / "prepared")


def use_set(album: Album, runner: Runner) -> None:
    """The bank made of the prepared set, and the ages of its faces."""
    runner.run([*BANK, "--source", "prepared", "--out", "of_set.npz"])
    table = pd.read_csv(album.folder / "prepared" / "manifest.csv", dtype={"id": str})
    check_bank(album, album.folder / "of_set.npz", set(table["id"]))
    runner.run([*INFER, "--manifest", "prepared/manifest.csv", "--out", "set.csv"])
    check_predictions(album, album.folder / "set.csv", table["path"].tolist())


def train(album: Album, runner: Runner) -> None:
    """A training of a base that goes on where it is killed, and one of a difference head on the first such base."""
    runs = album.folder / "runs"
    words = [*TRAIN, "--data", "prepared", *TINY]
    while runner.kill(words):
        cut_off = max((runs / "AgeRegBaseline").glob("*"), default=runs)
        words = [TRAIN[0], "--resume", str(cut_off)] if (cut_off / "latest_model.ckpt").is_file() else words
    runner.run(words)
    check_validation(album, max((runs / "AgeRegBaseline").glob("*")))
    base = min(run for run in (runs / "AgeRegBaseline").glob("*") if (run / "weights/model.safetensors").is_file())
    runner.run([*DIFFER, "--base-weights", str(base / "weights")])
    check_validation(album, max((runs / "DiffPipeline6").glob("*")))


def grow_bank(album: Album, runner: Runner) -> None:
    """The bank of the labels, which every round adds to and corrects."""
    runner.run([*BANK, "--source", "labels.csv", "--crops", "--out", "mine.npz"], album.edit)
    check_bank(album, album.folder / "mine.npz", set(album.names()))


def estimate(album: Album, runner: Runner) -> None:
    """The ages of all images, by two processes."""
    runner.run([*INFER, "--manifest", "labels.csv", "--out", "ages.csv", "--processes", "2"], album.edit)
    check_predictions(album, album.folder / "ages.csv", list(album.ages))


def show(kills: int, seed: int, faces: int, parts: list[Callable[[Album, Runner], None]]) -> None:
    """Edit an album and go through `parts` until so many commands were killed, twice at least; raises Wrong."""
    with tempfile.TemporaryDirectory() as name:
        album, runner, rounds = Album(Path(name), faces, seed, 40 + 8 * kills), Runner(Path(name), kills, seed), 0
        while runner.left or rounds < 2:
            album.edit()
            for part in parts:
                part(album, runner)
            rounds += 1
    print(f"{kills} commands killed; every age belongs to its image.")


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="commands to kill in all (20)")
    parser.add_argument("--seed", type=int, default=0, help="of images, edits and moments (0)")
    parser.add_argument("--faces", type=int, default=100, help="images to begin with (100)")
    arguments = parser.parse_args(argv)
    try:
        show(arguments.kills, arguments.seed, arguments.faces, [prepare, use_set, train, grow_bank, estimate])
    except Wrong as error:
        print(f"WRONG: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
