"""Faces of a prepared set as the base regressor sees them: embeddings and estimates, computed once and kept.

Frozen-embedding stages of every difference pipeline train on these; banks are built from them.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from common.base.augment import Augmentation, augment
from common.base.config import BARConfig
from common.base.model import BAR, BAROutput, Estimator, central_view, estimate
from common.base.onnx import OnnxBase
from common.base.regressor import AgePredictBasicPipeline
from common.base.weights import trained_on
from common.data.labels import GROUP_PREFIX, SET_MARK, is_group
from common.data.manifest import PreparedSet, age_bounds, crops_digest, drawn, load_prepared
from common.data.predictions import prediction_table
from common.data.splits import components, duplicate_pairs
from common.difference.bank import ReferenceBank
from common.errors import DataError
from common.files import REPOSITORY, replacing

EMBED_BATCH = 64


@dataclass(frozen=True)
class EmbeddedFaces:
    """The N labelled faces of one split of one set, in V views; view 0 is the face as it is.

    embeddings [V, N, E] float16; estimates [V, N] float32 years; low, high [N] float32 years, equal where the age is
    exact; person [N] str (faces of one person, or copies of one image, share a name; '' unknown); id [N] str;
    row [N] int64 in the prepared set, and owner [N] int64, the number of that set among several.
    """

    embeddings: np.ndarray
    estimates: np.ndarray
    low: np.ndarray
    high: np.ndarray
    person: np.ndarray
    id: np.ndarray
    row: np.ndarray
    owner: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    @property
    def exact(self) -> np.ndarray:
        """Mask [N] bool of faces whose age is known exactly."""
        return self.low == self.high

    def where(self, keep: np.ndarray) -> "EmbeddedFaces":
        """The faces where `keep` [N] is True."""
        rest = (getattr(self, field.name)[keep] for field in fields(self)[2:])
        return EmbeddedFaces(self.embeddings[:, keep], self.estimates[:, keep], *rest)


@dataclass(frozen=True)
class Views:
    """How faces are embedded and where that is kept: augmented views of each, their strength, seed, cache folder."""

    cache: str
    count: int = 0
    strength: float = 0.5
    seed: int = 0


class GraphEstimator:
    """The ONNX graph of a base regressor, called as the network in torch is."""

    def __init__(self, graph: OnnxBase, config: BARConfig):
        self.graph, self.config = graph, config

    def __call__(self, images: Tensor) -> BAROutput:
        """What the graph says of images [B, 3, I, I] float in 0..1."""
        return BAROutput(*map(torch.from_numpy, self.graph(images.numpy())))


def estimator(pipeline: AgePredictBasicPipeline) -> Estimator:
    """The graph of a base where it has one (on a CPU, twice as fast), else its network."""
    return pipeline.model if pipeline.graph is None else GraphEstimator(pipeline.graph, pipeline.config)


@torch.inference_mode()
def embed(model: Estimator, crops: np.ndarray, views: int, strength: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [1 + views, N, E] float16 and estimates [1 + views, N] float32 (years) of crops [N, S, S, 3].

    View 0 is undisturbed, the others are augmented with `strength` times the default; the seed decides how.
    """
    device = next(model.parameters()).device if isinstance(model, BAR) else torch.device("cpu")
    options = Augmentation().scaled(strength)
    embeddings = np.empty((1 + views, len(crops), model.config.embedding_size), np.float16)
    estimates = np.empty((1 + views, len(crops)), np.float32)
    for start in tqdm(range(0, len(crops), EMBED_BATCH), unit="batch", desc="embedding", disable=len(crops) < 500):
        part = slice(start, start + EMBED_BATCH)
        batch = torch.from_numpy(np.ascontiguousarray(crops[part])).to(device)  # [B, S, S, 3]
        generator = torch.Generator(device).manual_seed(seed * 1_000_003 + start)
        for view in range(1 + views):
            images = augment(batch, model.config, options, generator) if view else central_view(batch, model.config)
            output = estimate(model, images)
            embeddings[view, part], estimates[view, part] = output.embedding.cpu().numpy(), output.age.cpu().numpy()
    return embeddings, estimates


def picture_names(person: np.ndarray, ids: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Names [N] str of who is shown: the person, or for copies of one image of an unknown one a common name.

    That name is "copy of " and the smallest id among the copies; `person` and `ids` are [N] str, `group` [N] int64 the
    same number for copies of one image.
    """
    table = pd.DataFrame({"id": ids, "group": group}).groupby("group")["id"]
    copies = GROUP_PREFIX + table.transform("min").to_numpy(str).astype(object)
    several = table.transform("size").to_numpy() > 1
    return np.where(person != "", person, np.where(several, copies, "")).astype(str)


class Cached(NamedTuple):
    """What crops and weights alone decide of N faces: embeddings, estimates, and which are copies (group [N] int64)."""

    embeddings: np.ndarray
    estimates: np.ndarray
    group: np.ndarray


def cached(pipeline: AgePredictBasicPipeline, prepared: PreparedSet, rows: np.ndarray, views: Views) -> Cached:
    """Embeddings and estimates of these rows [N] of a set, from `views.cache` if they are there whole.

    Nothing that can be corrected is kept; the key is the weights, the views, the crops and the images' ids.
    """
    ids = prepared.manifest["id"].to_numpy(str)[rows]
    how = (views.count, Augmentation().scaled(views.strength), views.seed)
    crops, width = crops_digest(prepared.folder), pipeline.config.embedding_size
    key = repr((Cached._fields, pipeline.fingerprint, how, crops, ids.tolist() if ids.all() else rows.tolist()))
    stored = Path(views.cache) / f"{hashlib.sha1(key.encode()).hexdigest()}.npz"
    shape = (1 + views.count, len(rows))
    try:
        with np.load(stored, allow_pickle=False) as arrays:
            found = Cached(*(arrays[name] for name in Cached._fields))
        if [array.shape for array in found] == [(*shape, width), shape, shape[1:]]:
            return found
    except Exception:  # none yet, or cut off: zip, zlib, numpy and plain Python errors
        pass
    chosen = prepared.crops[rows]
    made = Cached(
        *embed(estimator(pipeline), chosen, views.count, views.strength, views.seed),
        components(len(rows), duplicate_pairs(chosen)).astype(np.int64),
    )
    try:
        stored.parent.mkdir(parents=True, exist_ok=True)
        with replacing(stored) as whole:
            np.savez(whole, **made._asdict())
    except OSError as error:
        print(f"embeddings are not kept in {stored.parent} ({error.strerror}).", file=sys.stderr)
    return made


def embed_split(
    pipeline: AgePredictBasicPipeline, folder: str | Path, split: str, views: Views, limit: int = 0
) -> EmbeddedFaces:
    """The labelled faces of one split of a prepared set; labels, persons and splits are those of its manifest now.

    `limit` draws only that many (0: all). Raises DataError if the folder is no prepared set.
    """
    prepared = load_prepared(folder)
    low, high = age_bounds(prepared.manifest)
    rows = prepared.rows(split)
    rows = drawn(rows[~np.isnan(low[rows])], limit, views.seed)
    found = cached(pipeline, prepared, rows, views)
    person, ids = (prepared.manifest[name].to_numpy(str)[rows] for name in ("person", "id"))
    low, high = (bound[rows].astype(np.float32) for bound in (low, high))
    names = picture_names(person, ids, found.group)
    return EmbeddedFaces(found.embeddings, found.estimates, low, high, names, ids, rows, np.zeros_like(rows))


def set_names(folders: Sequence[str]) -> list[str]:
    """Names of prepared sets: their folders', with as many of those above as tell them all apart ("a/prepared")."""
    parts = [Path(folder).resolve().parts for folder in folders]
    depths = range(1, max(map(len, parts)) + 1)
    enough = next(depth for depth in depths if len({part[-depth:] for part in parts}) == len(set(parts)))
    return ["/".join(part[-enough:]) for part in parts]


def of_set(faces: EmbeddedFaces, number: int, folders: Sequence[str]) -> EmbeddedFaces:
    """The faces of set `number` of several, owned by it and with its name before a person's: 001 of two are two."""
    name = set_names(folders)[number] + SET_MARK
    foreign = np.array([person and not is_group(person) for person in faces.person], bool) & (len(folders) > 1)
    person = np.where(foreign, np.char.add(name, faces.person.astype(str)), faces.person)
    return replace(faces, owner=np.full(len(faces), number), person=person)


def concatenate(parts: Sequence[EmbeddedFaces]) -> EmbeddedFaces:
    """The faces of all parts in one, each keeping its owner."""
    axes = {field.name: 1 if field.name in ("embeddings", "estimates") else 0 for field in fields(EmbeddedFaces)}
    return EmbeddedFaces(
        **{name: np.concatenate([getattr(part, name) for part in parts], axis=axis) for name, axis in axes.items()}
    )


def join(parts: Sequence[EmbeddedFaces], folders: Sequence[str]) -> EmbeddedFaces:
    """The faces of several prepared sets as one, see `of_set`; raises DataError if no labelled face is left."""
    faces = concatenate([of_set(part, number, folders) for number, part in enumerate(parts)])
    if not len(faces):
        raise DataError("There is no labelled face to ask about; check --data and its splits.")
    return faces


def embedding_cache(runs: str) -> Path:
    """Folder of the embeddings that runs share (`runs` empty: runs/ of this repository)."""
    return (Path(runs) if runs else REPOSITORY / "runs") / "embeddings"


def embed_data(
    config: Any, folders: Sequence[str], split: str, views: int, pipeline: AgePredictBasicPipeline
) -> EmbeddedFaces:
    """All labelled faces of a split in 1 + `views` views, computed once and kept in <runs>/embeddings.

    Of the training config `runs`, `view_strength`, `limit` and `embedding_size` are read. Raises DataError if the base
    has embeddings of another size.
    """
    width = pipeline.config.embedding_size
    if config.embedding_size != width:
        raise DataError(
            f"The embeddings of this base have {width} numbers, the head would take {config.embedding_size}; add "
            f"--embedding-size {width}."
        )
    how = Views(str(embedding_cache(config.runs)), views, config.view_strength)
    return join([embed_split(pipeline, folder, split, how, config.limit) for folder in folders], folders)


def embed_bank(
    config: Any, folders: Sequence[str], pipeline: AgePredictBasicPipeline, weights: Path
) -> tuple[ReferenceBank, EmbeddedFaces]:
    """The training bank of the splits named by `config.bank` ("base+dar"), and the faces it is made of.

    The base has seen the `base` split of the sets that its weights (folder `weights`) were trained on. Raises
    DataError if no reference has an exact age.
    """
    how = Views(str(embedding_cache(config.runs)))
    known = trained_on(weights)
    parts, origins = [], []
    for split in config.bank.split("+"):
        for number, folder in enumerate(folders):
            if not load_prepared(folder).manifest["age"].notna().any():
                continue  # ages known to an interval only: nothing to refer to
            faces = of_set(embed_split(pipeline, folder, split, how, config.limit), number, folders)
            seen = split == "base" and (known is None or Path(folder).resolve().name in known)
            parts.append((faces, seen))
            origins.append(faces.where(faces.exact))
    if not sum(map(len, origins)):
        raise DataError("No reference has an exact age; give --data with at least one set of exact ages.")
    bank = bank_of(parts, pipeline.fingerprint)
    return replace(bank, embeddings=rounded(bank.embeddings)), concatenate(origins)


def rounded(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [N, E] as multiples of a 16th of their spread, [N, E] float16: half as large in a packed file.

    The step is a power of two. Ages by such a bank differ by less than 0.01 years on average.
    """
    wide = embeddings.astype(np.float32)
    step = 2.0 ** np.round(np.log2(max(float(wide.std()), 1e-6) / 16))
    return (np.round(wide / step) * step).astype(np.float16)


def epoch_numbers(count: int, config: Any, epoch: int) -> Iterator[tuple[int, np.ndarray]]:
    """Step and query numbers [B] of every step of an epoch; they depend on nothing but `config.seed` and epoch."""
    order = np.random.default_rng([config.seed, epoch]).permutation(count)
    for step in range(max(1, count // config.batch_size)):
        yield step, order[step * config.batch_size : (step + 1) * config.batch_size]


def bank_of(parts: Sequence[tuple[EmbeddedFaces, bool]], weights: str) -> ReferenceBank:
    """A bank of all exactly labelled faces of (faces, seen by the base?) pairs, made with weights `weights`."""
    chosen = [(faces, faces.exact, seen) for faces, seen in parts]
    return ReferenceBank(
        embeddings=np.concatenate([faces.embeddings[0][exact] for faces, exact, _ in chosen]),
        ages=np.concatenate([faces.low[exact] for faces, exact, _ in chosen]),
        estimates=np.concatenate([faces.estimates[0][exact] for faces, exact, _ in chosen]),
        seen=np.concatenate([np.full(exact.sum(), seen) for _, exact, seen in chosen]),
        person=np.concatenate([faces.person[exact] for faces, exact, _ in chosen]),
        id=np.concatenate([faces.id[exact] for faces, exact, _ in chosen]),
        fingerprint=weights,
    )


def embedded_table(faces: EmbeddedFaces, ages: np.ndarray) -> pd.DataFrame:
    """Predictions table of embedded faces: base estimates of view 0 beside `ages` [N] (years), without paths."""
    manifest = pd.DataFrame({"id": faces.id, "path": "", "person": faces.person, "gender": "", "group": ""})
    manifest = manifest.assign(age=np.where(faces.exact, faces.low, np.nan), age_min=faces.low, age_max=faces.high)
    return prediction_table(manifest, ages).assign(base_age=faces.estimates[0].astype(float))
