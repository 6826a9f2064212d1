"""The difference alone: pairs of a query and one reference, what a head predicts of them, tables and images of it."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from common.difference.bank import EMPTY, Found, ReferenceBank
from common.difference.corrector import Corrector, Faces
from common.difference.embedded import EmbeddedFaces, Views, bank_of, embed_split, embedding_cache, join
from common.difference.heads import DifferenceOutput, Query, References, on_device
from common.errors import DataError, UserError
from common.evaluation.tables import markdown
from common.figures import new_figure, save_figure

PAIR_BATCH = 4096
ReadOut = Callable[[DifferenceOutput, References], tuple[Tensor, Tensor]]


def load_faces(arguments: argparse.Namespace, folders: Sequence[str], corrector: Corrector) -> EmbeddedFaces:
    """The exactly labelled faces of the split, embedded; raises DataError if there are none."""
    how = Views(str(embedding_cache("")))
    parts = [embed_split(corrector.pipeline, name, arguments.split, how, arguments.limit) for name in folders]
    faces = join(parts, folders)
    if not faces.exact.any():
        raise DataError(f"No face in split '{arguments.split}' has an exact age.")
    return faces.where(faces.exact)


def random_pairs(faces: EmbeddedFaces, bank: ReferenceBank, count: int, radius: int) -> Found:
    """For each face `count` references drawn (seeded) among those at most `radius` years away, never itself."""
    random = np.random.default_rng(0)
    index = np.full((len(faces), count), EMPTY, np.int64)
    for number in range(len(faces)):
        allowed = (np.abs(bank.ages - faces.low[number]) <= radius) & (bank.id != faces.id[number])
        allowed[bank.rows_of_person(str(faces.person[number]))] = False
        drawn = random.permutation(np.flatnonzero(allowed))[:count]
        index[number, : len(drawn)] = drawn
    return Found(index, index != EMPTY)


@torch.inference_mode()
def pair_table(
    faces: EmbeddedFaces, bank: ReferenceBank, found: Found, corrector: Corrector, read_out: ReadOut
) -> pd.DataFrame:
    """One row per pair: true difference and what the head predicts, soft and hard, all in years.

    `read_out` gives the soft and the hard difference [P] (years, query minus reference) of single pairs.
    """
    query, place = np.nonzero(found.mask)
    reference = found.index[query, place]
    soft, hard, device = [np.empty(0)], [np.empty(0)], corrector.pipeline.device
    for start in range(0, len(query), PAIR_BATCH):
        part = slice(start, start + PAIR_BATCH)
        taken = bank.take(Found(reference[part, None], np.ones((len(reference[part]), 1), bool)))
        references = on_device(taken, device)
        embedding = torch.from_numpy(faces.embeddings[0][query[part]]).float()  # [P, E]
        estimate = torch.from_numpy(faces.estimates[0][query[part]])  # [P]
        said = read_out(corrector.head(on_device(Query(embedding, estimate), device), references), references)
        for values, tensor in zip((soft, hard), said, strict=True):
            values.append(tensor.cpu().numpy())
    return pd.DataFrame(
        {
            "query": faces.id[query],
            "reference": bank.id[reference],
            "true_difference": faces.low[query] - bank.ages[reference],
            "base_difference": faces.estimates[0][query] - bank.ages[reference],
            "soft_difference": np.concatenate(soft),
            "hard_difference": np.concatenate(hard),
        }
    )


def pair_sets(
    faces: EmbeddedFaces, corrector: Corrector, count: int, read_out: ReadOut
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the name and the pairs of each of the three sets: test and train references, and those retrieved."""
    radius, train = corrector.head.config.level_radius, corrector.bank
    own = bank_of([(faces, False)], corrector.pipeline.fingerprint)
    for name, bank in (("test query, test reference", own), ("test query, train reference", train)):
        yield name, pair_table(faces, bank, random_pairs(faces, bank, count, radius), corrector, read_out)
    found = corrector.find(Faces(faces.embeddings[0].astype(np.float32), faces.estimates[0], faces.id, faces.person))
    yield "references at the base's estimate", pair_table(faces, train, found, corrector, read_out)


def print_summary(tables: dict[str, pd.DataFrame], radius: int) -> None:
    """Print a Markdown table of the sets; MAE in years, over the pairs within the levels."""
    rows = []
    for name, table in tables.items():
        inside = table["true_difference"].abs() <= radius
        errors = [
            (table.loc[inside, f"{kind}_difference"] - table.loc[inside, "true_difference"]).abs().mean()
            for kind in ("soft", "hard", "base")
        ]
        rows.append([name, inside.sum(), (~inside).sum(), *(f"{error:.2f}" for error in errors)])
    headers = ["pairs", f"within ±{radius} years", "beyond", "MAE soft", "MAE hard", "MAE by the base's estimate"]
    print("\n".join(markdown(headers, rows)))


def infer_pairs(
    arguments: argparse.Namespace, name: str, load: Callable[[], Corrector], read_out: ReadOut, folders: Callable
) -> int:
    """Evaluate the difference alone as the command line says; returns the exit status (0 done, 2 nothing could be).

    `name` is the pipeline's, `load` loads its weights, `folders()` prepares the data if none is given.
    """
    try:
        corrector = load()
        faces = load_faces(arguments, arguments.data or folders(), corrector)
        radius = corrector.head.config.level_radius
        tables = dict(pair_sets(faces, corrector, arguments.pairs, read_out))
        print_summary(tables, radius)
        arguments.out.mkdir(parents=True, exist_ok=True)
        for number, (title, table) in enumerate(tables.items(), start=1):
            draw_confusion(table, radius, title, arguments.out / f"confusion_{number}.png")
        pairs = pd.concat([table.assign(set=title) for title, table in tables.items()])
        pairs.to_csv(arguments.out / "pairs.csv", index=False, float_format="%.3f")
        print(f"pairs and confusion matrices: {arguments.out}")
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0


def draw_confusion(pairs: pd.DataFrame, radius: int, title: str, path: Path) -> None:
    """Draw how often each true difference was taken for which (whole years, the ends holding all beyond)."""
    edges = np.arange(-radius - 0.5, radius + 1)
    true, said = (pairs[name].clip(-radius, radius) for name in ("true_difference", "hard_difference"))
    counts = np.histogram2d(true, said, bins=(edges, edges))[0]  # [2·radius + 1, 2·radius + 1]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, (axis,) = new_figure(5.6, 4.6)
    ends = (-radius - 0.5, radius + 0.5)
    image = axis.imshow(shares.T, origin="lower", extent=(*ends, *ends), cmap="cividis")
    axis.plot((-radius, radius), (-radius, radius), color="white", linewidth=1, linestyle=":")
    axis.set(xlabel="true difference (years)", ylabel="said difference, hard (years)", title=title)
    figure.colorbar(image, ax=axis, label="share of the pairs with this true difference")
    save_figure(figure, path)
