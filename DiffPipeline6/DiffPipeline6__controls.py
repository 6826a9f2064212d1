"""The controls beside the claim: what of the gain comes from the references, and what from anything else.

    python DiffPipeline6/DiffPipeline6__controls.py --data data/prepared/utkface data/prepared/fairface --split val
    python DiffPipeline6/DiffPipeline6__controls.py --table weights/DiffPipeline6/controls.csv.gz

Trains, with the settings of the released weights (or of --config), for each seed: full; (a) the same head without
references; (b) the same head with another query's references, only when estimating, and in training too. Adds (c) the
re-calibrations of the base fitted on the same unseen references, and two baselines without training. Writes one CSV
of predictions, from which --table prints the table again.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from common.difference.bank import Found, ReferenceBank
from common.difference.embedded import EmbeddedFaces, embed_data
from common.evaluation.controls import (
    Estimates,
    control_parser,
    neighbour_median,
    recalibrated,
    residual_vote,
    run_controls,
    stored_settings,
)
from common.inference.terminal import until_closed
from common.training.runs import new_run
from DiffPipeline6.DiffPipeline6__config import DiffPipeline6Config
from DiffPipeline6.DiffPipeline6__dataset import find_references
from DiffPipeline6.DiffPipeline6__model import RELEASED
from DiffPipeline6.DiffPipeline6__train import Find, Run, fit, predict, start_run


def find_permuted(faces: EmbeddedFaces, bank: ReferenceBank, config: DiffPipeline6Config, view: int = 0) -> Found:
    """Control (b): what `find_references` finds, given to another face of the same rounded estimate."""
    return permute_references(find_references(faces, bank, config, view), faces, bank, config.seed)


def permute_references(found: Found, faces: EmbeddedFaces, bank: ReferenceBank, seed: int) -> Found:
    """Control (b): each face gets the references of another one with the same rounded estimate, never itself."""
    random = np.random.default_rng(seed)
    estimate = np.round(faces.estimates[0])
    source = np.arange(len(faces))
    for value in np.unique(estimate):
        rows = random.permutation(np.flatnonzero(estimate == value))
        source[rows] = np.roll(rows, 1)
    index, mask = found.index[source], found.mask[source]
    own = bank.id[index] == faces.id[:, None]  # [N, K]
    own |= (bank.person[index] == faces.person[:, None]) & (faces.person[:, None] != "")
    return Found(index, mask & ~own)


def trained(config: DiffPipeline6Config, folders: list[str], find: Find = find_references) -> Run:
    """A run trained to its end, with its best weights in place."""
    run = start_run(config, folders, new_run(config, "DiffPipeline6", folders), resume=False, find=find)
    fit(run)
    return run


def estimates(config: DiffPipeline6Config, folders: list[str], split: str, seeds: int) -> Iterator[Estimates]:
    """Yield what every variant says, the cheap ones once."""
    alone = replace(config, references=0, per_bin=0, aggregation="avg")
    for seed in range(seeds):
        for name, settings, find in (
            ("full", config, find_references),
            ("(a) no references", alone, find_references),
            ("(b) permuted in training too", config, find_permuted),
        ):
            run = trained(replace(settings, seed=seed), folders, find)
            faces = embed_data(config, folders, split, 0, run.pipeline)
            yield Estimates(name, seed, faces, predict(run, faces))
            if name == "full":
                first, permuted = run, replace(run, find=find_permuted)
                yield Estimates("(b) permuted references", seed, faces, predict(permuted, faces))
    bank, estimate = first.data.bank, faces.estimates[0]
    yield from recalibrated(bank, faces)
    found = find_references(faces, bank, config)
    yield Estimates("baseline: mean residual", 0, faces, residual_vote(bank, found, estimate))
    yield Estimates("baseline: median age", 0, faces, neighbour_median(bank, found, estimate))


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    arguments = control_parser(__doc__, RELEASED).parse_args(argv)

    def all_estimates() -> Iterator[Estimates]:
        settings = stored_settings(arguments, DiffPipeline6Config) | {"unfreeze_epoch": -1}
        return estimates(DiffPipeline6Config(**settings), arguments.data, arguments.split, arguments.seeds)

    return run_controls(arguments, "DiffPipeline6 controls", all_estimates)


if __name__ == "__main__":
    sys.exit(until_closed(main))
