"""The command line of every inference, as one frozen dataclass; light, so that --help answers at once.

argparse, not jsonargparse, which takes longer to import than --help may take.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

from common.data import SPLITS
from common.errors import DataError
from common.files import plain_name

MODES = ("full", "bypass", "oracle")
AUTO = "auto"  # --person: whoever of the bank the face is recognised as
OWN_REFERENCES = ("--references", "--person", "--false-match-rate")
SHORT, ALL = "short", "all"  # --columns


class Shard(NamedTuple):
    """Part `index` (from 0) of `count` parts of a manifest."""

    index: int  # type: ignore[assignment]  # tuple has a method of this name
    count: int  # type: ignore[assignment]  # likewise

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class InputOptions:
    """Which images are estimated, by which weights, where; what each is, `--help` says."""

    weights: Path
    inputs: tuple[str, ...] = ()
    manifest: Path | None = None
    split: str | None = None
    crops: bool = False
    batch_size: int = 64
    device: str = "auto"


@dataclass(frozen=True)
class InferenceOptions(InputOptions):
    """The options of an end-to-end inference; `command` starts its file with the same ones."""

    mode: str = "full"
    references: tuple[str, ...] = ()
    person: str | None = None
    false_match_rate: float = 0.01
    interval: float | None = None
    fast: bool = False
    out: Path | None = None
    columns: str | None = None
    explain: Path | None = None
    processes: int = 1
    shard: Shard | None = None
    command: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise DataError for options that do not go together."""
        if self.person and not self.references:
            raise DataError("--person names whose references in a bank to use; give the bank with --references.")
        if self.references and self.mode != "full":
            raise DataError(f"--references corrects; it does not go with --mode {self.mode}.")
        if self.interval is not None and self.mode == "oracle":
            raise DataError("--interval goes with --mode full or bypass; oracle is no estimate.")
        if self.mode == "oracle" and not self.manifest:
            raise DataError("--mode oracle looks for references at the true age; give it a --manifest with ages.")
        if self.mode == "bypass" and self.explain and (self.crops or self.manifest):
            raise DataError("--explain draws photos and references; --mode bypass has none with --crops or --manifest.")
        if self.shard or self.processes > 1:
            self._check_sharding("--shard" if self.shard else "--processes")

    def _check_sharding(self, option: str) -> None:
        if self.shard and self.processes > 1:
            raise DataError("Give --shard (one part, here) or --processes (all parts, and their merging), not both.")
        if not (self.manifest and self.out):
            raise DataError(f"{option} divides the rows of a manifest and writes a table: give --manifest and --out.")
        if self.explain:
            raise DataError(f"{option} does not go with --explain; draw a few faces without it.")
        if self.columns == SHORT or plain_name(self.out).suffix.lower() in (".json", ".jsonl"):
            raise DataError(f"{option} writes a CSV of all columns, neither short nor JSON.")


Options = TypeVar("Options", bound=InputOptions)


class Parser(argparse.ArgumentParser):
    """A parser that says every mistake in one line, with the nearest flag, and exits with status 2."""

    def __init__(self, description: str):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with exit status 2."""
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            near = difflib.get_close_matches(unknown[1], flags, 1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else "see --help."
            hint = "own references go to DiffPipeline6__infer2.py." if unknown[1] in OWN_REFERENCES else hint
            message = f"there is no {unknown[1]} here; {hint}"
        self.exit(2, f"{self.prog}: {message}\n")


class AlsoPositional(argparse.Action):
    """A positional argument that stands for the flag with its `dest`; missing, it leaves what the flag said."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: object, option: object = None) -> None:
        """Set the value if there is one."""
        if values is not None:
            setattr(namespace, self.dest, values)


def input_parser(description: str, weights: Path) -> Parser:
    """The part of a command line that names images, weights and device."""
    parser = Parser(description)
    add = parser.add_argument_group("images").add_argument
    add("inputs", nargs="*", metavar="PHOTO|FOLDER", help="photos, or folders of them (none: the demo portrait)")
    add("--manifest", type=Path, metavar="CSV", help="estimate the images of a manifest; its ages give the errors")
    add("--split", choices=SPLITS, help="with --manifest: only this split")
    add("--crops", action="store_true", help="the images are aligned face crops: do not detect faces")
    add = parser.add_argument_group("computing").add_argument
    add("--weights", type=Path, default=weights, metavar="DIR", help="folder of weights (the released ones)")
    add("--batch-size", type=_positive, default=64, metavar="N", help="crops estimated at once (64)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


def inference_parser(description: str, weights: Path, corrects: bool = True, own_references: bool = True) -> Parser:
    """The command line of an end-to-end inference: the same words in every pipeline that knows them.

    `corrects`: the pipeline has the modes full (the default) and oracle beside bypass; `own_references`: it takes
    banks of the user's.
    """
    parser = input_parser(description, weights)
    computing = parser._action_groups[-1].add_argument
    computing("--fast", action="store_true", help="on a CPU: INT8, nearly twice as fast, ages half a year off")
    computing(
        "--processes", type=_positive, default=1, metavar="N", help="with --manifest and --out: so many at once (1)"
    )
    computing("--shard", type=_shard, metavar="I/N", help="only part I (from 0) of N; --processes N merges them")
    add = parser.add_argument_group("estimate").add_argument
    if corrects:
        add("--mode", choices=MODES, default=MODES[0], help="full: corrected; bypass: base; oracle: upper bound (full)")
    else:
        add("--mode", choices=["bypass"], default="bypass", help=argparse.SUPPRESS)
    add("--interval", type=float, metavar="P", help="also give an interval that holds the age with probability P")
    if own_references:
        add("--references", nargs="+", default=[], metavar="BANK", help="reference banks of your own")
        add("--person", metavar="NAME|auto", help="whose own references to use; auto: recognise the face")
        add("--false-match-rate", type=float, default=0.01, metavar="P", help="of strangers, by --person auto (0.01)")
    add = parser.add_argument_group("results").add_argument
    add("--out", type=Path, metavar="FILE", help="write the ages here: .csv, .csv.gz, .json or .jsonl")
    add("--columns", choices=(SHORT, ALL), help="of the table (photos: short; manifest: all)")
    add("--explain", type=Path, metavar="DIR", help="draw the result into this folder")
    return parser


def parse_inference(
    parser: argparse.ArgumentParser, entry: str, argv: Sequence[str] | None, kind: Callable[..., Options]
) -> Options:
    """The options of an end-to-end inference as a `kind` of InferenceOptions; `entry` is the file of the command."""
    words = sys.argv[1:] if argv is None else list(argv)
    return read_options(parser, words, kind, command=(sys.executable, str(Path(entry).resolve()), *words))


def read_options(
    parser: argparse.ArgumentParser, words: Sequence[str] | None, kind: Callable[..., Options], **further: object
) -> Options:
    """The options on a command line as a frozen dataclass `kind`, with values `further`; lists become tuples."""
    parsed = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(parser.parse_args(words)).items()
    }
    return kind(**parsed, **further)


def _shard(text: str) -> Shard:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 0 to N - 1, not {text}")
    return Shard(int(index), int(count))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
