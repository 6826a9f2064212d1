"""What both notebooks begin with: a prepared set, a base regressor for it, and the faces to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from AgeRegBaseline.AgeRegBaseline__main import main as train
from common.data.manifest import PreparedSet, age_bounds, load_prepared
from common.errors import DataError
from common.files import REPOSITORY
from common.pipeline import AgePredictBasicPipeline
from scripts.prepare_data import main as prepare

DRAWN = ["synthetic", "--count", "400", "--size", "64"]
SMALL = ["--backbone", "tiny", "--backbone-rate", "1", "--input-size", "48", "--batch-size", "32"]
SMALL += ["--learning-rate", "0.03", "--epochs", "4", "--limit", "300"]


def open_set(data: str, scratch: Path) -> PreparedSet:
    """The prepared folder `data`, relative to the repository; for "" 400 synthetic faces are made in `scratch`.

    Raises DataError if the folder is no prepared set.
    """
    if data:
        return load_prepared(REPOSITORY / data)
    folder = scratch / "drawn"
    if prepare([*DRAWN, "--out", str(folder)]):
        raise DataError(f"The synthetic faces could not be made in {folder}; see the line above.")
    return load_prepared(folder)


def open_base(weights: str, prepared: PreparedSet, scratch: Path) -> AgePredictBasicPipeline:
    """The base of a folder of weights, relative to the repository; for "" a small one is trained (seconds).

    The small one learns from the `base` split of the set, on the CPU, and its run folder is in `scratch`. Raises
    DataError or WeightsError.
    """
    if weights:
        return AgePredictBasicPipeline.from_weights(REPOSITORY / weights)
    size = ["--crop-size", str(prepared.crops.shape[1])]
    runs = ["--runs", str(scratch / "runs"), "--device", "cpu"]
    if train(["--data", str(prepared.folder), *SMALL, *size, *runs]):
        raise DataError("The small base could not be trained; see the line above.")
    folder = max((scratch / "runs" / "AgeRegBaseline").iterdir())  # the newest: named by its time
    return AgePredictBasicPipeline.from_weights(folder / "weights", "cpu")


def choose(prepared: PreparedSet, splits: Sequence[str], count: int) -> np.ndarray:
    """Rows [M] int64, ascending, of up to `count` faces of exact age in these splits, drawn with a fixed seed.

    Raises DataError if there is none.
    """
    low, high = age_bounds(prepared.manifest)
    rows = np.concatenate([prepared.rows(split) for split in splits])
    rows = np.sort(rows[low[rows] == high[rows]])
    if not len(rows):
        raise DataError(f"{prepared.folder} has no face of exact age in {', '.join(splits)}; change SPLITS.")
    return np.sort(np.random.default_rng(0).permutation(rows)[:count])
