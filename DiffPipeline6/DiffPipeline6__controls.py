"""The controls beside the claim: what of the gain comes from the references, and what from anything else.

    python DiffPipeline6__controls.py --data ../data/prepared/utkface ../data/prepared/fairface --split val
    python DiffPipeline6__controls.py --table ../weights/DiffPipeline6/controls_test.csv

Trains, with the settings of the released weights (or of --config), for each seed: full; (a) the same head without
references; (b) the same head with another query's references, only when estimating, and in training too. Adds (c) the
re-calibrations of the base fitted on the same unseen references, and two rivals that need no training. Writes one CSV
of predictions, from which --table prints the table again.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.checkpoints import CONFIG_FILE
from common.controls import control_table, neighbour_median, recalibrations, residual_vote
from common.embedded import EmbeddedFaces, embed_data
from common.errors import DataError, UserError
from common.runs import new_run
from DiffPipeline6.DiffPipeline6__config import DiffPipeline6Config
from DiffPipeline6.DiffPipeline6__dataset import find_references
from DiffPipeline6.DiffPipeline6__model import RELEASED
from DiffPipeline6.DiffPipeline6__train import Run, fit, predict, start_run


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="DIR", help="prepared folders")
    add("--split", choices=("val", "calib", "test"), default="val", help="faces to report on (val)")
    add("--seeds", type=int, default=3, help="trainings of each kind (3)")
    add("--config", type=Path, default=RELEASED / CONFIG_FILE, help="config.json of weights, or of a run")
    add("--limit", type=int, help="use at most this many faces of each split and set")
    add("--runs", default="", help="folder of run folders")
    add("--out", type=Path, default=Path("controls.csv"), metavar="CSV", help="write the predictions here")
    add("--table", type=Path, metavar="CSV", help="only print the table of stored predictions")
    return parser.parse_args(argv)


def read_settings(arguments: argparse.Namespace) -> DiffPipeline6Config:
    """The training settings stored with weights or a run; raises DataError if there are none."""
    try:
        stored = json.loads(arguments.config.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{arguments.config} cannot be read as settings ({error}); check --config.") from None
    known = {field.name for field in fields(DiffPipeline6Config)}
    settings = {key: value for key, value in stored.get("training", stored).items() if key in known}
    config = replace(DiffPipeline6Config(**settings), runs=arguments.runs, unfreeze_epoch=-1)
    return config if arguments.limit is None else replace(config, limit=arguments.limit)


def variants(config: DiffPipeline6Config) -> dict[str, DiffPipeline6Config]:
    """Settings of every head that is trained, by name of the variant."""
    return {
        "full": config,
        "(a) no references": replace(config, references=0, aggregation="avg"),
        "(b) permuted in training too": replace(config, permuted=True),
    }


def trained(config: DiffPipeline6Config, folders: list[str]) -> Run:
    """A run trained to its end, with its best weights in place."""
    run = start_run(config, folders, new_run(config, "DiffPipeline6", folders), resume=False)
    fit(run)
    return run


def estimates(
    config: DiffPipeline6Config, folders: list[str], split: str, seeds: int
) -> Iterator[tuple[str, int, EmbeddedFaces, np.ndarray]]:
    """Yield (variant, seed, faces, ages [N] years) of every variant, the cheap ones once."""
    for seed in range(seeds):
        for name, settings in variants(replace(config, seed=seed)).items():
            run = trained(settings, folders)
            faces = embed_data(config, folders, split, 0, run.pipeline)
            yield name, seed, faces, predict(run, faces)
            if name == "full":
                first = run
                run.config = replace(settings, permuted=True)
                yield "(b) permuted references", seed, faces, predict(run, faces)
                run.config = settings
    bank, estimate = first.data.bank, faces.estimates[0]
    yield "base", 0, faces, estimate
    unseen = ~bank.seen
    if unseen.sum() >= 2:
        for name, calibration in recalibrations(bank.estimates[unseen], bank.ages[unseen]).items():
            yield f"(c) {name}", 0, faces, calibration(estimate)
    found = find_references(faces, bank, config)
    yield "rival: mean residual", 0, faces, residual_vote(bank, found, estimate)
    yield "rival: median age", 0, faces, neighbour_median(bank, found, estimate)


def predictions_table(variant: str, seed: int, faces: EmbeddedFaces, ages: np.ndarray) -> pd.DataFrame:
    """Rows of one variant for the exactly labelled faces."""
    columns = {"id": faces.id, "person": faces.person, "true_age": faces.low, "age": ages}
    table = pd.DataFrame({key: value[faces.exact] for key, value in columns.items()})
    return table.assign(variant=variant, seed=seed)


def write_controls(arguments: argparse.Namespace) -> None:
    """Train and estimate everything, and write the predictions; raises DataError without --data."""
    if not arguments.data:
        raise DataError("Give prepared folders with --data, or stored predictions with --table.")
    parts = estimates(read_settings(arguments), arguments.data, arguments.split, arguments.seeds)
    table = pd.concat([predictions_table(*part) for part in parts], ignore_index=True)
    table = table.sort_values("variant", key=lambda names: names.map(_rank), kind="stable")
    table.to_csv(arguments.out, index=False, float_format="%.3f")
    print(f"predictions: {arguments.out}")


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    arguments = parse_arguments(argv)
    try:
        if not arguments.table:
            write_controls(arguments)
        stored = arguments.table or arguments.out
        print("\n".join(control_table(pd.read_csv(stored, dtype={"id": str, "person": str}))))
    except (UserError, FileNotFoundError) as error:
        print(f"DiffPipeline6 controls: {error}", file=sys.stderr)
        return 2
    return 0


def _rank(name: str) -> tuple[int, str]:
    return ("base", "full").index(name) if name in ("base", "full") else 2 + name.startswith("rival"), name


if __name__ == "__main__":
    sys.exit(main())
