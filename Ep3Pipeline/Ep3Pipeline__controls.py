"""The controls beside the claim, and what every part of the method is worth.

    python Ep3Pipeline__controls.py --data ../data/prepared/utkface ../data/prepared/fairface --split test
    python Ep3Pipeline__controls.py --data ../data/prepared/utkface ../data/prepared/fairface --ablations

Trains, with the settings of the released weights (or of --config), for each seed: full; (a) the same head that cannot
see its references, only their ages; (b) the same head with another face's references, only when estimating, and in
training too; and adds (c) the re-calibrations of the base fitted on the same unseen references. With --ablations:
heads with one part of the method changed, and 1 to 3 iterations of the full one (trained in one round). The base stays
as it is. Writes one CSV of predictions, from which --table prints the table again.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace

from common.controls import Estimates, control_parser, recalibrated, run_controls, stored_settings
from common.embedded import embed_data
from common.runs import new_run
from Ep3Pipeline.Ep3Pipeline__config import Ep3PipelineConfig
from Ep3Pipeline.Ep3Pipeline__model import RELEASED
from Ep3Pipeline.Ep3Pipeline__rounds import fit
from Ep3Pipeline.Ep3Pipeline__train import Run, predict, start_run

CONTROLS = {
    "full": {},
    "(a) blind to the references": {"blind": True},
    "(b) permuted in training too": {"retrieval": "permuted"},
}
ABLATIONS = {
    "full": {},
    "no KDE: the base's own estimates": {"estimate_errors": "none"},
    "Gaussian errors": {"estimate_errors": "gaussian"},
    "uniform errors": {"estimate_errors": "uniform"},
    "no neighbours: random references": {"retrieval": "random"},
    "no weight head": {"weighting": "uniform"},
    "single direction": {"directions": "forward"},
    "antisymmetric": {"directions": "antisymmetric"},
    "1 reference": {"references": 1},
    "5 references": {"references": 5},
    "30 references": {"references": 30},
    "2 rounds of training": {"rounds": 2},
}
ITERATIONS = (2, 3)


def trained(config: Ep3PipelineConfig, folders: list[str]) -> Run:
    """A run trained to its end, with its best weights in place."""
    run = start_run(config, folders, new_run(config, "Ep3Pipeline", folders), resume=False)
    fit(run)
    return run


def with_retrieval(run: Run, retrieval: str) -> Run:
    """The same run, its references being looked up in another way from now on."""
    run.head.config = replace(run.head.config, retrieval=retrieval)
    return run


def estimates(
    config: Ep3PipelineConfig, folders: list[str], split: str, seeds: int, ablations: bool
) -> Iterator[Estimates]:
    """Yield what every variant says, the re-calibrations once."""
    config = replace(config, rounds=1) if ablations else config
    for seed in range(seeds):
        for name, settings in (ABLATIONS if ablations else CONTROLS).items():
            run = trained(replace(config, **settings, seed=seed), folders)
            faces, iterations = embed_data(config, folders, split, 0, run.pipeline), run.progress.best_round
            yield Estimates(name, seed, faces, predict(run, faces, iterations))
            if name == "full" and ablations:
                for count in ITERATIONS:
                    yield Estimates(f"{count} iterations", seed, faces, predict(run, faces, count))
            elif name == "full":
                permuted = with_retrieval(run, "permuted")
                yield Estimates("(b) permuted references", seed, faces, predict(permuted, faces, iterations))
    found = recalibrated(run.data.bank, faces)
    yield from found[:1] if ablations else found


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = control_parser(__doc__, RELEASED)
    parser.add_argument("--ablations", action="store_true", help="the parts of the method instead of the controls")
    arguments = parser.parse_args(argv)

    def all_estimates() -> Iterator[Estimates]:
        settings = stored_settings(arguments, Ep3PipelineConfig) | {"unfreeze_epoch": -1}
        return estimates(
            Ep3PipelineConfig(**settings), arguments.data, arguments.split, arguments.seeds, arguments.ablations
        )

    return run_controls(arguments, "Ep3Pipeline controls", all_estimates)


if __name__ == "__main__":
    sys.exit(main())
