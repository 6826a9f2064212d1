"""A manifest estimated in several processes, on one machine or on more: shards of its rows, and their one table."""

import csv
import hashlib
import io
import math
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.base.regressor import gpu_count
from common.data.manifest import CROPS, crops_digest
from common.data.predictions import read_predictions, write_text
from common.difference.corrector import CORRECT_BATCH
from common.errors import DataError, ImageError
from common.faces.photo_files import read_bytes
from common.files import plain_name
from common.inference.options import InferenceOptions, Shard
from common.inference.terminal import ended_like_ctrl_c

FILES = ("corrector", "manifest", "references", "weights")  # options whose files decide what a shard holds
ELSEWHERE = ("columns", "command", "device", "explain", "inputs", "out", "processes", "shard")  # options that do not


def owners(rows: int, count: int, batch_size: int) -> np.ndarray:
    """Which of `count` shards each of N rows belongs to, [N] int64.

    Shards take whole blocks of rows in turn, so that every batch is the one of a single process: numbers that
    depend on their batch in the last bit are the same, and so is the table.
    """
    return np.arange(rows) // math.lcm(batch_size, CORRECT_BATCH) % count


def take_shard(
    manifest: pd.DataFrame, options: InferenceOptions, shard: Shard
) -> tuple[pd.DataFrame, InferenceOptions]:
    """The rows of a manifest that --shard names, and the options with the file of the shard as `out`."""
    owner = owners(len(manifest), shard.count, options.batch_size)
    out = shard_files(manifest, options, shard.count)[shard.index]
    return manifest[owner == shard.index], replace(options, out=out)


def settings_digest(manifest: pd.DataFrame, options: InferenceOptions) -> str:
    """Ten letters that change with the options, the manifest, the crops, the weights or the references.

    Of images in files the sizes count here, their bytes in `is_current`. Raises DataError if weights or references
    are not there.
    """
    assert options.manifest
    digest = hashlib.sha1()
    for name in sorted(field.name for field in fields(options)):
        if name in ELSEWHERE:
            continue
        value = getattr(options, name)
        digest.update(f"\n{name}=".encode())
        for part in value if isinstance(value, tuple) else [value]:
            digest.update(_contents(Path(part)) if name in FILES else f"{part!r} ".encode())
    sizes = [os.path.getsize(file) if os.path.isfile(file) else -1 for file in manifest["file"]]
    digest.update((crops_digest(options.manifest.parent) if _is_prepared(options) else str(sizes)).encode())
    return digest.hexdigest()[:10]


def _is_prepared(options: InferenceOptions) -> bool:
    assert options.manifest
    return options.manifest.name == "manifest.csv" and options.manifest.with_name(CROPS).is_file()


def is_current(file: Path, rows: pd.DataFrame, options: InferenceOptions) -> bool:
    """Whether the table of a shard is of its rows of the manifest and of the images' bytes as they are now."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            stored = [(row["path"], row["id"]) for row in csv.DictReader(stream) if None not in row.values()]
    except (OSError, UnicodeDecodeError, KeyError, csv.Error):  # cut off, or no table at all
        return False
    paths = rows["path"].tolist()
    if [path for path, _ in stored] != paths:
        return False
    ids = rows["id"].tolist() if _is_prepared(options) else [_sha1(name) for name in rows["file"]]
    return stored == list(zip(paths, ids, strict=True))


def _sha1(name: str) -> str:
    try:
        return hashlib.sha1(read_bytes(name, name)).hexdigest()
    except ImageError:
        return ""


def _contents(path: Path) -> bytes:
    if not path.exists():
        raise DataError(f"There is no {path}; check the name.")
    digest = hashlib.sha1()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(f"{file.relative_to(path)} ".encode() + hashlib.sha1(file.read_bytes()).digest())
    return digest.digest()


def shard_files(manifest: pd.DataFrame, options: InferenceOptions, count: int) -> list[Path]:
    """Where the shards of --out are written, never packed: names hold the shard and the digest of the settings."""
    assert options.out
    out, digest = plain_name(options.out), settings_digest(manifest, options)
    return [out.with_name(f"{out.stem}.shard-{index}-of-{count}.{digest}{out.suffix}") for index in range(count)]


def infer_in_shards(options: InferenceOptions, manifest: pd.DataFrame) -> pd.DataFrame:
    """Estimate a manifest in --processes processes, write --out and return its table.

    Shards that are there from an earlier run with the same settings are taken as they are. Raises DataError if a
    process fails; the shards of the others stay.
    """
    assert options.out
    count = options.processes
    files = shard_files(manifest, options, count)
    owner = owners(len(manifest), count, options.batch_size)
    for index, file in enumerate(files):
        if file.is_file() and not is_current(file, manifest[owner == index], options):
            file.unlink()  # of other images under the same names
    missing = [Shard(index, count) for index, file in enumerate(files) if not file.is_file()]
    if len(missing) < count:
        print(f"{count - len(missing)} of {count} shards are there from an earlier run.")
    statuses = _run_workers(options, missing)
    failed = {shard: status for shard, status in statuses.items() if not files[shard.index].is_file()}
    if failed:
        names = ", ".join(f"{shard} ({_reason(status)})" for shard, status in failed.items())
        raise DataError(
            f"{options.out} was not written, shards failed: {names}; the same command again does only these."
        )
    merge(files, manifest, options)
    for file in files:
        file.unlink()
    return read_predictions(options.out).astype({"face": "Int64"})


def _reason(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


def _run_workers(options: InferenceOptions, shards: list[Shard]) -> dict[Shard, int]:
    workers: dict[Shard, subprocess.Popen] = {}
    with ended_like_ctrl_c():
        try:
            for shard in shards:
                workers[shard] = subprocess.Popen(
                    [*options.command, "--processes", "1", "--shard", str(shard)],
                    stdout=subprocess.DEVNULL,
                    env=os.environ | _share_of_machine(shard),
                    start_new_session=True,  # Ctrl-C comes here alone
                )
            ended = {shard: worker.wait() for shard, worker in workers.items()}
            if min(ended.values(), default=0) < 0:
                print(file=sys.stderr)  # a killed worker leaves its progress bar in the middle of a line
            return ended
        except KeyboardInterrupt:
            raise DataError("Stopped; the same command again does only the shards that are missing.") from None
        finally:
            for worker in workers.values():
                worker.terminate()
            for worker in workers.values():
                worker.wait()


def _share_of_machine(shard: Shard) -> dict[str, str]:
    """Environment of a worker: its part of the cores, and one of the GPUs if there are any."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // shard.count)))}
    devices = gpu_count()
    if devices:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(devices)))).split(",")
        share["CUDA_VISIBLE_DEVICES"] = visible[shard.index % devices]
    return share


def merge(files: list[Path], manifest: pd.DataFrame, options: InferenceOptions) -> None:
    """Write the tables of all shards, in order, as the one table --out in the order of the manifest.

    Raises DataError if a shard does not hold each of its rows exactly once, or if --out cannot be written.
    """
    assert options.out
    owner = owners(len(manifest), len(files), options.batch_size)
    paths = manifest["path"].to_numpy()
    columns: list[str] = []
    merged: list[dict[str, str]] = [{}] * len(manifest)
    for index, file in enumerate(files):
        places = np.flatnonzero(owner == index)
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
        if [row["path"] for row in rows] != paths[places].tolist():
            raise DataError(f"{file} does not hold its rows of {options.manifest}; delete it and start again.")
        columns = max(columns, list(reader.fieldnames or []), key=len)  # a shard without any face may lack some
        for place, row in zip(places, rows, strict=True):
            merged[place] = row
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(merged)
    write_text(text.getvalue(), options.out)
