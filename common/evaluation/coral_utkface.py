"""The published evaluation on UTKFace: the user's own archive and copy of the CORAL lists in, one figure out.

The lists (Cao et al., 2020, ages 21 to 60) are `datalist/utk/UTK_{train,test}_coral.csv` of github.com/nhshin-mcl/MWR.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.base.regressor import AgePredictBasicPipeline
from common.base.weight_files import CONFIG_FILE
from common.data.crop_store import MADE, CropStore
from common.data.manifest import load_prepared
from common.data.packing import keys_of, pack_crops, read_ids
from common.data.predictions import prediction_table, write_predictions
from common.data.prepare import Preparation, open_source
from common.data.protocols import read_published
from common.data.readers import UTKFACE_NAME
from common.data.source import Entry, Source
from common.difference.bank import load_bank
from common.errors import DataError, WeightsError
from common.evaluation.metrics import point_metrics
from common.files import only_writer, write_whole

NAME = "coral-utkface"
LISTS = {"train": "UTK_train_coral.csv", "test": "UTK_test_coral.csv"}
WHERE = "--lists takes the folder datalist/utk of a copy of github.com/nhshin-mcl/MWR"
AGES = (21, 60)  # years, both ends included
LISTED = 3287  # images of the published test list
NAMED = 5  # missing images that are printed; left_out.csv has all
CHIP = ".chip.jpg"  # ends the name of an aligned crop; the lists name images without it
TRAINED_ON = "the weights were trained on this image"


@dataclass(frozen=True)
class Asked:
    """Archive or folder of UTKFace, folder of the lists, base weights, a set they were trained on, device, output."""

    source: Path
    lists: Path
    weights: Path
    trained_on: Path | None
    device: str
    out: Path


@dataclass(frozen=True)
class Training:
    """What is known of the images that weights were trained on: SHA-1 of the bytes, names, and who says so."""

    ids: set[str]
    names: set[str]
    known_by: list[str]


def plain(path: str) -> str:
    """The name of a UTKFace image as the lists have it: without folders and without .chip.jpg."""
    return path.rsplit("/", 1)[-1].removesuffix(CHIP)


def read_lists(folder: Path) -> dict[str, list[str]]:
    """The names of both lists by part; raises DataError if they are absent, empty, mixed up or of another kind."""
    paths = {part: folder / name for part, name in LISTS.items()}
    for path in paths.values():
        if not path.is_file():
            raise DataError(f"There is no list {path}; {WHERE}.")
    listed = read_published([f"{part}={path}" for part, path in paths.items()])
    names: dict[str, list[str]] = {part: [] for part in LISTS}
    for name, part in listed.items():
        match = UTKFACE_NAME.match(plain(name))
        if not match or not AGES[0] <= int(match[1]) <= AGES[1]:
            raise DataError(f"{paths[part]} names '{name}', which is no UTKFace image of 21 to 60 years; {WHERE}.")
        names[part].append(plain(name))
    for part, path in paths.items():
        if not names[part]:
            raise DataError(f"{path} names no image; {WHERE}.")
    return names


def read_source(path: Path, out: Path) -> tuple[Source, dict[str, Entry], dict[str, str]]:
    """A UTKFace archive or folder, its images by their listed name, aligned crops preferred, and its problems."""
    source, found = open_source(Preparation("utkface", out, path))
    entries = sorted((entry for entry in found if isinstance(entry, Entry)), key=lambda entry: entry.ready_crop)
    return source, {plain(entry.path): entry for entry in entries}, {plain(p.path): p.reason for p in source.problems}


def training_of(weights: Path, fingerprint: str, prepared: Path | None) -> Training:
    """Training images known by a prepared set (its base split) and by reference banks of these weights beside them.

    Raises DataError if the weights do not say that they were trained on that set.
    """
    training = Training(set(), set(), [])
    if prepared:
        named = json.loads((weights / CONFIG_FILE).read_text()).get("data") or []
        if prepared.resolve().name not in named:
            raise DataError(f"{weights} were not trained on {prepared}; --data takes a UTKFace set that they were.")
        manifest = load_prepared(prepared).manifest
        base = manifest[manifest["split"] == "base"]
        training.ids.update(base["id"])
        training.names.update(map(plain, base["path"]))
        training.known_by.append(str(prepared))
    for path in sorted(weights.resolve().parent.glob("*/bank.npz")):
        try:
            bank = load_bank(path, fingerprint)
        except WeightsError:  # of other weights
            continue
        training.ids.update(bank.id[bank.seen].tolist())
        training.known_by.append(f"{path.parent.name}/{path.name}")
    return training


def told_of(training: Training, shared: int, tested: int) -> str:
    """One sentence on whether listed images were trained on: `shared` of the archive's known, `tested` of the test."""
    unknown = "Whether the weights were trained on listed test images is not known: "
    if not training.known_by:
        return unknown + "no reference bank of them is beside them, and --data names no set they were trained on."
    known = f"{len(training.ids):,} training images that {' and '.join(training.known_by)} name"
    if not shared:
        return unknown + f"none of the {known} is a listed image of this archive."
    return f"Of the {known}, {shared:,} are listed images of this archive, {tested:,} of the test list (left out)."


def run(arguments: argparse.Namespace) -> None:
    """Run scripts/run_protocol.py's arguments and print the lines; raises DataError for one missing or too many."""
    if not (arguments.source and arguments.lists):
        raise DataError(f"{NAME} needs --source (UTKFace) and --lists; {WHERE}.")
    wrong = [name for name in ("split_file", "ages", "splits_only") if getattr(arguments, name)]
    wrong += ["train"] * (arguments.train is not None)
    if wrong:
        raise DataError(f"{NAME} takes no --{wrong[0].replace('_', '-')}.")
    named = (getattr(arguments, name) for name in ("source", "lists", "weights", "folder", "device", "out"))
    print("\n".join(evaluate(Asked(*named))))


def evaluate(asked: Asked) -> list[str]:
    """Estimate the listed test images; write predictions.csv, left_out.csv and metrics.json; return lines to print.

    The same command goes on with the crops made before. Raises DataError or WeightsError.
    """
    if any((asked.out / name).exists() for name in ("protocol.json", "manifest.csv")):
        raise DataError(f"{asked.out} holds another run or a prepared set; give another --out.")
    names = read_lists(asked.lists)
    pipeline = AgePredictBasicPipeline.from_weights(asked.weights, asked.device)
    training = training_of(asked.weights, pipeline.fingerprint, asked.trained_on)
    source, entries, problems = read_source(asked.source, asked.out)
    listed = [entries[name] for part in LISTS for name in names[part] if name in entries]
    ids = read_ids(source, listed)
    seen = {plain(e.path) for e in listed if ids[e.path] in training.ids or plain(e.path) in training.names}
    left_out = {name: problems.get(name, f"not in {source.root.name}") for name in names["test"] if name not in entries}
    left_out |= {name: TRAINED_ON for name in names["test"] if name in seen}
    tested = [entries[name] for name in names["test"] if name not in left_out]
    table, unusable = _estimated(pipeline, source, tested, ids, asked.out) if tested else (pd.DataFrame(), {})
    left_out |= unusable
    if table.empty:
        name, reason = next(iter(left_out.items()))
        told = f"Not one of the {len(names['test']):,} listed test images can be used"
        raise DataError(f"{told}; {name}: {reason.rstrip('.')}.")
    metrics = {
        "protocol": NAME,
        "lists": {name: hashlib.sha1((asked.lists / name).read_bytes()).hexdigest() for name in LISTS.values()},
        "weights": pipeline.fingerprint,
        "listed": len(names["test"]),
        "left_out": len(left_out),
        "training_images": told_of(training, len(seen), len(seen & set(names["test"]))),
        "base": point_metrics(table["age"].to_numpy(), table["true_age"].to_numpy()),
    }
    _write(asked.out, table, left_out, metrics)
    return summary(metrics, left_out, asked.out)


def _estimated(
    pipeline: AgePredictBasicPipeline, source: Source, tested: list[Entry], ids: pd.Series, out: Path
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Predictions of the test images, and why others have none, by listed name; crops in `out` until all are made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with only_writer(out / MADE):
            store = CropStore(out, pipeline.config.crop_size)
            try:
                packed = pack_crops(source, tested, ids, store, pipeline.config.crop_size)
                rows = np.flatnonzero(packed["problem"] == "")
                crops = store.crops(keys_of(packed, rows))
                ages = pipeline.predict([crops[row] for row in range(len(rows))]).ages if len(rows) else np.empty(0)
            finally:
                store.close()
            store.discard()
    except OSError as error:
        raise DataError(f"{error.filename or out} cannot be read or written ({error.strerror}).") from None
    manifest = pd.DataFrame([vars(entry) for entry in tested], columns=list(Entry.__annotations__)).iloc[rows]
    manifest = manifest.assign(id=packed["id"].iloc[rows]).astype({"age": float, "age_min": float, "age_max": float})
    reasons = zip(tested, packed["problem"], strict=True)
    unusable = {plain(e.path): reason.removeprefix(f"{e.path}: ") for e, reason in reasons if reason}
    return prediction_table(manifest.reset_index(drop=True), ages), unusable


def _write(out: Path, table: pd.DataFrame, left_out: dict[str, str], metrics: dict[str, Any]) -> None:
    write_predictions(table, out / "predictions.csv")
    write_whole(out / "left_out.csv", pd.DataFrame(left_out.items(), columns=["path", "reason"]).to_csv(index=False))
    write_whole(out / "metrics.json", json.dumps(metrics, indent=1) + "\n")


def summary(metrics: dict[str, Any], left_out: dict[str, str], out: Path) -> list[str]:
    """The figure, of how many of the listed images it is, which are missing, and what is known of the training."""
    figures, listed = metrics["base"], metrics["listed"]
    lines = [
        f"UTKFace, CORAL test list, ages 21-60, {figures['n']:,} of {listed:,} listed images: "
        f"MAE {figures['mae']:.2f} years, CS@5 {figures['cs5']:.1f} %"
    ]
    if left_out:
        some = "; ".join(f"{name} ({reason.rstrip('.')})" for name, reason in list(left_out.items())[:NAMED])
        more = " …" if len(left_out) > NAMED else ""
        lines.append(f"Not a figure of the whole list: {len(left_out):,} images are missing: {some}{more}")
        lines.append(f"All of them: {out / 'left_out.csv'}")
    if listed != LISTED:
        lines.append(f"Not the published list: that names {LISTED:,} test images, this one {listed:,}.")
    return [*lines, metrics["training_images"]]
