"""The command line that every inference has; light, so that --help answers at once."""

import argparse
from pathlib import Path

from common.manifest import SPLITS

MODES = ("full", "bypass", "oracle")


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
    add("--person", metavar="NAME|auto", help="whose own references to use; auto: match by embedding")
    add("--interval", type=float, metavar="P", help="also give an interval that holds the age with probability P")
    add("--out", type=Path, metavar="CSV", help="write the predictions here")
    add("--explain", type=Path, metavar="DIR", help="draw the result into this folder")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
