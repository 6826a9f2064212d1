"""Corrected ages written into a predictions table."""

import numpy as np

from common.difference.corrector import CORRECT_BATCH, Correction, Corrector, Faces
from common.errors import DataError
from common.inference.base_estimates import BaseEstimates


def correct_table(base: BaseEstimates, corrector: Corrector, oracle: bool = False) -> Correction:
    """Correct the estimated faces of a predictions table in place (age, references); returns the correction.

    `oracle` looks for references at the true age: an upper bound, never an estimate. Raises DataError if an age is
    missing for it.
    """
    table, rows = base.table, base.good_rows
    good = table.loc[rows]
    at_age = good["true_age"].to_numpy(np.float32) if oracle else None
    if at_age is not None and np.isnan(at_age).any():
        raise DataError("--mode oracle needs the exact age of every face in the manifest.")
    faces = Faces(
        base.embeddings, good["base_age"].to_numpy(np.float32), good["id"].to_numpy(str),
        good["person"].fillna("").to_numpy(str),
    )  # fmt: skip
    blocks = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows // CORRECT_BATCH)) + 1)
    parts = [
        corrector.correct(Faces(*(array[block] for array in faces)), None if at_age is None else at_age[block])
        for block in blocks  # of the same rows, whatever failed before (see common/inference/shards.py)
    ]
    correction = Correction(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    table.loc[rows, "age"] = correction.age.astype(float)
    table.loc[rows, "n_references"] = correction.mask.sum(axis=1)
    table.loc[rows, "reference_ids"] = [
        " ".join(number[:8] for number in corrector.bank.id[index[mask]])
        for index, mask in zip(correction.index, correction.mask, strict=True)
    ]
    several = correction.mask.sum(axis=1) > 1
    spread = np.full(len(rows), np.nan)
    spread[several] = np.nanstd(correction.vote[several], axis=1)
    table.loc[rows, "reference_spread"] = spread
    return correction
