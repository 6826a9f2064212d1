"""Train the method of the paper on top of the released base regressor.

python Ep3Pipeline__main.py                                    # on drawn faces, no download
python Ep3Pipeline__main.py --data data/prepared/utkface data/prepared/fairface
python Ep3Pipeline__main.py --data data/prepared/utkface --preset original --limit 500
python Ep3Pipeline__main.py --data data/prepared/utkface --rounds 3
python Ep3Pipeline__main.py --data data/prepared/utkface --preset end_to_end --limit 500
python Ep3Pipeline__main.py --resume runs/Ep3Pipeline/2026-11-23_17-00-00
"""

import sys
from pathlib import Path

from common.errors import UserError
from common.runs import beside, discard_unused, new_run, open_run, sentence_of
from Ep3Pipeline.Ep3Pipeline__config import Ep3PipelineConfig, parse_arguments
from Ep3Pipeline.Ep3Pipeline__rounds import fit
from Ep3Pipeline.Ep3Pipeline__train import start_run
from scripts.prepare_data import prepare_synthetic


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done, 130 stopped by Ctrl-C."""
    config, options = parse_arguments(argv)
    folder = None
    try:
        if options.resume:
            folder = Path(options.resume)
            config, folders = open_run(Ep3PipelineConfig, folder)
        else:
            folders = options.data or prepare_synthetic()
            folder = new_run(config, "Ep3Pipeline", folders)
        run = start_run(config, folders, folder, resume=bool(options.resume))
        counts = (len(run.data.queries), len(run.data.validation), len(run.data.bank))
        print("{} queries to train on, {} to select by, {} references; run folder".format(*counts), folder)
        weights = fit(run)
    except (UserError, OSError) as error:
        print(f"Ep3Pipeline: {sentence_of(error)}", file=sys.stderr)
        if not options.resume:
            discard_unused(folder)
        return 2
    except KeyboardInterrupt:
        print(
            f"\nStopped. Go on with: python {beside(__file__, 'Ep3Pipeline__main.py')} --resume {folder}",
            file=sys.stderr,
        )
        return 130
    best = run.progress
    print(f"Best validation error {best.best:.2f} years (iterations: {best.best_round}); weights in {weights}")
    print(f"Try them: python {beside(__file__, 'Ep3Pipeline__infer2.py')} PHOTO --weights {weights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
