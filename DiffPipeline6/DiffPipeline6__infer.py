"""How many years lie between two photos; or how well the head predicts the difference from *one* reference.

    python DiffPipeline6/DiffPipeline6__infer.py then.jpg now.jpg              # "now.jpg is 6.2 years older (3 to 9)"
    python DiffPipeline6/DiffPipeline6__infer.py then/ now/ --interval 0.8     # two groups of photos, each of one time
    python DiffPipeline6/DiffPipeline6__infer.py anna.jpg berta.jpg --people two
    python DiffPipeline6/DiffPipeline6__infer.py --data data/prepared/utkface --out out/differences

Two photos or folders: the largest face of each photo is taken; the difference is that of the base's estimates (the
head does not measure it better), its interval is calibrated on pairs of photos of one person at least a year apart, or
of two persons (scripts/calibrate_differences.py). Exit status 0 done, 1 some photos failed, 2 nothing could be done.

Without photos three sets of pairs of --data (none: synthetic faces): test query - test reference and test query -
train reference, both drawn at random among faces at most `level_radius` years apart (by true age: this looks at the
difference, it is no estimate of an age); and each test query with the references that are retrieved for it at the
base's estimate. Writes pairs.csv and one confusion matrix per set.
"""

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from common.evaluation.pair_options import pair_parser
from common.files import WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

    from common.difference.heads import DifferenceOutput, References


def read_difference(output: "DifferenceOutput", references: "References") -> "tuple[Tensor, Tensor]":
    """Soft and hard difference [P] (years) of each query from its one reference.

    The head's difference is from its anchor, which is the reference if that is near the estimate.
    """
    from common.difference.ordinal import hard_difference

    anchor = output.age - output.difference - references.age[:, 0]  # [P] years from the reference
    return output.difference + anchor, hard_difference(output.probabilities) + anchor


def evaluate_pairs(arguments: argparse.Namespace) -> int:
    """Evaluate the head on pairs with one reference; the exit status."""
    from common.data.prepare import prepare_synthetic
    from common.evaluation.pairs import infer_pairs
    from DiffPipeline6.DiffPipeline6__model import load_model

    load = partial(load_model, arguments.weights, arguments.device)
    return infer_pairs(arguments, "DiffPipeline6", load, read_difference, prepare_synthetic)


def parser() -> argparse.ArgumentParser:
    """The command line: that of every `__infer` of a difference pipeline, and two photos."""
    parser = pair_parser(__doc__, WEIGHTS / "DiffPipeline6")
    add = parser.add_argument_group("two photos").add_argument
    add("photos", nargs="*", metavar="PHOTO|FOLDER", help="two photos, or two folders of photos, to compare")
    add("--interval", type=float, default=0.9, metavar="P", help="probability that the interval holds (0.9)")
    add("--people", choices=("auto", "one", "two"), default="auto", help="whom they show; auto: compare the faces")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    arguments = parser().parse_args(argv)
    if not arguments.photos:
        return evaluate_pairs(arguments)
    from common.inference.change import compare

    return compare(arguments, "DiffPipeline6")


if __name__ == "__main__":
    sys.exit(main())
