"""Turn a data set into a manifest and packed crops that every pipeline reads.

    python scripts/prepare_data.py utkface --source UTKFace.tar --out data/prepared/utkface
    python scripts/prepare_data.py synthetic --count 2000 --out data/prepared/synthetic

Writes manifest.csv, crops.npy, left_out.csv, ages.png and prepared.json. Run it again to go on, or to take over what
changed in the source: every image is known by its bytes.
"""

import argparse
import sys
from pathlib import Path

from common.data.prepare import Preparation, prepare
from common.data.readers import READERS
from common.errors import UserError


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(READERS), help="kind of data set")
    parser.add_argument("--source", type=Path, help="folder, .tar or .tar.gz; for csv the CSV file")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--size", type=int, default=128, help="side of a packed crop in pixels (default 128)")
    parser.add_argument("--crops", action="store_true", help="the images are aligned crops: do not detect faces")
    parser.add_argument("--column", action="append", default=[], metavar="OUR=THEIRS", help="csv: rename a column")
    parser.add_argument("--split-file", type=Path, help="CSV with columns name,split: a published list to keep")
    parser.add_argument("--leave-out", type=Path, help="CSV with columns name,reason: images not to be used")
    parser.add_argument(
        "--apart-from",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="prepared folders: leave out an image that one of them shows too",
    )
    parser.add_argument("--label", choices=("real", "apparent"), default="real", help="appareal: which age to learn")
    parser.add_argument("--count", type=int, default=2000, help="synthetic: number of faces")
    parser.add_argument("--seed", type=int, default=0, help="synthetic: seed")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    try:
        prepare(Preparation(**vars(parse_arguments(argv))))
    except UserError as error:
        print(f"prepare_data: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("prepare_data: stopped; run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
