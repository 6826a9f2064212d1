"""Vouch for the files of folders of weights: note the SHA-256 of each in its config.json.

    python scripts/hash_weights.py weights/AgeRegBaseline weights/DiffPipeline6
    python scripts/hash_weights.py --graphs     # what is released: list all graphs in weights/
    python scripts/hash_weights.py --list weights/AgeRegBaseline    # only print the hashes that stand there

Only do this for files you trust: whoever loads them is told no more than that they have not changed since. --graphs
writes common/base/released_graphs.txt: the graphs that this code knows and does not look through at every start. Each
must be vouched for by the config.json beside it, and passes that look now.
Exit status: 0 done, 2 a folder holds no weights.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from common.base.onnx import FAST_FILE, ONNX_FILE
from common.base.weight_files import HASHES, RANKS, RELEASED_GRAPHS, look_through, read_settings, verified, vouch
from common.difference.onnx_head import ENDS, HEAD_FILE
from common.errors import UserError
from common.evaluation.tables import markdown
from common.files import WEIGHTS, write_whole
from common.inference.terminal import until_closed

GRAPHS = {ONNX_FILE: RANKS, FAST_FILE: RANKS, HEAD_FILE: ENDS}  # number of axes of what each takes and gives


def list_graphs() -> list[Path]:
    """Write RELEASED_GRAPHS anew; returns the graphs in weights/, raises WeightsError for one that cannot be listed."""
    graphs = sorted(path for name in GRAPHS for path in WEIGHTS.glob(f"*/{name}"))
    hashes = set()
    for path in graphs:
        data = verified(path)
        look_through(data, path, GRAPHS[path.name])
        hashes.add(hashlib.sha256(data).hexdigest())
    write_whole(RELEASED_GRAPHS, "".join(f"{one}\n" for one in sorted(hashes)))
    return graphs


def noted(folder: Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of each file that config.json vouches for; raises WeightsError if it is none."""
    return sorted(read_settings(folder).get(HASHES, {}).items())


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="folders of weights")
    parser.add_argument("--graphs", action="store_true", help="list the graphs in weights/ as released")
    parser.add_argument("--list", action="store_true", help="print the hashes as a table, change nothing")
    arguments = parser.parse_args(argv)
    if not arguments.folders and not arguments.graphs:
        parser.error("name folders of weights, or give --graphs")
    try:
        if arguments.list:
            rows = [(f"`{name}`", f"`{digest}`") for folder in arguments.folders for name, digest in noted(folder)]
            print("\n".join(markdown(["file", "SHA-256"], rows)))
            return 0
        for folder in arguments.folders:
            vouch(folder)
            print(f"{folder}: {', '.join(read_settings(folder)[HASHES]) or 'no file that inference reads'}")
        if arguments.graphs:
            print(f"{RELEASED_GRAPHS.name}: {', '.join(str(path.relative_to(WEIGHTS)) for path in list_graphs())}")
    except BrokenPipeError:
        raise
    except (UserError, OSError) as error:
        print(f"hash_weights: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(until_closed(main))
