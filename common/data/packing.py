"""From images to crops: which face of an image is meant, cut out once for every content of a file."""

import hashlib

import numpy as np
import pandas as pd
from tqdm import tqdm

from common.data.crop_store import CropStore, Key
from common.data.source import Entry, Source
from common.errors import DataError, ImageError
from common.faces.alignment import align_face, resize_crop
from common.faces.detection import Face, FaceDetector
from common.faces.images import decode_image


class CropMaker:
    """Bytes of an image in, crop [S, S, 3] uint8 out; loads the face detector when first needed."""

    def __init__(self, size: int):
        self.size = size
        self.detector: FaceDetector | None = None

    def __call__(self, entry: Entry, data: bytes) -> np.ndarray:
        """Crop of one entry; raises ImageError for an unreadable image or one without a face."""
        image = decode_image(data, entry.path)  # [H, W, 3]
        if entry.ready_crop:
            return resize_crop(image, self.size)
        self.detector = self.detector or FaceDetector()
        faces = self.detector.detect(image)
        if entry.box:
            faces = faces_in(faces, entry.box)
        if not faces:
            raise ImageError(f"{entry.path}: no face found.")
        return align_face(image, faces[0].landmarks, self.size)


def faces_in(faces: list[Face], box: tuple[float, float, float, float]) -> list[Face]:
    """Faces whose centre lies in a box (left, top, right, bottom in pixels), the one nearest to its centre first."""
    left, top, right, bottom = box

    def distance(face: Face) -> float:
        x, y = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
        if not (left <= x <= right and top <= y <= bottom):
            return np.inf
        return float(np.hypot(x - (left + right) / 2, y - (top + bottom) / 2))

    return sorted((face for face in faces if distance(face) < np.inf), key=distance)


def cut_of(entry: Entry) -> str:
    """How the face is cut out of an entry's image: as it is, in a box, or the largest one."""
    return "ready" if entry.ready_crop else "" if entry.box is None else " ".join(f"{edge:g}" for edge in entry.box)


def read_ids(source: Source, entries: list[Entry]) -> pd.Series:
    """SHA-1 of the bytes of every entry's image, '' where there is none, by its path."""
    wanted = {entry.path for entry in entries}
    bar = tqdm(source.read(wanted), total=len(wanted), desc="reading", unit="file", disable=len(wanted) < 500)
    ids = {name: hashlib.sha1(data).hexdigest() for name, data in bar}
    return pd.Series([ids.get(entry.path, "") for entry in entries], index=[entry.path for entry in entries], dtype=str)


def pack_crops(source: Source, entries: list[Entry], ids: pd.Series, store: CropStore, size: int) -> pd.DataFrame:
    """Make the crop of every entry that has none in the store yet.

    Returns a table, a row for each entry, with `id`, `cut` and `problem` ('' if fine).
    """
    keys = [Key(ids[entry.path], cut_of(entry)) for entry in entries]
    store.take_finished(set(keys))
    waiting = {entry.path: row for row, entry in enumerate(entries) if keys[row].id and keys[row] not in store}
    make = CropMaker(size)
    for name, data in tqdm(source.read(set(waiting)), total=len(waiting), desc="crops", unit="face"):
        row = waiting[name]
        if hashlib.sha1(data).hexdigest() != keys[row].id:
            raise DataError(f"{name} changed while it was prepared; run the same command again.")
        try:
            store.add(keys[row], make(entries[row], data))
        except ImageError as error:
            store.fail(keys[row], str(error).removeprefix(f"{name}: "))
    vanished = [name for name, row in waiting.items() if keys[row] not in store]
    if vanished:
        raise DataError(f"{vanished[0]} changed while it was prepared; run the same command again.")
    no_file = "there is no such file below the folder of the source, or it cannot be read."
    reasons = [store.problems.get(key, "" if key.id else no_file) for key in keys]
    problem = [f"{entry.path}: {reason}" if reason else "" for entry, reason in zip(entries, reasons, strict=True)]
    return pd.DataFrame({"id": [key.id for key in keys], "cut": [key.cut for key in keys], "problem": problem})


def keys_of(packed: pd.DataFrame, rows: np.ndarray) -> list[Key]:
    """The keys of these rows [M] of what `pack_crops` returns."""
    return [Key(row.id, row.cut) for row in packed.iloc[rows].itertuples()]
