"""The command line of every `__infer` of a difference pipeline; light, so that --help answers at once."""

import argparse
from pathlib import Path


def pair_parser(description: str, weights: Path) -> argparse.ArgumentParser:
    """The command line of every `__infer` of a difference pipeline."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="DIR", help="prepared folders with exact ages (none: synthetic faces)")
    add("--split", choices=("val", "calib", "test"), default="test", help="where queries come from (test)")
    add("--weights", type=Path, default=weights, metavar="DIR", help="folder of weights (the released ones)")
    add("--pairs", type=int, default=10, metavar="N", help="random references per query (10)")
    add("--limit", type=int, default=0, metavar="N", help="use at most this many faces of each set")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--out", type=Path, default=Path("out/differences"), metavar="DIR", help="folder to write (out/differences)")
    return parser
