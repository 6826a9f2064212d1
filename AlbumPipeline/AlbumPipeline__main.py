"""Fit how the base errs on people with several dated photos: what AlbumPipeline weighs faces by.

python AlbumPipeline/AlbumPipeline__main.py                                  # simulated people, no data
python AlbumPipeline/AlbumPipeline__main.py --data data/prepared/fgnet_dev --out weights/AlbumPipeline
python AlbumPipeline/AlbumPipeline__main.py --data data/prepared/mine        # your camera, your scans
"""

import sys

from AlbumPipeline.AlbumPipeline__config import parse_arguments
from AlbumPipeline.AlbumPipeline__train import Run, fit, start_run
from common.training.command import Training, train


def count(run: Run) -> str:
    """What a fit looks at, in one line."""
    return f"{len(run.faces.age)} faces of {len(set(run.faces.person))} people"


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done, 130 stopped by Ctrl-C."""
    training = Training(
        "AlbumPipeline", __file__, parse_arguments, start_run, count, fit,
        lambda run: "Fitted, intervals and alarms calibrated on people left out",
    )  # fmt: skip
    return train(training, list, argv)


if __name__ == "__main__":
    sys.exit(main())
