"""What a training selects by: errors on val, set by set, and weights averaged with those it started from."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig
from common.base.weights import load_bar
from common.data.predictions import to_csv
from common.evaluation.metrics import not_finite_words, summarise
from common.training.loop import Validation
from common.training.runs import check_finite


def selection_error(result: dict[str, Any], epoch: int = 0) -> float:
    """What a model is chosen by: MAE on exact labels, or without any the mean distance to the interval (years).

    Raises DataError if an estimate of that epoch (from 1; 0: of the start) is not finite.
    """
    if result["failed"]:
        words = not_finite_words(result["failed"], result["faces"] + result["failed"])
        check_finite(float("nan"), f"validation error ({words})", epoch)
    return result["exact"]["all"]["mae"] if "exact" in result else result["interval"]["all"]["distance"]


def results_by_set(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Metrics of predictions with a column `set`, by set; only sets with exact labels where there are any."""
    results = {str(name): summarise(part) for name, part in table.groupby("set", sort=False)}
    exact = {name: result for name, result in results.items() if "exact" in result}
    return exact or results


def mean_error(table: pd.DataFrame, epoch: int = 0) -> float:
    """Mean over the sets of their `selection_error` (years): a small set of real ages counts as much as a large one.

    Raises DataError as that does.
    """
    selection_error(summarise(table), epoch)
    return float(np.mean([selection_error(result, epoch) for result in results_by_set(table).values()]))


def validated(table: pd.DataFrame, epoch: int) -> Validation:
    """What predictions of val say of epoch `epoch` (from 1; 0: of the start); raises DataError as `selection_error`."""
    result, error, by_set = summarise(table), mean_error(table, epoch), results_by_set(table)
    columns = {"val_mae": error} if "exact" in result else {}
    columns |= {"val_hit_rate": result["interval"]["all"]["hit_rate"]} if "interval" in result else {}
    if "exact" in result and len(by_set) > 1:
        for name, part in by_set.items():
            figures = part["exact"]["all"]
            columns |= {f"val_mae_{name}": figures["mae"], f"val_bias_{name}": figures["bias"]}
            columns[f"val_balanced_{name}"] = figures.get("balanced_mae", float("nan"))
    return Validation(error, columns, to_csv(table))


def mean_with_init(state: dict[str, Tensor], config: AgeRegBaselineConfig) -> dict[str, Tensor]:
    """The weighted mean of trained weights and those of config.init_weights (counters as trained).

    After Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022. Raises WeightsError.
    """
    start = load_bar(config.init_weights).state_dict()
    return {
        name: torch.lerp(value, start[name], config.keep_init) if value.is_floating_point() else value
        for name, value in state.items()
    }
