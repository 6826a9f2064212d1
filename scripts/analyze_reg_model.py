"""Report on the base regressor alone, from its weights and prepared crops, or from stored predictions.

    python scripts/analyze_reg_model.py --manifest data/prepared/utkface/manifest.csv --split test --out report.html
    python scripts/analyze_reg_model.py weights/AgeRegBaseline/predictions/utkface_test.csv.gz --out report.html
    python scripts/analyze_reg_model.py --compare base=a.csv corrected=b.csv other-tool=c.csv --out report.html

The network is called directly, in plain batches over crops.npy; scripts/analyze_reg_model_on_actual_pipe.py goes
through the pipeline that inference uses, and has to find the same. Predictions of any pipeline can be read. With
predictions, --manifest is only where the crops of the worst faces are. --compare takes predictions and any CSV of
id,age and sets them against the first (the analysed predictions, if there are any).
Exit status: 0 done, 2 nothing could be done.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from AgeRegBaseline.AgeRegBaseline__model import load_model
from common.base.intervals import bounds, load_calibrator
from common.base.model import BAR, central_view, estimate
from common.base.prediction import spread
from common.base.weight_files import fingerprint
from common.data.manifest import load_prepared
from common.data.predictions import prediction_table
from common.errors import DataError
from common.faces.alignment import resize_crop
from common.files import plain_name
from common.inference.terminal import until_closed
from common.pipeline import pick_device
from scripts.report.command import check_words, deliver, report_parser, run_command, source_name
from scripts.report.numbers import load_predictions


@torch.inference_mode()
def estimate_rows(
    model: BAR, crops: np.ndarray, rows: np.ndarray, batch_size: int, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Ages [M] and spreads of their distributions [M], in years, of the rows [M] of crops [N, S, S, 3] uint8."""
    size, years = model.config.crop_size, model.ages.cpu().numpy()
    ages, spreads = [], []
    for start in range(0, len(rows), batch_size):
        batch = np.stack([resize_crop(np.array(crops[row]), size) for row in rows[start : start + batch_size]])
        output = estimate(model, central_view(torch.from_numpy(batch).to(device), model.config))
        ages.append(output.age.cpu().numpy())
        spreads.append(spread(output.log_probs.cpu().numpy(), years))
    return np.concatenate(ages), np.concatenate(spreads)


def estimate_manifest(arguments: argparse.Namespace) -> pd.DataFrame:
    """Predictions of the weights for a manifest with packed crops; raises DataError or WeightsError."""
    path = arguments.manifest
    if not path.is_file():
        raise DataError(f"There is no manifest at {path}; check the name.")
    prepared = load_prepared(path.parent)
    if path.name != "manifest.csv":
        raise DataError(f"{path} is not the manifest.csv that belongs to the crops.npy beside it; use --split.")
    rows = prepared.rows(arguments.split) if arguments.split else np.arange(len(prepared.manifest))
    if not len(rows):
        part = f" in split '{arguments.split}'" if arguments.split else ""
        raise DataError(f"{path} has no rows{part}.")
    device = pick_device(arguments.device)
    model = load_model(arguments.weights, device)
    ages, spreads = estimate_rows(model, prepared.crops, rows, arguments.batch_size, device)
    table = prediction_table(prepared.manifest.iloc[rows], ages)
    if arguments.interval is not None:
        calibrator = load_calibrator(arguments.weights, "bypass", fingerprint(arguments.weights))
        half_width = calibrator.half_width(ages.astype(float), spreads, arguments.interval)
        table["interval_low"], table["interval_high"] = bounds(ages.astype(float), half_width)
    return table


def run(arguments: argparse.Namespace) -> int:
    """Make the report; raises UserError for anything that cannot be used."""
    check_words(arguments)
    table, source = None, ""
    if arguments.predictions:
        if arguments.split:
            raise DataError("--split chooses what to estimate; stored predictions are analysed whole.")
        table, source = load_predictions(arguments.predictions), plain_name(arguments.predictions).stem
    elif arguments.manifest:
        table, source = estimate_manifest(arguments), source_name(arguments)
    elif not arguments.compare:
        raise DataError("Give a predictions CSV, or --manifest for the weights to estimate, or --compare.")
    deliver(arguments, table, source)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = report_parser(__doc__)
    parser.add_argument("predictions", nargs="?", type=Path, metavar="PREDICTIONS", help="stored predictions (CSV)")
    arguments = parser.parse_args(argv)
    return run_command("analyze_reg_model", lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(until_closed(main))
