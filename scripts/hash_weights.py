"""Vouch for the files of folders of weights: note the SHA-256 of each in its config.json.

    python scripts/hash_weights.py weights/AgeRegBaseline weights/DiffPipeline6
    python scripts/hash_weights.py --list weights/AgeRegBaseline    # only print the hashes that stand there

Only do this for files you trust: whoever loads them is told no more than that they have not changed since.
Exit status: 0 done, 2 a folder holds no weights.
"""

import argparse
import sys
from pathlib import Path

from common.base.weight_files import HASHES, read_settings, vouch
from common.errors import UserError
from common.evaluation.tables import markdown


def noted(folder: Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of each file that config.json vouches for; raises WeightsError if it is none."""
    return sorted(read_settings(folder).get(HASHES, {}).items())


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders of weights")
    parser.add_argument("--list", action="store_true", help="print the hashes as a table, change nothing")
    arguments = parser.parse_args(argv)
    try:
        if arguments.list:
            rows = [(f"`{name}`", f"`{digest}`") for folder in arguments.folders for name, digest in noted(folder)]
            print("\n".join(markdown(["file", "SHA-256"], rows)))
            return 0
        for folder in arguments.folders:
            vouch(folder)
            print(f"{folder}: {', '.join(read_settings(folder)[HASHES]) or 'no file that inference reads'}")
    except (UserError, OSError) as error:
        print(f"hash_weights: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
