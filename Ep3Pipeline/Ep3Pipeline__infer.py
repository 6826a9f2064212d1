"""The difference alone: how well the head predicts by how many years a face differs from *one* reference.

    python Ep3Pipeline/Ep3Pipeline__infer.py                                             # synthetic faces
    python Ep3Pipeline/Ep3Pipeline__infer.py --data data/prepared/utkface --out out/differences

Three sets of pairs: test query - test reference and test query - train reference, both drawn at random among faces at
most `level_radius` years apart (by true age: this looks at the difference, it is no estimate of an age); and each test
query with the references that are retrieved for it at the base's estimate. Soft is the mean of both directions, hard
the rank of the CONDOR levels. Writes pairs.csv and one confusion matrix per set.
"""

import sys
from functools import partial

from torch import Tensor

from common.data.prepare import prepare_synthetic
from common.difference.heads import References
from common.difference.ordinal import hard_difference, level_probabilities
from common.evaluation.pair_options import pair_parser
from common.evaluation.pairs import infer_pairs
from Ep3Pipeline.Ep3Pipeline__model import RELEASED, PairOutput, load_model


def read_difference(output: PairOutput, references: References) -> tuple[Tensor, Tensor]:
    """Soft difference [P] (years, mean of both directions) and hard one (rank of the levels) of single pairs."""
    return output.difference[:, 0], hard_difference(level_probabilities(output.levels[:, 0], "condor"))


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    arguments = pair_parser(__doc__, RELEASED).parse_args(argv)
    load = partial(load_model, arguments.weights, arguments.device)
    return infer_pairs(arguments, "Ep3Pipeline", load, read_difference, prepare_synthetic)


if __name__ == "__main__":
    sys.exit(main())
