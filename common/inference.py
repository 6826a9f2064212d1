"""What every `__infer2` shares: its command line, its inputs, its table and CSV, its exit status."""

import argparse
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from common.age_distribution import spread
from common.crops import decode_image, resize_crop
from common.errors import DataError, ImageError
from common.intervals import bounds, load_calibrator
from common.manifest import CROPS, CropRows, age_bounds, open_crops, read_manifest
from common.metrics import paired_bootstrap, summarise
from common.photo_files import Listing, list_pictures, not_looked_at, read_bytes
from common.pipeline import AgePredictBasicPipeline
from common.predictions import COLUMNS, OK, check_out, without_numbers, write_predictions
from common.shards import check_sharding, take_shard
from common.tables import error_figures

NO_FACE = "no face found"
OWN_ID = "own_id"  # column of a manifest's ids where they are not those of the pictures' bytes
AUTO = "auto"  # --person: whoever of the bank the face is recognised as


@dataclass(frozen=True)
class FaceInput:
    """One face to estimate: its place among the faces of its picture, its box in pixels, its crop."""

    face: int
    box: tuple[float, float, float, float] | None
    crop: np.ndarray  # [S, S, 3] uint8


def demo_photo() -> Path:
    """The portrait of the demo: Eileen Collins, 1999 (NASA, public domain), from scikit-image."""
    import skimage.data

    return Path(skimage.data.__file__).parent / "astronaut.png"


def list_inputs(arguments: argparse.Namespace) -> pd.DataFrame:
    """Manifest of everything to be estimated, with a column `file`; raises DataError if there is nothing.

    With --shard it is a part, and `arguments.out` becomes the file of this part.
    """
    if getattr(arguments, "out", None):
        check_out(arguments.out)
    if arguments.manifest and arguments.inputs:
        raise DataError("Give photos or --manifest, not both.")
    if arguments.split and not arguments.manifest:
        raise DataError("--split needs --manifest.")
    if "shard" in arguments and (arguments.shard or arguments.processes > 1):
        check_sharding(arguments)
    if arguments.manifest:
        manifest = read_manifest(arguments.manifest)
        manifest["file"] = [str(arguments.manifest.parent / path) for path in manifest["path"]]
        manifest = manifest[manifest["split"] == arguments.split] if arguments.split else manifest
        if manifest.empty:
            part = f" in split '{arguments.split}'" if arguments.split else ""
            raise DataError(f"{arguments.manifest} has no rows{part}.")
        return take_shard(manifest, arguments) if getattr(arguments, "shard", None) else manifest
    drawn = getattr(arguments, "explain", None)
    files = [path for name in arguments.inputs or [demo_photo()] for path in _files(Path(name), drawn)]
    manifest = pd.DataFrame({"path": [str(path) for path in files], "file": [str(path) for path in files]})
    for column in ("id", "person", "gender", "group"):
        manifest[column] = ""
    return manifest.assign(age=np.nan, age_min=np.nan, age_max=np.nan)


def _files(path: Path, drawn: Path | None) -> list[Path]:
    """The pictures of a folder and those below it, but not what was drawn in a folder within it; or the file itself."""
    if not path.is_dir():
        return [path]
    listing = list_pictures(path, skip=drawn)
    found = sorted([*listing.files, *listing.unreadable])  # a folder that cannot be read fails like any other input
    if said := not_looked_at(Listing(skipped=listing.skipped)):
        print(f"{path}: {said}", file=sys.stderr)
    return found or [path]  # an empty folder stays in the list and is reported like any other bad input


def packed_crops(manifest: pd.DataFrame, path: Path | None) -> np.ndarray | CropRows | None:
    """The crops [N, S, S, 3] uint8 of the rows of a prepared folder's manifest.csv; None for any other input."""
    if path is None or path.name != "manifest.csv" or not (path.parent / CROPS).is_file():
        return None
    return open_crops(path.parent, manifest)


def read_faces(
    manifest: pd.DataFrame, arguments: argparse.Namespace, pipeline: AgePredictBasicPipeline
) -> Iterator[tuple[int, str, list[FaceInput] | str]]:
    """Yield (row, id, faces or the reason why there are none) for every input, reading one picture at a time.

    The manifest.csv of a prepared folder is read from its crops.npy; otherwise pictures are opened, faces found and
    aligned, of a labelled picture only the largest one.
    """
    size = pipeline.model.config.crop_size
    packed = packed_crops(manifest, arguments.manifest)
    for place, (row, record) in enumerate(zip(manifest.index, manifest.itertuples(), strict=True)):
        if packed is not None:
            yield row, record.id, [FaceInput(0, None, resize_crop(np.array(packed[place]), size))]
            continue
        number = ""
        try:
            data = read_bytes(record.file, record.path)
            number = hashlib.sha1(data).hexdigest()  # never the manifest's own: identity is the bytes
            image = decode_image(data, record.path)
        except ImageError as error:
            yield row, number, str(error).removeprefix(f"{record.path}: ")
            continue
        if arguments.crops:
            yield row, number, [FaceInput(0, None, resize_crop(image, size))]
            continue
        try:
            found = pipeline.faces(image)[: 1 if arguments.manifest else None]
        except Exception as error:  # of a picture of odd proportions: OpenCV and NumPy raise whatever they do
            yield row, number, f"faces could not be looked for ({' '.join(str(error).split()) or type(error).__name__})"
            continue
        faces = [FaceInput(place, face.box, crop) for place, (face, crop) in enumerate(found)]
        yield row, number, faces or NO_FACE


@dataclass
class BaseEstimates:
    """What the base regressor says of all inputs, M faces of which were estimated.

    table: predictions table, failed inputs keeping a row of their own; good_rows [M]: its rows with a face;
    embeddings [M, E] float32; spreads [M] float years: of the predicted distributions; crops [M]: each [S, S, 3]
    uint8, kept only where they are to be drawn or recognised.
    """

    table: pd.DataFrame
    good_rows: np.ndarray
    embeddings: np.ndarray
    spreads: np.ndarray
    crops: list[np.ndarray]


def estimate_base(
    manifest: pd.DataFrame, arguments: argparse.Namespace, pipeline: AgePredictBasicPipeline
) -> BaseEstimates:
    """Estimate all inputs by the base regressor, in batches; raises WeightsError if it cannot be `--fast`."""
    if getattr(arguments, "fast", False):
        pipeline.compute_in_8_bits()
    low, high = age_bounds(manifest)
    manifest = manifest.assign(
        true_age_min=low, true_age_max=high, true_age=np.where(low == high, low, np.nan), n_references=0
    )
    known_columns = [name for name in COLUMNS if name in manifest.columns and name != "age"]  # `age` is an estimate
    records: list[dict] = []
    looked_at_again = bool(getattr(arguments, "explain", None)) or getattr(arguments, "person", None) == AUTO
    estimates = _Estimates(pipeline, arguments.batch_size, looked_at_again)
    inputs = tqdm(read_faces(manifest, arguments, pipeline), **_progress(arguments, len(manifest)))
    for place, (row, number, faces) in enumerate(inputs, 1):
        own = manifest.loc[row, "id"]
        known = manifest.loc[row, known_columns].to_dict() | {"id": number}
        known |= {OWN_ID: own} if own not in ("", number) else {}
        if isinstance(faces, str):
            records.append(known | {"status": faces})
        for face in faces if isinstance(faces, list) else []:
            box = "" if face.box is None else " ".join(f"{edge:.0f}" for edge in face.box)
            records.append(known | {"face": face.face, "box": box, "status": OK})
            estimates.add(records[-1], face.crop)
        if place % arguments.batch_size == 0:
            estimates.flush()  # a batch is of the same rows, whatever failed before (see common/shards.py)
    estimates.flush()
    numbers = [
        name for name in COLUMNS if name.startswith(("true_age", "interval")) or name.endswith(("age", "spread"))
    ]
    kinds = {"face": "Int64", "reference_ids": object} | dict.fromkeys(numbers, float)
    further = [OWN_ID] if any(OWN_ID in record for record in records) else []
    table = pd.DataFrame(records, columns=[*COLUMNS, *further]).astype(kinds)
    estimated = np.flatnonzero(table["status"] == OK)
    fine = ~without_numbers(table)[estimated]
    crops = [crop for crop, keep in zip(estimates.crops, fine, strict=bool(estimates.crops)) if keep]
    embeddings, spreads = estimates.all_embeddings()[fine], np.array(estimates.spreads)[fine]
    return BaseEstimates(table, estimated[fine], embeddings, spreads, crops)


def _progress(arguments: argparse.Namespace, count: int) -> dict:
    shard = getattr(arguments, "shard", None)
    named = {"desc": f"shard {shard}", "position": shard.index} if shard else {}
    return named | {"total": count, "unit": "picture", "disable": count < 20}


class _Estimates:
    """Collects crops, estimates them a batch at a time and writes the ages into their records."""

    def __init__(self, pipeline: AgePredictBasicPipeline, batch_size: int, keep_crops: bool):
        self.pipeline, self.batch_size, self.keep_crops = pipeline, batch_size, keep_crops
        self.waiting: list[tuple[dict, np.ndarray]] = []
        self.embeddings: list[np.ndarray] = []
        self.spreads: list[float] = []
        self.crops: list[np.ndarray] = []

    def add(self, record: dict, crop: np.ndarray) -> None:
        self.waiting.append((record, crop))
        if self.keep_crops:
            self.crops.append(crop)
        if len(self.waiting) >= self.batch_size:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            prediction = self.pipeline.predict(np.stack([crop for _, crop in self.waiting]), self.batch_size)
            for (record, _), age in zip(self.waiting, prediction.ages, strict=True):
                record["base_age"] = record["age"] = float(age)
            self.embeddings.append(prediction.embeddings)
            self.spreads.extend(spread(prediction.log_probs, self.pipeline.ages).tolist())
            self.waiting.clear()

    def all_embeddings(self) -> np.ndarray:
        width = self.pipeline.model.config.embedding_size
        return np.concatenate([np.empty((0, width), np.float32), *self.embeddings])


def add_intervals(base: BaseEstimates, probability: float, weights: Path, mode: str) -> None:
    """Fill interval_low and interval_high of the table; raises WeightsError if these weights have no intervals."""
    good = base.table.loc[base.good_rows]
    calibrator = load_calibrator(weights, mode)
    half_width = calibrator.half_width(good["base_age"].to_numpy(float), base.spreads, probability)
    low, high = bounds(good["age"].to_numpy(float), half_width)
    base.table.loc[base.good_rows, "interval_low"], base.table.loc[base.good_rows, "interval_high"] = low, high


def print_result(table: pd.DataFrame, corrected: bool = False, limit: int = 40) -> None:
    """Print the ages (of up to `limit` faces), the errors where ages are known, and what failed (on stderr).

    `corrected` shows the base's estimate beside the age.
    """
    good, failed = table[table["status"] == OK], table[table["status"] != OK]
    if 0 < len(good) <= limit:
        labelled = good["true_age_min"].notna().any()
        base = f" {'base':>6s}" if corrected else ""
        span = "    interval" if good["interval_low"].notna().any() else ""
        print(f"{'picture':44s} {'face':>4s}{base} {'age':>6s}{span}" + ("  true age" if labelled else ""))
        for row in good.itertuples():
            truth = "" if np.isnan(row.true_age_min) else f"  {_span(row.true_age_min, row.true_age_max)}"
            base = f" {row.base_age:6.1f}" if corrected else ""
            span = "" if np.isnan(row.interval_low) else f"  {row.interval_low:3.0f} to {row.interval_high:3.0f}"
            print(f"{_shortened(row.path, 44):44s} {row.face:4d}{base} {row.age:6.1f}{span}{truth}")
    elif len(good):
        print(f"{len(good)} faces estimated.")
    labelled = good[good["true_age_min"].notna()]
    if len(labelled):
        for kind, part in summarise(labelled).items():
            if isinstance(part, dict):
                print(f"{kind} labels: " + "  ".join(f"{key} {value}" for key, value in part["all"].items()))
    for row in failed.itertuples():
        print(f"not estimated: {row.path}: {row.status}", file=sys.stderr)


def report(table: pd.DataFrame, arguments: argparse.Namespace) -> int:
    """Print the ages and their errors and write --out (of a shard only its part of it); returns the exit status.

    Raises DataError if that place cannot be written.
    """
    without_numbers(table)
    if arguments.shard:
        write_predictions(table, arguments.out)
        print(f"shard {arguments.shard}: {arguments.out}; merge all by --processes {arguments.shard.count}")
        return exit_status(table)
    print_result(table, corrected=arguments.mode != "bypass")
    print_gain(table)
    if arguments.out:
        if arguments.processes == 1:  # else it was merged
            write_predictions(table, arguments.out)
        print(f"predictions: {arguments.out}")
    return exit_status(table)


def print_gain(table: pd.DataFrame) -> None:
    """Print errors of base and corrected age side by side with the paired interval, where exact ages are known."""
    good = table[(table["status"] == OK) & (table["true_age_min"] == table["true_age_max"])]
    truth = good["true_age_min"].to_numpy(float)
    base, age = (good[name].to_numpy(float) - truth for name in ("base_age", "age"))
    if len(good) < 2 or np.array_equal(base, age):
        return
    for name, error in (("base", base), ("corrected", age)):
        print("{:9s} MAE {}  CS@5 {} %  bias {}".format(name, *error_figures(error)))
    gain = paired_bootstrap(base, age, good["person"].to_numpy(str))
    print(
        f"gain {gain['gain']:+.3f} years, 95 % interval {gain['low']:+.3f} to {gain['high']:+.3f} ({len(good)} faces)"
    )


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[-(width - 1) :]


def exit_status(table: pd.DataFrame) -> int:
    """0 if every input was estimated, 1 if some failed, 2 if all did."""
    good = table["status"] == OK
    return 0 if good.all() else 1 if good.any() else 2
