"""Vouch for the files of folders of weights: note the SHA-256 of each in its config.json.

    python scripts/hash_weights.py weights/AgeRegBaseline weights/DiffPipeline6

Only do this for files you trust: whoever loads them is told no more than that they have not changed since.
Exit status: 0 done, 2 a folder holds no weights.
"""

import argparse
import sys
from pathlib import Path

from common.base.weight_files import HASHES, read_settings, vouch
from common.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders of weights")
    arguments = parser.parse_args(argv)
    try:
        for folder in arguments.folders:
            vouch(folder)
            print(f"{folder}: {', '.join(read_settings(folder)[HASHES]) or 'no file that inference reads'}")
    except (UserError, OSError) as error:
        print(f"hash_weights: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
