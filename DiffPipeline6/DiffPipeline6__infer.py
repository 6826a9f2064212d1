"""The difference alone: how well the head predicts by how many years a face differs from *one* reference.

    python DiffPipeline6/DiffPipeline6__infer.py                                           # synthetic faces
    python DiffPipeline6/DiffPipeline6__infer.py --data data/prepared/utkface --out out/differences

Three sets of pairs: test query - test reference and test query - train reference, both drawn at random among faces at
most `level_radius` years apart (by true age: this looks at the difference, it is no estimate of an age); and each test
query with the references that are retrieved for it at the base's estimate. Writes pairs.csv and one confusion matrix
per set.
"""

import sys
from functools import partial

from torch import Tensor

from common.data.prepare import prepare_synthetic
from common.difference.heads import DifferenceOutput, References
from common.difference.ordinal import hard_difference
from common.evaluation.pairs import infer_pairs, pair_parser
from DiffPipeline6.DiffPipeline6__model import RELEASED, load_model


def read_difference(output: DifferenceOutput, references: References) -> tuple[Tensor, Tensor]:
    """Soft and hard difference [P] (years) of each query from its one reference.

    The head's difference is from its anchor, which is the reference if that is near the estimate.
    """
    anchor = output.age - output.difference - references.age[:, 0]  # [P] years from the reference
    return output.difference + anchor, hard_difference(output.probabilities) + anchor


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    arguments = pair_parser(__doc__, RELEASED).parse_args(argv)
    load = partial(load_model, arguments.weights, arguments.device)
    return infer_pairs(arguments, "DiffPipeline6", load, read_difference, prepare_synthetic)


if __name__ == "__main__":
    sys.exit(main())
