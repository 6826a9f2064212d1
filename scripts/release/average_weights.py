"""The mean of two base regressors of one shape, weight by weight, without training.

    python scripts/release/average_weights.py runs/head/weights weights/AgeRegBaseline --part 0.2 --out runs/mean

Weights that were trained on from the same start can be averaged: the mean keeps more of what the start knew of other
photos. --input-size sets the side in pixels at which the mean reads a face.
Exit status: 0 done, 2 nothing could be done.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from common.base.model import BAR
from common.base.weights import fingerprint, git_commit, load_bar, save_bar, trained_on
from common.errors import UserError, WeightsError


def average(first: BAR, second: BAR, part: float, input_size: int = 0) -> BAR:
    """`first` with `part` of `second` in every weight, read at `input_size` px (0: as `first`); WeightsError if unlike.

    Changes `first` in place.
    """
    theirs = second.state_dict()
    mine = first.state_dict()
    if {name: value.shape for name, value in mine.items()} != {name: value.shape for name, value in theirs.items()}:
        raise WeightsError("The two bases are not of one shape; only weights trained on from one start have a mean.")
    first.load_state_dict(
        {
            name: torch.lerp(value, theirs[name], part) if value.is_floating_point() else value
            for name, value in mine.items()
        }
    )
    first.config = replace(first.config, input_size=input_size or first.config.input_size)
    return first.eval()


def write(arguments: argparse.Namespace) -> Path:
    """Average the two bases of a command line and write the result; returns its folder, raises WeightsError."""
    if not 0 <= arguments.part <= 1:
        raise WeightsError(f"--part must be from 0 to 1, not {arguments.part}.")
    folders = (arguments.first, arguments.second)
    mean = average(*(load_bar(folder) for folder in folders), arguments.part, arguments.input_size)
    notes = {
        "mean_of": {"of": [fingerprint(folder) for folder in folders], "part": arguments.part},
        "data": sorted({name for folder in folders for name in trained_on(folder) or []}),
        "commit": git_commit(),
    }
    return save_bar(mean, arguments.out, notes)


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("first", type=Path, metavar="FIRST", help="folder of base weights, whose settings the mean has")
    add("second", type=Path, metavar="SECOND", help="folder of base weights of the same shape")
    add("--part", type=float, default=0.5, help="part of the second in the mean (0.5)")
    add("--input-size", type=int, default=0, metavar="PX", help="side at which the mean reads (that of the first)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the mean")
    try:
        print(f"weights: {write(parser.parse_args(argv))}")
    except (UserError, ValueError) as error:
        print(f"average_weights: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
