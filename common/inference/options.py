"""The command line that every inference has; light, so that --help answers at once."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.data.manifest import SPLITS

MODES = ("full", "bypass", "oracle")
AUTO = "auto"  # --person: whoever of the bank the face is recognised as


class Shard(NamedTuple):
    """Part `index` (from 0) of `count` parts of a manifest."""

    index: int  # type: ignore[assignment]  # tuple has a method of this name
    count: int  # type: ignore[assignment]  # likewise

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def input_parser(description: str, weights: Path) -> argparse.ArgumentParser:
    """The part of a command line that names pictures, weights and device."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("inputs", nargs="*", metavar="PHOTO|FOLDER", help="pictures, or folders of them (none: the demo portrait)")
    add("--manifest", type=Path, metavar="CSV", help="estimate the pictures of a manifest; its ages give the errors")
    add("--split", choices=SPLITS, help="with --manifest: only this split")
    add("--crops", action="store_true", help="the pictures are aligned face crops: do not look for faces")
    add("--weights", type=Path, default=weights, metavar="DIR", help="folder of weights (the released ones)")
    add("--batch-size", type=_positive, default=64, metavar="N", help="crops estimated at once (64)")
    add("--device", default="auto", help="auto, cpu or cuda")
    return parser


def inference_parser(description: str, mode: str, weights: Path) -> argparse.ArgumentParser:
    """The command line of an end-to-end inference; the words are the same in every pipeline."""
    parser = input_parser(description, weights)
    add = parser.add_argument
    add("--mode", choices=MODES, default=mode, help=f"full: corrected; bypass: base; oracle: upper bound ({mode})")
    add("--references", nargs="+", default=[], metavar="BANK", help="reference banks of your own")
    add("--person", metavar="NAME|auto", help="whose own references to use; auto: recognise the face")
    add("--false-match-rate", type=float, default=0.01, metavar="P", help="of strangers, by --person auto (0.01)")
    add("--interval", type=float, metavar="P", help="also give an interval that holds the age with probability P")
    add("--fast", action="store_true", help="on a CPU: compute in 8 bits, nearly twice as fast, ages half a year off")
    add("--out", type=Path, metavar="CSV", help="write the predictions here")
    add("--processes", type=_positive, default=1, metavar="N", help="with --manifest and --out: so many at once (1)")
    add("--shard", type=_shard, metavar="I/N", help="only part I (from 0) of N; --processes N merges them")
    add("--explain", type=Path, metavar="DIR", help="draw the result into this folder")
    return parser


def parse_inference(parser: argparse.ArgumentParser, entry: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of an end-to-end inference; `command` is how its file `entry` is started with the same ones."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = parser.parse_args(words)
    arguments.command = [sys.executable, str(Path(entry).resolve()), *words]
    return arguments


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
