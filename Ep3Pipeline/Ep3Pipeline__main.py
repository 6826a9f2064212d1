"""Train the method of the paper on top of the released base regressor.

python Ep3Pipeline/Ep3Pipeline__main.py                                    # on synthetic faces, no download
python Ep3Pipeline/Ep3Pipeline__main.py --data data/prepared/utkface data/prepared/fairface
python Ep3Pipeline/Ep3Pipeline__main.py --data data/prepared/utkface --preset original --limit 500
python Ep3Pipeline/Ep3Pipeline__main.py --data data/prepared/utkface --unfreeze-epoch 2 --limit 500
python Ep3Pipeline/Ep3Pipeline__main.py --resume runs/Ep3Pipeline/2026-11-23_17-00-00
"""

import sys

from common.data.prepare import prepare_synthetic
from common.training.command import Training, selected_by, train
from common.training.differences import against_base
from Ep3Pipeline.Ep3Pipeline__config import parse_arguments
from Ep3Pipeline.Ep3Pipeline__train import Run, fit, start_run


def count(run: Run) -> str:
    """What a run looks at, in one line."""
    by = selected_by(len(run.data.validation))
    return f"{len(run.data.queries)} queries to train on, {by}, {len(run.data.bank)} references"


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done, 130 stopped by Ctrl-C."""
    training = Training(
        "Ep3Pipeline", __file__, parse_arguments, start_run, count, fit,
        lambda run: against_base(run.loop),
    )  # fmt: skip
    return train(training, prepare_synthetic, argv)


if __name__ == "__main__":
    sys.exit(main())
