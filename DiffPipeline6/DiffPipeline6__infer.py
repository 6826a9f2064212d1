"""The difference alone: how well the head says by how many years a face differs from *one* reference.

    python DiffPipeline6__infer.py                                           # drawn faces
    python DiffPipeline6__infer.py --data ../data/prepared/utkface --out ../out/differences

Three sets of pairs: test query - test reference and test query - train reference, both drawn at random among faces at
most `level_radius` years apart (by true age: this looks at the difference, it is no estimate of an age); and each test
query with the references that are retrieved for it at the base's estimate. Writes pairs.csv and one confusion matrix
per set.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from common.correction import Corrector
from common.difference_heads import Query, References
from common.drawing import draw_confusion
from common.embedded import EmbeddedFaces, Views, bank_of, embed_split
from common.errors import DataError, UserError
from common.ordinal import hard_difference, level_probabilities
from common.reference_bank import EMPTY, Found, ReferenceBank
from DiffPipeline6.DiffPipeline6__config import DiffPipeline6Config
from DiffPipeline6.DiffPipeline6__dataset import EmbeddedData, embedding_cache
from DiffPipeline6.DiffPipeline6__model import RELEASED, load_model
from scripts.prepare_data import prepare_synthetic

PAIR_BATCH = 4096


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="DIR", help="prepared folders with exact ages (none: drawn faces)")
    add("--split", choices=("val", "calib", "test"), default="test", help="where queries come from (test)")
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="folder of weights (the released ones)")
    add("--pairs", type=int, default=10, metavar="N", help="random references per query (10)")
    add("--limit", type=int, default=0, metavar="N", help="use at most this many faces of each set")
    add("--device", default="auto", help="auto, cpu or cuda")
    add(
        "--out", type=Path, default=Path("out") / "differences", metavar="DIR", help="folder to write (out/differences)"
    )
    return parser.parse_args(argv)


def load_faces(arguments: argparse.Namespace, folders: Sequence[str], corrector: Corrector) -> EmbeddedFaces:
    """The exactly labelled faces of the split, embedded; raises DataError if there are none."""
    how = Views(str(embedding_cache(DiffPipeline6Config())))
    parts = [embed_split(corrector.pipeline, name, arguments.split, how, arguments.limit) for name in folders]
    data = EmbeddedData(parts)
    if not data.exact.any():
        raise DataError(f"No face in split '{arguments.split}' has an exact age.")
    return data.faces.where(data.exact)


def random_pairs(faces: EmbeddedFaces, bank: ReferenceBank, count: int, radius: int) -> Found:
    """For each face `count` references drawn (seeded) among those at most `radius` years away, never itself."""
    random = np.random.default_rng(0)
    index = np.full((len(faces), count), EMPTY, np.int64)
    for number in range(len(faces)):
        allowed = (np.abs(bank.ages - faces.low[number]) <= radius) & (bank.id != faces.id[number])
        if faces.person[number]:
            allowed &= bank.person != faces.person[number]
        candidates = np.flatnonzero(allowed)
        drawn = random.permutation(candidates)[:count]
        index[number, : len(drawn)] = drawn
    return Found(index, index != EMPTY)


@torch.inference_mode()
def pair_table(faces: EmbeddedFaces, bank: ReferenceBank, found: Found, corrector: Corrector) -> pd.DataFrame:
    """One row per pair: true difference and what the head says, soft and hard, all in years."""
    query, place = np.nonzero(found.mask)
    reference = found.index[query, place]
    soft, hard = [], []
    for start in range(0, len(query), PAIR_BATCH):
        part = slice(start, start + PAIR_BATCH)
        taken = bank.take(Found(reference[part, None], np.ones((len(reference[part]), 1), bool)))
        device = corrector.pipeline.device
        output = corrector.head(
            Query(
                torch.from_numpy(faces.embeddings[0][query[part]]).float().to(device),
                torch.from_numpy(faces.estimates[0][query[part]]).to(device),
            ),
            References(*(tensor.to(device) for tensor in taken)),
        )
        anchor = (output.age - output.difference).cpu() - taken.age[:, 0]  # years from the reference
        probabilities = level_probabilities(output.levels, corrector.head.config.ordinal).cpu()
        soft.append((output.difference.cpu() + anchor).numpy())
        hard.append((hard_difference(probabilities) + anchor).numpy())
    return pd.DataFrame(
        {
            "query": faces.id[query],
            "reference": bank.id[reference],
            "true_difference": faces.low[query] - bank.ages[reference],
            "base_difference": faces.estimates[0][query] - bank.ages[reference],
            "soft_difference": np.concatenate([np.empty(0), *soft]),
            "hard_difference": np.concatenate([np.empty(0), *hard]),
        }
    )


def pair_sets(faces: EmbeddedFaces, corrector: Corrector, count: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the name and the pairs of each of the three sets."""
    radius = corrector.head.config.level_radius
    own = bank_of([(faces, False)], corrector.pipeline.fingerprint)
    yield "test query, test reference", pair_table(faces, own, random_pairs(faces, own, count, radius), corrector)
    train = corrector.bank
    yield "test query, train reference", pair_table(faces, train, random_pairs(faces, train, count, radius), corrector)
    found = train.query(
        faces.embeddings[0].astype(np.float32), faces.estimates[0], corrector.references, corrector.window,
        faces.id, faces.person,
    )  # fmt: skip
    yield "references at the base's estimate", pair_table(faces, train, found, corrector)


def print_summary(tables: dict[str, pd.DataFrame], radius: int) -> None:
    """Markdown table of the three sets; MAE in years, over the pairs within the levels."""
    print(f"| pairs | within ±{radius} years | beyond | MAE soft | MAE hard | MAE by the base's estimate |")
    print("|---|---|---|---|---|---|")
    for name, table in tables.items():
        inside = table["true_difference"].abs() <= radius
        errors = [
            (table.loc[inside, f"{kind}_difference"] - table.loc[inside, "true_difference"]).abs().mean()
            for kind in ("soft", "hard", "base")
        ]
        cells = [name, inside.sum(), (~inside).sum(), *(f"{error:.2f}" for error in errors)]
        print("| " + " | ".join(map(str, cells)) + " |")


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    arguments = parse_arguments(argv)
    try:
        corrector = load_model(arguments.weights, arguments.device)
        faces = load_faces(arguments, arguments.data or prepare_synthetic(), corrector)
        radius = corrector.head.config.level_radius
        tables = dict(pair_sets(faces, corrector, arguments.pairs))
        print_summary(tables, radius)
        arguments.out.mkdir(parents=True, exist_ok=True)
        for number, (name, table) in enumerate(tables.items(), start=1):
            draw_confusion(table, radius, name, arguments.out / f"confusion_{number}.png")
        pairs = pd.concat([table.assign(set=name) for name, table in tables.items()])
        pairs.to_csv(arguments.out / "pairs.csv", index=False, float_format="%.3f")
        print(f"pairs and confusion matrices: {arguments.out}")
    except UserError as error:
        print(f"DiffPipeline6: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
