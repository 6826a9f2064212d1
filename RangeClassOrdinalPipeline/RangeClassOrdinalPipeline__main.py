"""Train the classifier of ranges beside the released base and difference regressor.

python RangeClassOrdinalPipeline__main.py                                    # on drawn faces, no download
python RangeClassOrdinalPipeline__main.py --data data/prepared/utkface
python RangeClassOrdinalPipeline__main.py --data data/prepared/utkface --target difference
python RangeClassOrdinalPipeline__main.py --resume runs/RangeClassOrdinalPipeline/2026-11-24_02-00-00
"""

import sys
from pathlib import Path

from common.errors import UserError
from common.runs import beside, discard_unused, new_run, open_run, sentence_of
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__config import RangeClassConfig, parse_arguments
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__train import fit, start_run
from scripts.prepare_data import prepare_synthetic


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done, 130 stopped by Ctrl-C."""
    config, options = parse_arguments(argv)
    folder = None
    try:
        if options.resume:
            folder = Path(options.resume)
            config, folders = open_run(RangeClassConfig, folder)
        else:
            folders = options.data or prepare_synthetic()
            folder = new_run(config, "RangeClassOrdinalPipeline", folders)
        run = start_run(config, folders, folder, resume=bool(options.resume))
        counts = (len(run.data.training(0).value), len(run.data.validation.value))
        print("{} samples to train on, {} to select by; run folder".format(*counts), folder)
        weights = fit(run)
    except (UserError, OSError) as error:
        print(f"RangeClassOrdinalPipeline: {sentence_of(error)}", file=sys.stderr)
        if not options.resume:
            discard_unused(folder)
        return 2
    except KeyboardInterrupt:
        print(
            f"\nStopped. Go on with: python {beside(__file__, 'RangeClassOrdinalPipeline__main.py')} --resume {folder}",
            file=sys.stderr,
        )
        return 130
    print(f"Best validation score {run.progress.best:.4f}; weights in {weights}")
    print(f"Try them: python {beside(__file__, 'RangeClassOrdinalPipeline__infer.py')} --weights {weights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
