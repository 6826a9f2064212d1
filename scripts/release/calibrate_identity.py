"""How far apart photos of different people are, from which `--person auto` takes its threshold.

    python scripts/release/calibrate_identity.py data/prepared/fairface --out weights/identity.json

Compares all faces of the splits `val` and `calib` of a set in which nearly everybody is another person, copies left
out (FairFace: photos of strangers; UTKFace shows celebrities several times). Stores the distance that so large a part
of the pairs is within, for rates from 0.1 down to what the pairs allow; no embedding is kept.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.data.manifest import load_prepared
from common.data.splits import components, duplicate_pairs
from common.errors import DataError, UserError
from common.faces.identity import THRESHOLDS, IdentityEncoder
from common.files import write_whole

SPLITS = ("val", "calib")
RATES = tuple(10.0**-power for power in np.arange(1, 7.5, 0.5))
FEWEST = 20  # pairs that a rate is read off from
BINS = np.linspace(0, 2, 20_001)  # of distance
BLOCK = 256


def strangers(folder: Path, limit: int) -> np.ndarray:
    """Crops [N, S, S, 3] of the two splits, one of every group of copies, at most `limit` drawn at random (0: all)."""
    prepared = load_prepared(folder)
    rows = np.flatnonzero(prepared.manifest["split"].isin(SPLITS))
    if limit and limit < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(rows, limit, replace=False))
    if len(rows) < 2:
        raise DataError(f"{folder} has no two faces in the splits {' and '.join(SPLITS)}.")
    crops = prepared.crops[rows]
    group = components(len(rows), duplicate_pairs(crops))
    return crops[np.sort(np.unique(group, return_index=True)[1])]


def pair_counts(identity: np.ndarray) -> np.ndarray:
    """How many of the N (N - 1) / 2 pairs of embeddings [N, D] have a distance in each of BINS, int64."""
    counts = np.zeros(len(BINS) - 1, np.int64)
    for start in range(0, len(identity), BLOCK):
        part = identity[start : start + BLOCK]
        distance = np.linalg.norm(part[:, None] - identity[None, start:], axis=2)  # [b, N - start]
        later = np.triu(np.ones(distance.shape, bool), k=1)
        counts += np.histogram(np.minimum(distance[later], BINS[-1]), bins=BINS)[0]
    return counts


def calibrate(counts: np.ndarray) -> dict:
    """Rates and the distances that such parts of the pairs are within, and the number of pairs."""
    total, below = int(counts.sum()), np.cumsum(counts)
    rates = [rate for rate in RATES if rate * total >= FEWEST]
    distances = [float(BINS[1 + np.searchsorted(below, rate * total)]) for rate in rates]
    return {"rates": rates, "distances": [round(value, 4) for value in distances], "pairs": total}


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="prepared folder of photos of strangers")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only N faces, drawn at random")
    parser.add_argument("--out", type=Path, default=THRESHOLDS, metavar="JSON", help="file to write")
    arguments = parser.parse_args(argv)
    try:
        encoder = IdentityEncoder()
        crops = strangers(arguments.folder, arguments.limit)
        result = calibrate(pair_counts(encoder(tqdm(crops, unit="face")))) | {"data": arguments.folder.name}
        write_whole(arguments.out, json.dumps(result, indent=1) + "\n")
    except UserError as error:
        print(f"calibrate_identity: {error}", file=sys.stderr)
        return 2
    for rate, distance in zip(result["rates"], result["distances"], strict=True):
        print(f"rate {rate:.1e}: distance {distance:.3f}")
    print(f"{len(crops)} faces, {result['pairs']} pairs; written: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
