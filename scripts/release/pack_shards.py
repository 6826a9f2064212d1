"""Prepared folders as shards of WebP, small enough to be carried to a machine with a GPU, and back into that form.

    python scripts/release/pack_shards.py pack data/prepared/utkface data/prepared/publicfigures --out out/shards
    python scripts/release/pack_shards.py unpack out/shards/utkface out/shards/publicfigures --out data/prepared

Packs the crops of --splits (base and val: what a training reads) at --quality, each set into a folder of its own, and
fails above --limit MiB a set: a set, or several, and the code go together in one bundle of at most 64 MiB, and sets
unpacked before stay there. The loss of WebP is part of what is trained on, so measure on the original crops.
Exit status: 0 done, 2 nothing could be done.
"""

import argparse
import hashlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from common.data.manifest import CROPS, PreparedSet, load_prepared, read_manifest, write_crops, write_index
from common.errors import DataError, UserError
from common.files import replacing, write_whole

MANIFEST, SETTINGS = "manifest.csv", "prepared.json"
SHARDS, PACKED_MANIFEST = "shards.json", f"{MANIFEST}.gz"
SHARD_BYTES = 8 * 2**20
LARGEST_SIDE = 1024  # pixels of a crop


def encoded(prepared: PreparedSet, rows: np.ndarray, quality: int) -> Iterator[bytes]:
    """The crops of these rows as WebP, one by one."""
    for row in tqdm(rows, desc=prepared.folder.name, unit="face"):
        data = io.BytesIO()
        Image.fromarray(np.array(prepared.crops[row])).save(data, "WEBP", quality=quality, method=4)
        yield data.getvalue()


def pack(folder: Path, out: Path, splits: list[str], quality: int, limit: float) -> float:
    """Write the shards of a prepared folder to <out>/<its name>; returns their MiB, raises DataError above `limit`."""
    prepared, out = load_prepared(folder), out / folder.name
    rows = np.flatnonzero(prepared.manifest["split"].isin(splits).to_numpy())
    if not len(rows):
        raise DataError(f"{folder} has no face in the splits {', '.join(splits)}.")
    if out.is_dir() and any(out.iterdir()):
        raise DataError(f"{out} is not empty; give a new folder to --out.")
    out.mkdir(parents=True, exist_ok=True)
    shards, waiting = [], []
    for number, data in enumerate(encoded(prepared, rows, quality), start=1):
        waiting.append(data)
        if number == len(rows) or sum(map(len, waiting)) >= SHARD_BYTES:
            shards.append(_write_shard(out / f"{len(shards):03d}.webps", waiting))
            waiting = []
    write_whole(out / PACKED_MANIFEST, prepared.manifest.iloc[rows].to_csv(index=False))
    settings = json.loads((folder / SETTINGS).read_text()) | {"webp_quality": quality, "splits": splits}
    document = {"side": int(prepared.crops.shape[1]), "faces": len(rows), "settings": settings, "shards": shards}
    write_whole(out / SHARDS, json.dumps(document))
    size = sum(path.stat().st_size for path in out.iterdir()) / 2**20
    if size > limit:
        raise DataError(f"{out} takes {size:.1f} MiB, more than {limit:g}; give a lower --quality, or fewer faces.")
    return size


def _write_shard(path: Path, images: list[bytes]) -> dict[str, Any]:
    data = b"".join(images)
    with replacing(path) as whole:
        whole.write_bytes(data)
    return {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "lengths": [len(image) for image in images]}


class Shards:
    """The crops of a packed set, read as they are asked for in order; behaves as `write_crops` needs it."""

    def __init__(self, folder: Path):
        try:
            said = json.loads((folder / SHARDS).read_text())
            self.faces, self.side, self.settings = int(said["faces"]), int(said["side"]), dict(said["settings"])
            parts = [(one["file"], one["sha256"], one["lengths"]) for one in said["shards"]]
            self.shards = [(str(name), str(digest), [int(one) for one in sizes]) for name, digest, sizes in parts]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} is no folder of shards ({error}); make it with pack_shards.py pack.") from None
        if not 0 < self.side <= LARGEST_SIDE or sum(len(lengths) for _, _, lengths in self.shards) != self.faces:
            raise DataError(f"{folder / SHARDS} contradicts itself; pack the set again.")
        self.folder, self.shape = folder, (self.faces, self.side, self.side, 3)
        self.images = self._decoded()

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([next(self.images) for _ in rows])

    def _decoded(self) -> Iterator[np.ndarray]:
        for name, digest, lengths in self.shards:
            path = self.folder / Path(name).name
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DataError(f"{path} cannot be read ({error.strerror}); carry all shards of a set.") from None
            if hashlib.sha256(data).hexdigest() != digest or sum(lengths) != len(data):
                raise DataError(f"{path} is not the shard that was packed; carry it again.")
            start = 0
            for length in lengths:
                yield self._crop(data[start : start + length], path)
                start += length

    def _crop(self, data: bytes, path: Path) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
                if image.size != (self.side, self.side):
                    raise DataError(f"{path} holds an image of another size than {self.side} px; pack the set again.")
                return np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{path} holds what is no WebP image ({error}); pack the set again.") from None


def unpack(folder: Path, out: Path) -> int:
    """Write a packed set as the prepared folder <out>/<its name>; returns its faces; raises DataError."""
    shards, out = Shards(folder), out / folder.name
    manifest = read_manifest(folder / PACKED_MANIFEST)
    if len(manifest) != shards.faces:
        raise DataError(f"{folder / PACKED_MANIFEST} has {len(manifest)} rows for {shards.faces} faces; pack again.")
    if (out / CROPS).exists():
        raise DataError(f"{out} holds crops already; remove it, or give another folder to --out.")
    out.mkdir(parents=True, exist_ok=True)
    write_crops(out / CROPS, shards, np.arange(shards.faces))
    manifest.to_csv(out / MANIFEST, index=False)
    write_index(out, manifest["id"])
    write_whole(out / SETTINGS, json.dumps(shards.settings | {"name": folder.name}, indent=1))
    return shards.faces


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=("pack", "unpack"), help="to shards, or back")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="prepared folders, or folders of shards")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the results, one for each set"
    )
    parser.add_argument("--splits", nargs="+", default=["base", "val"], help="splits to pack (base val)")
    parser.add_argument("--quality", type=int, choices=range(1, 101), default=80, metavar="Q", help="of WebP (80)")
    parser.add_argument("--limit", type=float, default=60.0, metavar="MIB", help="largest size of a set (60)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    arguments = parse_arguments(argv)
    try:
        for folder in arguments.folders:
            if arguments.way == "pack":
                size = pack(folder, arguments.out, arguments.splits, arguments.quality, arguments.limit)
                print(f"{arguments.out / folder.name}: {size:.1f} MiB")
            else:
                print(f"{arguments.out / folder.name}: {unpack(folder, arguments.out)} faces")
    except UserError as error:
        print(f"pack_shards: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
