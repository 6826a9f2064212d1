"""What an inference is given: photos, folders, manifests, and the faces in them."""

import hashlib
import importlib.util
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from common.base.onnx import default_threads
from common.base.regressor import AgePredictBasicPipeline
from common.data.manifest import CROPS, CropRows, age_bounds, open_crops, read_manifest
from common.data.predictions import DOUBTFUL, OK
from common.errors import DataError, ImageError, UserError
from common.faces.alignment import resize_crop
from common.faces.detection import Face as Detected
from common.faces.images import Photo, decode_image
from common.faces.photo_files import Listing, list_pictures, not_looked_at, read_bytes
from common.inference.estimates import Face, FaceAge
from common.inference.options import InputOptions
from common.inference.terminal import printable

NO_FACE = "no face found"
AHEAD = 4  # images decoded and searched for faces at once, at most
Item = TypeVar("Item")
Result = TypeVar("Result")


def demo_photo() -> Path:
    """The portrait of the demo: Eileen Collins, 1999 (NASA, public domain), from scikit-image."""
    package = importlib.util.find_spec("skimage")  # imported, it would take half a second
    if package is None or package.origin is None:
        raise DataError("The demo portrait is that of scikit-image, which is not installed; give a photo.")
    return Path(package.origin).parent / "data" / "astronaut.png"


def list_inputs(options: InputOptions) -> pd.DataFrame:
    """Manifest of everything to be estimated, with a column `file`; raises DataError if there is nothing."""
    if options.manifest and options.inputs:
        raise DataError("Give photos or --manifest, not both.")
    if options.split and not options.manifest:
        raise DataError("--split needs --manifest.")
    if options.manifest:
        manifest = read_manifest(options.manifest)
        manifest["file"] = [str(options.manifest.parent / path) for path in manifest["path"]]
        manifest = manifest[manifest["split"] == options.split] if options.split else manifest
        if manifest.empty:
            part = f" in split '{options.split}'" if options.split else ""
            raise DataError(f"{options.manifest} has no rows{part}.")
        return manifest
    drawn = getattr(options, "explain", None)
    names = options.inputs or (str(demo_photo()),)
    files = [file for name in names for file in _files(name, drawn)]
    named = [name.encode("utf-8", "backslashreplace").decode() for name in files]  # a name need not be UTF-8
    manifest = pd.DataFrame({"path": named, "file": pd.Series(files, dtype=object)})
    for column in ("id", "person", "gender", "group"):
        manifest[column] = ""
    return manifest.assign(age=np.nan, age_min=np.nan, age_max=np.nan)


def _files(name: str, drawn: Path | None) -> list[str]:
    """The images of a folder and those below it, but not what was drawn in a folder within it; or the file itself."""
    path = Path(name)
    if not os.path.isdir(name):
        return [name]
    listing = list_pictures(path, skip=drawn)
    found = sorted([*listing.files, *listing.unreadable])  # a folder that cannot be read fails like any other input
    if said := not_looked_at(Listing(skipped=listing.skipped)):
        print(f"{printable(name)}: {said}", file=sys.stderr)
    return [str(file) for file in found] or [name]  # an empty folder is reported like any other bad input


def packed_crops(manifest: pd.DataFrame, path: Path | None) -> np.ndarray | CropRows | None:
    """The crops [N, S, S, 3] uint8 of the rows of a prepared folder's manifest.csv; None for any other input."""
    if path is None or path.name != "manifest.csv" or not (path.parent / CROPS).is_file():
        return None
    return open_crops(path.parent, manifest)


def read_faces(
    manifest: pd.DataFrame, options: InputOptions, base: AgePredictBasicPipeline
) -> Iterator[Face | FaceAge]:
    """Yield the faces of every input, or why it has none, reading one image at a time; `row` numbers the inputs.

    The manifest.csv of a prepared folder is read from its crops.npy; otherwise images are opened, faces found and
    aligned, of a labelled image only the largest one.
    """
    size = base.config.crop_size
    packed = packed_crops(manifest, options.manifest)
    low, high = age_bounds(manifest)
    people, truth = manifest["person"].fillna("").tolist(), np.where(low == high, low, np.nan).tolist()
    paths = manifest["path"].tolist()
    found: Iterable[Sequence[Face | FaceAge]]
    if packed is not None:
        crops = (resize_crop(np.array(packed[row]), size) for row in range(len(paths)))
        named = zip(paths, manifest["id"], crops, strict=True)
        found = ([Face(FaceAge(path, 0, id=number, row=row), crop)] for row, (path, number, crop) in enumerate(named))
    else:
        files = zip(paths, manifest["file"], range(len(paths)), strict=True)
        found = ahead(lambda file: _read(*file, options, base), files, min(AHEAD, default_threads()))
    for row, faces in enumerate(found):
        for part in faces:
            yield replace(part, person=people[row], true_age=truth[row]) if isinstance(part, Face) else part


def ahead(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield the result of `work` for each item, in order, so many threads working ahead of who takes them."""
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(
    path: str, file: str, row: int, options: InputOptions, base: AgePredictBasicPipeline
) -> Sequence[Face | FaceAge]:
    known = FaceAge(path, row=row)
    if re.match(r"https?://", path):
        return [replace(known, status="this is a web address; save the photo first and name its file")]
    try:
        data = read_bytes(file, path)
        known = replace(known, id=hashlib.sha1(data).hexdigest())  # never the manifest's own: identity is the bytes
        image = decode_image(data, path) if options.crops else Photo(data, path)
    except ImageError as error:
        return [replace(known, status=str(error).removeprefix(f"{path}: "))]
    if isinstance(image, np.ndarray):
        return [Face(replace(known, face=0), resize_crop(image, base.config.crop_size))]
    return faces_of(image, known, base)[: 1 if options.manifest else None]


def faces_of(image: np.ndarray | Photo, known: FaceAge, base: AgePredictBasicPipeline) -> Sequence[Face | FaceAge]:
    """The faces of a photo (or of [H, W, 3] uint8 RGB), the largest first, or why there are none."""
    try:
        found = base.faces(image)
    except ImageError as error:
        return [replace(known, status=str(error).removeprefix(f"{known.photo}: "))]
    except UserError:  # of the detector itself
        raise
    except Exception as error:  # of a photo of odd proportions: OpenCV and NumPy raise whatever they do
        told = " ".join(str(error).split()) or type(error).__name__
        return [replace(known, status=f"faces could not be looked for ({told})")]
    faces = [Face(_seen(known, place, face), crop) for place, (face, crop) in enumerate(found)]
    return faces or [replace(known, status=NO_FACE)]


def _seen(known: FaceAge, place: int, face: Detected) -> FaceAge:
    """What is known of the face at this place among those of a photo."""
    status = f"{DOUBTFUL}{face.doubtful}" if face.doubtful else OK
    return replace(known, face=place, box=face.box, turned=face.turned, status=status)
