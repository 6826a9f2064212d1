"""The base estimates of all inputs of an inference, and their intervals."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from common.base.distribution import spread
from common.base.intervals import bounds, load_calibrator
from common.base.regressor import AgePredictBasicPipeline
from common.data.manifest import age_bounds
from common.data.predictions import COLUMNS, OK, without_numbers
from common.inference.inputs import read_faces
from common.inference.options import AUTO

OWN_ID = "own_id"  # column of a manifest's ids where they are not those of the pictures' bytes


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
            estimates.flush()  # a batch is of the same rows, whatever failed before (see common/inference/shards.py)
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
