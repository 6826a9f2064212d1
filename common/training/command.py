"""What the command of every training does alike: begin or resume a run, train, say where the weights are."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError
from common.training.distributed import from_main, is_main
from common.training.runs import beside, discard_unused, new_run, open_run, sentence_of

FEW = 30  # faces below which the best epoch is chosen by chance


class Training(NamedTuple):
    """The training of one pipeline.

    name: of the pipeline; file: its __main; parse: config and options (data, resume) of a command line;
    start: a run from (config, folders of data, run folder, resume?); count: one line on what it will look at;
    fit: trains a run and returns the folder of its weights; result: one line on what came of it.
    """

    name: str
    file: str
    parse: Callable[[Sequence[str] | None], tuple[Any, Any]]
    start: Callable[[Any, list[str], Path, bool], Any]
    count: Callable[[Any], str]  # type: ignore[assignment]  # tuple has a method of this name
    fit: Callable[[Any], Path]
    result: Callable[[Any], str]


def selected_by(faces: int) -> str:
    """What validation selects by, and a warning if that is chance."""
    few = f" (fewer than {FEW}: the epoch is chosen by chance, give more people)" if faces < FEW else ""
    return f"{faces} to select by{few}"


def train(training: Training, drawn: Callable[[], list[str]], argv: Sequence[str] | None = None) -> int:
    """Entry point of a training; `drawn` makes a set of synthetic faces where no --data is given.

    Exit status 0 done, 2 nothing could be done, 130 stopped by Ctrl-C.
    """
    config, options = training.parse(argv)
    folder = None
    try:
        if options.resume:
            folder = Path(options.resume)
            config, folders = open_run(type(config), folder)
        else:
            folders = options.data or from_main(drawn, config.device)
            folder = from_main(partial(new_run, config, training.name, folders), config.device)
        run = training.start(config, folders, folder, bool(options.resume))
        _say(f"{training.count(run)}; run folder {folder}")
        weights = training.fit(run)
    except (UserError, OSError) as error:
        print(f"{training.name}: {sentence_of(error)}", file=sys.stderr)
        if is_main() and not options.resume:
            discard_unused(folder)
        return 2
    except KeyboardInterrupt:
        resume = f"{beside(training.file, Path(training.file).name)} --resume {folder}"
        _say(f"\nStopped. Go on with: python {resume}", file=sys.stderr)
        return 130
    _say(f"{training.result(run)}; weights in {weights}")
    _say(f"Try them: python {beside(training.file, f'{training.name}__infer2.py')} PHOTO --weights {weights}")
    return 0


def _say(text: str, **how: Any) -> None:
    if is_main():
        print(text, **how)
