"""Train the base regressor.

python AgeRegBaseline/AgeRegBaseline__main.py                                    # on synthetic faces, no download
python AgeRegBaseline/AgeRegBaseline__main.py --data data/prepared/utkface --epochs 8
python AgeRegBaseline/AgeRegBaseline__main.py --resume runs/AgeRegBaseline/2026-11-23_17-00-00
torchrun --standalone --nproc-per-node 2 AgeRegBaseline/AgeRegBaseline__main.py --data data/prepared/utkface   # 2 GPUs
"""

import sys

from AgeRegBaseline.AgeRegBaseline__config import parse_arguments
from AgeRegBaseline.AgeRegBaseline__train import Run, fit, start_is_best, start_run
from common.data.prepare import prepare_synthetic
from common.training.command import Training, selected_by, train
from common.training.distributed import launched


def count(run: Run) -> str:
    """What a run looks at, in one line."""
    together = f"; {launched()} processes" if launched() > 1 else ""
    return f"{len(run.faces)} faces to train on, {selected_by(len(run.validation))}{together}"


def result(run: Run) -> str:
    """What came of a run, in one line."""
    best = f"{run.loop.progress.best:.2f} years"
    if start_is_best(run):
        return f"No epoch was better than the start ({best}), which is kept"
    return f"Best validation error {best}"


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done, 130 stopped by Ctrl-C."""
    training = Training("AgeRegBaseline", __file__, parse_arguments, start_run, count, fit, result)
    return train(training, prepare_synthetic, argv)


if __name__ == "__main__":
    sys.exit(main())
