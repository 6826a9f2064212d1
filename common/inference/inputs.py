"""What an inference is given: photos, folders, manifests, and the faces in them."""

import argparse
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.base.regressor import AgePredictBasicPipeline
from common.data.manifest import CROPS, CropRows, open_crops, read_manifest
from common.data.predictions import check_out
from common.errors import DataError, ImageError
from common.faces.alignment import resize_crop
from common.faces.images import decode_image
from common.faces.photo_files import Listing, list_pictures, not_looked_at, read_bytes
from common.inference.shards import check_sharding, take_shard

NO_FACE = "no face found"


@dataclass(frozen=True)
class FaceInput:
    """One face to estimate: its place among the faces of its picture, its box in pixels, its crop."""

    face: int
    box: tuple[float, float, float, float] | None
    crop: np.ndarray  # [S, S, 3] uint8


def demo_photo() -> Path:
    """The portrait of the demo: Eileen Collins, 1999 (NASA, public domain), from scikit-image."""
    import skimage.data

    return Path(skimage.data.__file__).parent / "astronaut.png"


def list_inputs(arguments: argparse.Namespace) -> pd.DataFrame:
    """Manifest of everything to be estimated, with a column `file`; raises DataError if there is nothing.

    With --shard it is a part, and `arguments.out` becomes the file of this part.
    """
    if getattr(arguments, "out", None):
        check_out(arguments.out)
    if arguments.manifest and arguments.inputs:
        raise DataError("Give photos or --manifest, not both.")
    if arguments.split and not arguments.manifest:
        raise DataError("--split needs --manifest.")
    if "shard" in arguments and (arguments.shard or arguments.processes > 1):
        check_sharding(arguments)
    if arguments.manifest:
        manifest = read_manifest(arguments.manifest)
        manifest["file"] = [str(arguments.manifest.parent / path) for path in manifest["path"]]
        manifest = manifest[manifest["split"] == arguments.split] if arguments.split else manifest
        if manifest.empty:
            part = f" in split '{arguments.split}'" if arguments.split else ""
            raise DataError(f"{arguments.manifest} has no rows{part}.")
        return take_shard(manifest, arguments) if getattr(arguments, "shard", None) else manifest
    drawn = getattr(arguments, "explain", None)
    files = [path for name in arguments.inputs or [demo_photo()] for path in _files(Path(name), drawn)]
    manifest = pd.DataFrame({"path": [str(path) for path in files], "file": [str(path) for path in files]})
    for column in ("id", "person", "gender", "group"):
        manifest[column] = ""
    return manifest.assign(age=np.nan, age_min=np.nan, age_max=np.nan)


def _files(path: Path, drawn: Path | None) -> list[Path]:
    """The pictures of a folder and those below it, but not what was drawn in a folder within it; or the file itself."""
    if not path.is_dir():
        return [path]
    listing = list_pictures(path, skip=drawn)
    found = sorted([*listing.files, *listing.unreadable])  # a folder that cannot be read fails like any other input
    if said := not_looked_at(Listing(skipped=listing.skipped)):
        print(f"{path}: {said}", file=sys.stderr)
    return found or [path]  # an empty folder stays in the list and is reported like any other bad input


def packed_crops(manifest: pd.DataFrame, path: Path | None) -> np.ndarray | CropRows | None:
    """The crops [N, S, S, 3] uint8 of the rows of a prepared folder's manifest.csv; None for any other input."""
    if path is None or path.name != "manifest.csv" or not (path.parent / CROPS).is_file():
        return None
    return open_crops(path.parent, manifest)


def read_faces(
    manifest: pd.DataFrame, arguments: argparse.Namespace, pipeline: AgePredictBasicPipeline
) -> Iterator[tuple[int, str, list[FaceInput] | str]]:
    """Yield (row, id, faces or the reason why there are none) for every input, reading one picture at a time.

    The manifest.csv of a prepared folder is read from its crops.npy; otherwise pictures are opened, faces found and
    aligned, of a labelled picture only the largest one.
    """
    size = pipeline.model.config.crop_size
    packed = packed_crops(manifest, arguments.manifest)
    for place, (row, record) in enumerate(zip(manifest.index, manifest.itertuples(), strict=True)):
        if packed is not None:
            yield row, record.id, [FaceInput(0, None, resize_crop(np.array(packed[place]), size))]
            continue
        number = ""
        try:
            data = read_bytes(record.file, record.path)
            number = hashlib.sha1(data).hexdigest()  # never the manifest's own: identity is the bytes
            image = decode_image(data, record.path)
        except ImageError as error:
            yield row, number, str(error).removeprefix(f"{record.path}: ")
            continue
        if arguments.crops:
            yield row, number, [FaceInput(0, None, resize_crop(image, size))]
            continue
        try:
            found = pipeline.faces(image)[: 1 if arguments.manifest else None]
        except Exception as error:  # of a picture of odd proportions: OpenCV and NumPy raise whatever they do
            yield row, number, f"faces could not be looked for ({' '.join(str(error).split()) or type(error).__name__})"
            continue
        faces = [FaceInput(place, face.box, crop) for place, (face, crop) in enumerate(found)]
        yield row, number, faces or NO_FACE
