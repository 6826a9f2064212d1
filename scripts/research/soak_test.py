"""A long run with broken files in it: is every good file estimated, and does memory stay flat?

    python scripts/research/soak_test.py                              # 20,000 crops, 800 of them broken
    python scripts/research/soak_test.py --files 5000 --broken 200

Writes synthetic faces to a temporary folder, no two files alike, runs DiffPipeline6__infer2.py on them in an own
process and looks at its memory on the way. Exit status 1 if a good file is lost, a broken one is not named,
or the memory grows by more than --megabytes from the end of the first quarter of the run to the end of the last.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from common.data.predictions import answered, read_predictions
from common.data.synthetic import render_face, sample_identity
from common.files import REPOSITORY

SCRIPT = REPOSITORY / "DiffPipeline6" / "DiffPipeline6__infer2.py"
DRAWN = 50  # different faces; files of one face differ by bytes after the end of the image
GLANCE = 0.2  # seconds between two looks at the memory


@dataclass(frozen=True)
class Outcome:
    """What became of a run: files estimated, files named as failed, exit status, memory [T] in MB over the run."""

    estimated: int
    named: int
    status: int
    memory: np.ndarray

    @property
    def growth(self) -> float:
        """Growth of the memory in MB from around the end of the first quarter to the last quarter's end (medians)."""
        quarter, few = len(self.memory) // 4, max(1, len(self.memory) // 20)
        return float(np.median(self.memory[-few:]) - np.median(self.memory[quarter : quarter + few]))


def write_files(folder: Path, count: int, broken: int) -> None:
    """Write `count` JPEG files of synthetic faces, no two alike, `broken` of them (evenly) cut within the header."""
    random, pictures = np.random.default_rng(0), []
    for _ in range(DRAWN):
        stream = BytesIO()
        face = render_face(sample_identity(random), random.uniform(1, 90), 0, random)
        Image.fromarray(face).save(stream, "JPEG", quality=90)
        pictures.append(stream.getvalue())
    cut = set(np.linspace(0, count - 1, broken).round().astype(int).tolist())
    for number in range(count):
        data = pictures[number % DRAWN] + number.to_bytes(4, "big")
        name = f"{'broken' if number in cut else 'good'}_{number:06d}.jpg"
        (folder / name).write_bytes(data[: random.integers(0, 100)] if number in cut else data)


def run(folder: Path, words: list[str]) -> Outcome:
    """Estimate the files of a folder in a process of its own and watch its memory."""
    out = folder.parent / "ages.csv"
    memory = []
    with open(folder.parent / "errors.txt", "w+") as errors:
        command = [sys.executable, str(SCRIPT), str(folder), "--crops", "--out", str(out), *words]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                memory.append(watched.memory_info().rss / 1e6)
            except psutil.Error:  # it ended in between
                break
            time.sleep(GLANCE)
        status = process.wait()
        errors.seek(0)
        named = sum("not estimated: " in line and "/broken_" in line for line in errors)
    table = read_predictions(out) if out.is_file() else None
    good = 0 if table is None else int((answered(table) & table["path"].str.contains("/good_")).sum())
    return Outcome(good, named, status, np.array(memory or [0.0]))


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 all as it should be, 1 not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000, help="files in all (20000)")
    parser.add_argument("--broken", type=int, default=800, help="of them broken (800)")
    parser.add_argument("--megabytes", type=float, default=100, help="growth of the memory that is allowed (100)")
    parser.add_argument("--weights", default="", metavar="DIR", help="weights of DiffPipeline6 (the released ones)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "files"
        folder.mkdir()
        write_files(folder, arguments.files, arguments.broken)
        started = time.monotonic()
        outcome = run(folder, ["--weights", arguments.weights] if arguments.weights else [])
    good, broken = arguments.files - arguments.broken, arguments.broken
    quarters = outcome.memory[np.linspace(0, len(outcome.memory) - 1, 5).round().astype(int)]
    print(f"estimated {outcome.estimated} of {good} good files, named {outcome.named} of {broken} broken ones")
    print(f"exit status {outcome.status}, {time.monotonic() - started:.0f} s")
    print(f"memory at 0, 25, 50, 75, 100 % of the time: {', '.join(f'{mb:.0f}' for mb in quarters)} MB")
    print(f"growth after the first quarter: {outcome.growth:+.0f} MB (allowed: {arguments.megabytes:.0f})")
    whole = outcome.estimated == good and outcome.named == broken
    return 0 if whole and outcome.growth <= arguments.megabytes else 1


if __name__ == "__main__":
    sys.exit(main())
