"""Average the weights of several trainings of one base regressor that started from one another.

    python scripts/average_weights.py RUN1/weights RUN2/weights --data data/prepared/utkface --out averaged/

The average of weights often estimates better than each (Izmailov et al., "Averaging Weights Leads to Wider Optima",
2018). The read-out, mean or median of the distribution, is chosen on the exactly labelled faces of the val split.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common.age_distribution import expectation, median
from common.bar import BAR, DECODES
from common.checkpoints import fingerprint, git_commit, load_bar, save_bar, trained_on
from common.errors import DataError, UserError, WeightsError
from common.manifest import load_prepared
from common.pipeline import AgePredictBasicPipeline


def average(models: list[BAR]) -> BAR:
    """A BAR whose floating-point tensors are the means of those of `models`, whose counters are the first one's.

    Raises WeightsError if the models differ in kind.
    """
    states = [model.state_dict() for model in models]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise WeightsError("The weights are of different kinds of models and cannot be averaged.")
    mean = {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    model = BAR(models[0].config)
    model.load_state_dict(mean)
    return model.to(memory_format=torch.channels_last).eval()


def validation_errors(model: BAR, folders: list[str]) -> dict[str, float]:
    """MAE (years) on the exact labels of val by read-out; raises DataError if there are none."""
    pipeline, errors = AgePredictBasicPipeline(model), {decode: [] for decode in DECODES}
    for folder in folders:
        prepared = load_prepared(folder)
        rows = prepared.rows("val")
        rows = rows[prepared.manifest["age"].notna().to_numpy()[rows]]
        truth = torch.from_numpy(prepared.manifest["age"].to_numpy(np.float32)[rows])
        log_probs = torch.from_numpy(pipeline.predict(prepared.crops[rows]).log_probs)
        for decode, read in (("mean", expectation), ("median", median)):
            errors[decode].append((read(log_probs, model.ages) - truth).abs())
    if not sum(map(len, errors["mean"])):
        raise DataError("No face in split 'val' has an exact age; check --data.")
    return {decode: round(torch.cat(parts).mean().item(), 3) for decode, parts in errors.items()}


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", type=Path, help="folders of weights")
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR", help="prepared folders with exact ages")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    arguments = parser.parse_args(argv)
    try:
        model = average([load_bar(folder) for folder in arguments.weights])
        errors = validation_errors(model, arguments.data)
        model.config = replace(model.config, decode=min(errors, key=errors.get))
        data = sorted({name for folder in arguments.weights for name in trained_on(folder) or []})
        notes = {"validation_error_years": errors, "averaged": [fingerprint(folder) for folder in arguments.weights]}
        save_bar(model, arguments.out, notes | {"data": data, "commit": git_commit()})
    except UserError as error:
        print(f"average_weights: {error}", file=sys.stderr)
        return 2
    print(f"validation error {errors}; weights in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
