"""Train the base regressor.

python AgeRegBaseline__main.py                                    # on drawn faces, no download
python AgeRegBaseline__main.py --data data/prepared/utkface --epochs 8
python AgeRegBaseline__main.py --resume runs/AgeRegBaseline/2026-11-23_17-00-00
torchrun --standalone --nproc-per-node 2 AgeRegBaseline__main.py --data data/prepared/utkface    # on two GPUs
"""

import sys
from functools import partial
from pathlib import Path

from AgeRegBaseline.AgeRegBaseline__config import AgeRegBaselineConfig, parse_arguments
from AgeRegBaseline.AgeRegBaseline__train import fit, start_is_best, start_run
from common.errors import UserError
from common.processes import from_main, is_main, launched
from common.runs import beside, discard_unused, new_run, open_run, sentence_of
from scripts.prepare_data import prepare_synthetic


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done, 130 stopped by Ctrl-C."""
    config, options = parse_arguments(argv)
    folder = None
    try:
        if options.resume:
            folder = Path(options.resume)
            config, folders = open_run(AgeRegBaselineConfig, folder)
        else:
            folders = options.data or from_main(prepare_synthetic, config.device)
            folder = from_main(partial(new_run, config, "AgeRegBaseline", folders), config.device)
        run = start_run(config, folders, folder, resume=bool(options.resume))
        if is_main():
            together = f"; {launched()} processes" if launched() > 1 else ""
            print(
                f"{len(run.faces)} faces to train on, {len(run.validation)} to select by{together}; run folder {folder}"
            )
        weights = fit(run)
    except (UserError, OSError) as error:
        print(f"AgeRegBaseline: {sentence_of(error)}", file=sys.stderr)
        if is_main() and not options.resume:
            discard_unused(folder)
        return 2
    except KeyboardInterrupt:
        if is_main():
            print(
                f"\nStopped. Go on with: python {beside(__file__, 'AgeRegBaseline__main.py')} --resume {folder}",
                file=sys.stderr,
            )
        return 130
    if is_main():
        best = f"{run.progress.best:.2f} years"
        kept = f"No epoch was better than the start ({best}), whose weights are kept in {weights}"
        print(kept if start_is_best(run) else f"Best validation error {best}; weights in {weights}")
        print(f"Try them: python {beside(__file__, 'AgeRegBaseline__infer2.py')} PHOTO --weights {weights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
