"""One base regressor of two trained ones, MobileFaceNet's and EdgeFace's: the mean of their scores, without training.

    python scripts/release/join_bases.py weights/AgeRegBaseline runs/AgeRegBaseline/<time>/weights --out runs/joined
    python scripts/release/join_bases.py weights/AgeRegBaseline weights/AgeRegBaseline-large --out runs/joined

The second is a base trained with --preset large, or a joined one, in which the first takes the place of the one it was
joined with (found in the history of weights/AgeRegBaseline by its fingerprint). The joined one looks at all that the
two look at; its embedding is theirs side by side, so everything that stands on a base can stand on it.
Exit status: 0 done, 2 nothing could be done.
"""

import argparse
import hashlib
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from common.base.model import BAR, BARConfig
from common.base.two_networks import VIEW
from common.base.weight_files import CONFIG_FILE, MODEL_FILE, read_settings
from common.base.weights import fingerprint, git_commit, load_bar, save_bar, trained_on
from common.errors import UserError, WeightsError
from common.pipeline import RELEASED
from scripts.release.compare_releases import git


def join(first: BAR, second: BAR, part: float = 0.5) -> BAR:
    """The BAR whose scores are `part` of those of `first` (mobilefacenet) and the rest of `second` (edgeface).

    Raises WeightsError if they are of other backbones, heads or ages.
    """
    backbones = (first.config.backbone, second.config.backbone)
    if backbones != ("mobilefacenet", "edgeface"):
        raise WeightsError(
            "The first base must be of mobilefacenet, the second of edgeface; they are of {}, {}.".format(*backbones)
        )
    same = [(bar.config.head, bar.config.min_age, bar.config.max_age, bar.config.crop_size) for bar in (first, second)]
    if same[0] != same[1] or first.config.head == "regression":
        raise WeightsError("Both bases must give a distribution over the same ages, from crops of one size.")
    config = BARConfig(
        backbone="two_networks", head=first.config.head, crop_size=first.config.crop_size,
        min_age=first.config.min_age, max_age=first.config.max_age, decode=first.config.decode, mirror=False,
        embedding_size=first.config.embedding_size + second.config.embedding_size, **VIEW,
    )  # fmt: skip
    joined = BAR(config).eval()
    with torch.no_grad():
        joined.backbone.mobilefacenet.load_state_dict(first.backbone.state_dict())
        joined.backbone.edgeface.load_state_dict(second.backbone.state_dict())
        layers = (first.embedding[0], second.embedding[0])
        joined.embedding[0].weight.copy_(torch.block_diag(*(layer.weight for layer in layers)))
        joined.embedding[0].bias.copy_(torch.cat([layer.bias for layer in layers]))
        joined.head.weight.copy_(torch.cat([part * first.head.weight, (1 - part) * second.head.weight], dim=1))
        joined.head.bias.copy_(part * first.head.bias + (1 - part) * second.head.bias)
        joined.centre.copy_(torch.cat([first.centre, second.centre]))
        joined.spread.copy_(torch.cat([first.spread, second.spread]))
    return joined


@torch.no_grad()
def exchange(first: BAR, joined: BAR, before: BAR, part: float) -> BAR:
    """The joined BAR with `first` in the place of `before`, which it was joined of; raises WeightsError.

    In it `first` reads at MOBILEFACENET_SIDE px, whatever its own input_size.
    """
    if joined.config.backbone != "two_networks" or first.config.backbone != "mobilefacenet":
        raise WeightsError("Only the base of mobilefacenet in a joined base can be exchanged.")
    alike = ("head", "min_age", "max_age", "crop_size", "embedding_size", "crop_fraction", "crop_rise")
    if any(getattr(before.config, key) != getattr(first.config, key) for key in alike):
        raise WeightsError("The new base must be of the size, head and ages of the one that it takes the place of.")
    exchanged = BAR(replace(joined.config, decode=first.config.decode)).eval()
    exchanged.load_state_dict(joined.state_dict())
    exchanged.backbone.mobilefacenet.load_state_dict(first.backbone.state_dict())
    layer, mine = exchanged.embedding[0], first.embedding[0]
    size, width = mine.weight.shape
    layer.weight[:size, :width], layer.bias[:size] = mine.weight, mine.bias
    exchanged.head.weight[:, :size] = part * first.head.weight
    exchanged.head.bias += part * (first.head.bias - before.head.bias)
    exchanged.centre[:size], exchanged.spread[:size] = first.centre, first.spread
    return exchanged


def earlier(wanted: str) -> BAR:
    """The released base of this fingerprint, from the history of weights/AgeRegBaseline; raises WeightsError."""
    folder = f"weights/{RELEASED.name}"
    for commit in git("log", "--format=%H", "--diff-filter=AM", "--", f"{folder}/{MODEL_FILE}").decode().split():
        model = git("show", f"{commit}:{folder}/{MODEL_FILE}")
        if hashlib.sha1(model).hexdigest() == wanted:
            with tempfile.TemporaryDirectory() as place:
                (Path(place) / MODEL_FILE).write_bytes(model)
                (Path(place) / CONFIG_FILE).write_bytes(git("show", f"{commit}:{folder}/{CONFIG_FILE}"))
                return load_bar(place)
    raise WeightsError(f"The base {wanted[:8]} is not in the history of {folder}; join with the base of EdgeFace.")


def joined_of(first: Path, second: Path, part: float) -> tuple[BAR, list[str]]:
    """The joined base of two folders of weights, and the fingerprints of its parts; raises WeightsError."""
    said = read_settings(second).get("joined")
    if said is None:
        return join(load_bar(first), load_bar(second), part), [fingerprint(first), fingerprint(second)]
    if said["part"] != part:
        raise WeightsError(f"{second} was joined with --part {said['part']}; it stays.")
    joined = exchange(load_bar(first), load_bar(second), earlier(said["of"][0]), part)
    return joined, [fingerprint(first), said["of"][1]]


def write(arguments: argparse.Namespace) -> Path:
    """Join the two bases of a command line and write the result; returns its folder, raises WeightsError."""
    if not 0 < arguments.part < 1:
        raise WeightsError(f"--part must be between 0 and 1, not {arguments.part}.")
    folders = (arguments.first, arguments.second)
    joined, parts = joined_of(*folders, arguments.part)
    notes = {
        "joined": {"of": parts, "part": arguments.part},
        "data": sorted({name for folder in folders for name in trained_on(folder) or []}),
        "commit": git_commit(),
    }
    return save_bar(joined, arguments.out, notes)


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("first", type=Path, metavar="MOBILEFACENET", help="folder of base weights")
    add("second", type=Path, metavar="EDGEFACE", help="folder of base weights trained with --preset large, or joined")
    add("--part", type=float, default=0.5, help="part of the first in the mean (0.5)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the joined weights")
    try:
        print(f"weights: {write(parser.parse_args(argv))}")
    except UserError as error:
        print(f"join_bases: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
