"""How far an inference is, on stderr."""

from collections.abc import Iterable, Iterator

from tqdm import tqdm

from common.inference.estimates import Face, FaceAge
from common.inference.options import Shard

FEW = 20  # images that need no progress bar


def progress(found: Iterable[Face | FaceAge], count: int, shard: Shard | None) -> Iterator[Face | FaceAge]:
    """Pass faces on and show how many of `count` images they are of."""
    named = {"desc": f"shard {shard}", "position": shard.index} if shard else {}
    with tqdm(total=count, unit="image", disable=count < FEW, **named) as bar:
        for part in found:
            bar.update(max(part.row + 1 - bar.n, 0))
            yield part
