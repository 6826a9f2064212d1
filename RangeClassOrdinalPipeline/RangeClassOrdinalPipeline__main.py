"""Train the classifier of ranges beside the released base and difference regressor.

python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__main.py  # on synthetic faces, no download
python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__main.py --data data/prepared/utkface
python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__main.py --data data/prepared/utkface --target difference
python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__main.py --resume runs/RangeClassOrdinalPipeline/<time>
"""

import sys

from common.data.prepare import prepare_synthetic
from common.training.command import Training, selected_by, train
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__config import parse_arguments
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__train import Run, fit, start_run


def count(run: Run) -> str:
    """What a run looks at, in one line."""
    return f"{len(run.data.training(0).value)} samples to train on, {selected_by(len(run.data.validation.value))}"


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done, 130 stopped by Ctrl-C."""
    training = Training(
        "RangeClassOrdinalPipeline", __file__, parse_arguments, start_run, count, fit,
        lambda run: f"Best validation score {run.loop.progress.best:.4f}",
    )  # fmt: skip
    return train(training, prepare_synthetic, argv)


if __name__ == "__main__":
    sys.exit(main())
