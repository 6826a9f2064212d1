"""The controls beside the claim, and what every part of the method is worth.

    python Ep3Pipeline/Ep3Pipeline__controls.py --data data/prepared/utkface data/prepared/fairface --split test
    python Ep3Pipeline/Ep3Pipeline__controls.py --data data/prepared/utkface data/prepared/fairface --ablations

Trains, with the settings of the released weights (or of --config), for each seed: full; (a) the same head that cannot
see its references, only their ages; (b) the same head with another face's references, only when estimating, and in
training too; and adds (c) the re-calibrations of the base fitted on the same unseen references. With --ablations:
heads with one part of the method changed, and 1 to 3 iterations of the full one (trained in one round). The base stays
as it is. Writes one CSV of predictions, from which --table prints the table again.
"""

import sys
import zlib
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from common.difference.bank import Found, ReferenceBank
from common.difference.embedded import embed_data
from common.difference.heads import Query, References
from common.evaluation.controls import Estimates, control_parser, recalibrated, run_controls, stored_settings
from common.inference.terminal import until_closed
from common.training.runs import new_run
from Ep3Pipeline.Ep3Pipeline__config import Ep3PipelineConfig
from Ep3Pipeline.Ep3Pipeline__model import RELEASED, PairDifferenceHead, PairOutput
from Ep3Pipeline.Ep3Pipeline__train import Run, fit, predict, start_run

NOISE = 16  # width of the noise that takes the place of embeddings where references are random
ITERATIONS = (2, 3)


class BlindHead(PairDifferenceHead):
    """Control (a): a head that knows the ages of the references alone, not their embeddings."""

    def forward(self, query: Query, references: References) -> PairOutput:
        """See PairDifferenceHead."""
        return super().forward(query, references._replace(embedding=torch.zeros_like(references.embedding)))


class PermutedBank(ReferenceBank):
    """Control (b): every query gets the references of the query with the next lower estimate."""

    def query(self, embedding: np.ndarray, estimate: np.ndarray, *how: Any) -> Found:
        """See ReferenceBank."""
        order = np.argsort(estimate, kind="stable")
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)
        return super().query(embedding[other], estimate, *how)


class RandomBank(ReferenceBank):
    """Every reference of about the estimate is as likely, whatever its embedding; the id of a query decides which."""

    @cached_property
    def noise(self) -> ReferenceBank:
        """The bank with noise for embeddings: beside real ones, noise would find the same few again and again."""
        drawn = np.random.default_rng(0).normal(size=(len(self), NOISE)).astype(np.float16)
        return ReferenceBank(**{**parts_of(self), "embeddings": drawn})

    def query(
        self, embedding: np.ndarray, estimate: np.ndarray, k: int, window: float, ids: np.ndarray, people: np.ndarray
    ) -> Found:
        """See ReferenceBank."""
        drawn = [np.random.default_rng(zlib.crc32(str(number).encode())).normal(size=NOISE) for number in ids]
        return self.noise.query(np.array(drawn, np.float32).reshape(-1, NOISE), estimate, k, window, ids, people)


def parts_of(bank: ReferenceBank) -> dict[str, Any]:
    """The fields of a bank by name."""
    return {field.name: getattr(bank, field.name) for field in fields(bank)}


class Variant(NamedTuple):
    """A way of training: other settings, another head, another bank."""

    settings: dict[str, Any] = {}
    head: type[PairDifferenceHead] = PairDifferenceHead
    bank: type[ReferenceBank] = ReferenceBank


CONTROLS = {
    "full": Variant(),
    "(a) blind to the references": Variant(head=BlindHead),
    "(b) permuted in training too": Variant(bank=PermutedBank),
}
ABLATIONS = {
    "full": Variant(),
    "no KDE: the base's own estimates": Variant({"estimate_errors": "none"}),
    "Gaussian errors": Variant({"estimate_errors": "gaussian"}),
    "uniform errors": Variant({"estimate_errors": "uniform"}),
    "no neighbours: random references": Variant(bank=RandomBank),
    "no weight head": Variant({"weighting": "uniform"}),
    "both directions": Variant({"directions": "both"}),
    "antisymmetric": Variant({"directions": "antisymmetric"}),
    "1 reference": Variant({"references": 1}),
    "5 references": Variant({"references": 5}),
    "30 references": Variant({"references": 30}),
}


def with_bank(run: Run, kind: type[ReferenceBank]) -> Run:
    """The same run, its references being looked up in a bank of another kind from now on."""
    run.data.bank = kind(**parts_of(run.data.bank))
    return run


def trained(config: Ep3PipelineConfig, variant: Variant, folders: list[str]) -> Run:
    """A run trained to its end, with its best weights in place."""
    config = replace(config, **variant.settings)
    folder = new_run(config, "Ep3Pipeline", folders)
    run = with_bank(start_run(config, folders, folder, resume=False, kind=variant.head), variant.bank)
    fit(run)
    return run


def estimates(
    config: Ep3PipelineConfig, folders: list[str], split: str, seeds: int, ablations: bool
) -> Iterator[Estimates]:
    """Yield what every variant says, the re-calibrations once."""
    for seed in range(seeds):
        for name, variant in (ABLATIONS if ablations else CONTROLS).items():
            run = trained(replace(config, seed=seed), variant, folders)
            faces = embed_data(config, folders, split, 0, run.pipeline)
            yield Estimates(name, seed, faces, predict(run, faces))
            if name == "full" and ablations:
                for count in ITERATIONS:
                    yield Estimates(f"{count} iterations", seed, faces, predict(run, faces, count))
            elif name == "full":
                permuted = with_bank(run, PermutedBank)
                yield Estimates("(b) permuted references", seed, faces, predict(permuted, faces))
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
    sys.exit(until_closed(main))
