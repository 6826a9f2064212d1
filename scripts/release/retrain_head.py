"""Train the embedding and the age head of a base on, on features of its backbone that are computed once.

    python scripts/release/retrain_head.py data/prepared/utkface data/prepared/publicfigures data/prepared/fairface \\
        --base weights/AgeRegBaseline --out runs/head --balance 0.3

The backbone stays as it is and sees every face of the base split once, without augmentation (features are kept in
<out>, so another try takes seconds); batches are those of AgeRegBaseline__main.py, by the same options. Writes
<out>/weights: the mean of the trained head and, by --keep-init, the one it started from. Prints the errors on val
before and after. Exit status: 0 done, 2 nothing could be done.
"""

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig
from AgeRegBaseline.AgeRegBaseline__dataset import FaceSet, TrainingOrder, evaluation_batches
from AgeRegBaseline.AgeRegBaseline__model import compute_loss
from AgeRegBaseline.AgeRegBaseline__selection import mean_error, results_by_set
from AgeRegBaseline.AgeRegBaseline__train import STANDARDISED_BY
from common.base.model import BAR, DECODES, BAROutput, central_view
from common.base.weights import fingerprint, git_commit, load_bar, save_bar, settings_of, trained_on
from common.data.predictions import prediction_table
from common.errors import UserError
from common.files import replacing, write_whole
from common.pipeline import RELEASED

TOGETHER = 64


@torch.inference_mode()
def features(model: BAR, faces: FaceSet, path: Path) -> Tensor:
    """What the backbone gives for all faces [N, width] float32, read from `path` if computed for the same before."""
    ids = np.concatenate([part["id"].to_numpy(str) for part in faces.manifests])
    if path.is_file():
        stored = np.load(path)
        if np.array_equal(stored["ids"], ids):
            return torch.from_numpy(stored["features"])
    model.eval()
    total = -(-len(faces) // TOGETHER)
    parts = []
    for batch in tqdm(evaluation_batches(faces, TOGETHER), total=total, desc=path.stem, unit="batch"):
        images = central_view(batch.crops, model.config)
        parts.append(model.backbone((images - model.mean) / model.std).float())
    found = torch.cat(parts)
    with replacing(path) as whole:
        np.savez(whole, ids=ids, features=found.numpy())
    return found


def read(model: BAR, given: Tensor) -> BAROutput:
    """Ages of backbone features [B, width] by the embedding and the head, as in `BAR.forward`."""
    return model.read((model.embedding(model.dropout(given)) - model.centre) / model.spread)


def train(model: BAR, given: Tensor, faces: FaceSet, config: AgeRegBaselineConfig) -> None:
    """Train embedding and head in place on backbone features [N, width] of the faces."""
    torch.manual_seed(config.seed)
    order = TrainingOrder(faces, config)
    layers = nn.ModuleList([model.embedding, model.head]).requires_grad_(True)
    optimizer = torch.optim.AdamW(layers.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.epochs * order.steps, pct_start=config.warm_up
    )
    low, high = (torch.from_numpy(bound).float() for bound in (faces.low, faces.high))  # [N] years
    model.train()
    for epoch in range(config.epochs):
        for numbers in order.epoch(epoch):
            loss = compute_loss(read(model, given[numbers]), low[numbers], high[numbers], config).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


@torch.inference_mode()
def errors(model: BAR, given: Tensor, faces: FaceSet, sets: list[str]) -> tuple[float, dict[str, Any]]:
    """Mean error over the sets (years) and metrics by set, of backbone features [N, width] of val."""
    names = np.repeat(sets, [len(part) for part in faces.manifests])
    manifest = pd.concat(faces.manifests, ignore_index=True)
    table = prediction_table(manifest, read(model, given).age.numpy()).assign(set=names)
    return mean_error(table), results_by_set(table)


def tell(title: str, by_set: dict[str, Any]) -> None:
    """Print natural and balanced MAE and bias (years) of every set with exact ages."""
    for name, result in by_set.items():
        if "exact" in result:
            every, ages = result["exact"]["all"], result["exact"]["by_age"]
            bias = ", ".join(f"{band} {ages[band]['bias']:+.1f}" for band in ("18-29", "65+") if band in ages)
            balanced = every.get("balanced_mae", float("nan"))
            means = f"MAE {every['mae']:.3f}, balanced {balanced:.2f}, bias {every['bias']:+.2f}"
            print(f"{title}, {name} val: {means}; {bias}")


def choose_decode(model: BAR, decodes: Sequence[str], seen: tuple[Tensor, FaceSet, list[str]]) -> dict[str, float]:
    """Set the read-out of the least error on val, given as for `errors`; returns the errors (years) by read-out."""
    by_decode = {}
    for decode in decodes:
        model.config = replace(model.config, decode=decode)
        by_decode[decode] = errors(model, *seen)[0]
    model.config = replace(model.config, decode=min(by_decode, key=lambda decode: by_decode[decode]))
    return by_decode


def retrain(arguments: argparse.Namespace) -> Path:
    """Train the head of a command line; returns the folder of the weights, raises DataError, WeightsError."""
    model = load_bar(arguments.base)
    keys = ("epochs", "batch_size", "learning_rate", "balance", "set_balance", "interval_fraction", "limit", "seed")
    chosen = {key: getattr(arguments, key) for key in keys}
    config = AgeRegBaselineConfig(
        **asdict(model.config), **chosen, init_weights=str(arguments.base), keep_init=arguments.keep_init
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    faces, val = (
        FaceSet(arguments.folders, split, config.crop_size, config.limit, seed=0) for split in ("base", "val")
    )
    mark = fingerprint(arguments.base)[:12]
    given, given_val = (
        features(model, part, arguments.out / f"{split}-{mark}.npz") for part, split in ((faces, "base"), (val, "val"))
    )
    sets = [folder.name for folder in arguments.folders]
    tell("before", errors(model, given_val, val, sets)[1])
    start = copy.deepcopy(model.state_dict())
    train(model, given, faces, config)
    state = model.state_dict()
    model.load_state_dict(
        {key: torch.lerp(value.float(), start[key].float(), config.keep_init) for key, value in state.items()}
    )
    by_decode = choose_decode(model, (arguments.decode,) if arguments.decode else DECODES, (given_val, val, sets))
    tell("after", errors(model, given_val, val, sets)[1])
    evenly = np.unique(np.linspace(0, len(given) - 1, STANDARDISED_BY).round().astype(int))
    with torch.no_grad():
        model.standardise(read(model, given[evenly]).embedding)
    notes = {
        "validation_error_years": by_decode, "training": settings_of(config),
        "data": sorted({*sets, *(trained_on(arguments.base) or [])}), "commit": git_commit(),
    }  # fmt: skip
    write_whole(arguments.out / "config.json", json.dumps(settings_of(config), indent=1))
    return save_bar(model, arguments.out / "weights", notes)


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="DIR", help="prepared folders (see scripts/prepare_data.py)")
    add("--base", type=Path, default=RELEASED, metavar="DIR", help="base weights to go on from (the released ones)")
    add("--decode", choices=DECODES, help="read-out of the age (the better one on val)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of features and weights")
    for key, value in (("epochs", 15), ("batch_size", 256), ("limit", 0), ("seed", 0)):
        add(f"--{key.replace('_', '-')}", type=int, default=value, help=f"as in AgeRegBaseline__main.py ({value})")
    for key, share in (
        ("learning_rate", 5e-4), ("balance", 0.3), ("set_balance", 0.7), ("interval_fraction", 0.3), ("keep_init", 0.0)
    ):  # fmt: skip
        add(f"--{key.replace('_', '-')}", type=float, default=share, help=f"as in AgeRegBaseline__main.py ({share:g})")
    try:
        print(f"weights: {retrain(parser.parse_args(argv))}")
    except (UserError, ValueError) as error:
        print(f"retrain_head: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
