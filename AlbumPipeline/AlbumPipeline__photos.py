"""Folders of photos as a table of faces: ages by the base, dates by EXIF and names, people by folders or examples.

Recognition and clustering happen only when asked for; face-recognition embeddings stay in memory.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from AlbumPipeline.AlbumPipeline__tables import COLUMNS
from common.data.dates import exif_date, name_date
from common.data.predictions import DOUBTFUL, OK
from common.errors import DataError, ImageError, WeightsError
from common.faces.identity import IdentityEncoder, match_people, threshold
from common.faces.images import decode_image
from common.faces.photo_files import list_pictures, not_looked_at, read_bytes
from common.inference.terminal import printable
from common.pipeline import RELEASED, AgePipeline, FaceAge

TOGETHER = 32  # photos estimated at once
SAME_PERSON = 1.05  # mean distance of identity embeddings within a cluster
MOST_CLUSTERED = 5000  # faces; their distances take 200 MB
PERSON = "person"  # what unnamed people are called, with a number


class Photo(NamedTuple):
    """An image: its file, the folder it was found in, its SHA-1 ('' unreadable)."""

    file: Path
    root: Path
    id: str


def faces_of_photos(
    arguments: argparse.Namespace, notes: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """Faces (COLUMNS) of all photos in the folders, no births, and a sentence for each photo that has none.

    Reads inputs, explain, examples, cluster, false_match_rate, no_exif, base_weights and device of the command line.
    Raises WeightsError if the errors were fitted for another base (`notes`), DataError for a folder without images.
    """
    pipeline = AgePipeline.from_weights(arguments.base_weights or RELEASED, arguments.device)
    if notes.get("base") and notes["base"] != pipeline.base.fingerprint:
        raise WeightsError(
            "The errors in --weights were fitted for another base; fit them anew: python "
            "AlbumPipeline/AlbumPipeline__main.py --data PREPARED_DIR --out DIR [--base-weights DIR]."
        )
    photos = list_photos(arguments.inputs, arguments.explain)
    recognise = bool(arguments.examples or arguments.cluster)
    ages, identity = (
        _recognised_faces(pipeline, photos) if recognise else (_faces(pipeline, photos), np.empty((0, 512)))
    )
    rows, problems = [], []
    people = folder_people(photos) if not recognise else [""] * len(photos)
    for photo, person, found in zip(photos, people, ages, strict=True):
        stated, latest, said = photo_dates(photo, arguments.no_exif)
        problems += [f"{photo.file}: {said}"] if said else []
        for face in found:
            rows.append((str(photo.file), face, person, stated, latest, photo.id))
            if face.status.startswith(DOUBTFUL):
                print(printable(f"{photo.file}: {face.status}; it counts like the others"), file=sys.stderr)
            elif face.status != OK:
                problems.append(f"{photo.file}: {face.status}")
    faces = _table(rows, named_by_folder=not recognise)
    if recognise:
        named = np.isfinite(faces["estimate"].to_numpy(float))
        faces.loc[named, "person"] = name_people(identity, arguments, pipeline)
    return faces, {}, problems


def list_photos(folders: list[Path], drawn: Path | None) -> list[Photo]:
    """The images in folders, files themselves too, without the drawings in `drawn`; raises DataError without one."""
    photos = []
    for root in folders:
        if not root.exists():
            raise DataError(f"There is nothing at {root}; give a folder of photos.")
        listing = list_pictures(root, skip=drawn) if root.is_dir() else None
        if listing and (said := not_looked_at(listing)):
            print(f"{root}: {said}", file=sys.stderr)
        photos += [_photo(file, root) for file in (listing.files if listing else [root])]
    if not photos:
        raise DataError(f"There is no image in {', '.join(map(str, folders))}.")
    return photos


def _photo(file: Path, root: Path) -> Photo:
    try:
        return Photo(file, root, hashlib.sha1(read_bytes(file, str(file))).hexdigest())
    except ImageError:
        return Photo(file, root, "")


def photo_dates(photo: Photo, no_exif: bool = False) -> tuple[str, str, str]:
    """When a photo was taken as stated ('' unknown), a date it is not later than, and what is wrong with its names."""
    taken = "" if no_exif else exif_date(photo.file)
    edited = exif_date(photo.file, trust_edit_date=True)
    parts = photo.file.relative_to(photo.root).parts if photo.root.is_dir() else (photo.file.name,)
    try:
        said, problem = name_date((*(photo.root.name,), *parts) if photo.root.is_dir() else parts), ""
    except ValueError as error:
        said, problem = "", str(error)
    return taken[:10] or said, edited[:10], problem


def folder_people(photos: list[Photo]) -> list[str]:
    """Whom the folder of each photo names: the innermost one that is no date, below the one given; '' without one.

    A folder that lies in those of several people with photos of their own (`anna/box`, `bea/box`) is a part of each.
    What else is unclear is said on stderr.
    """
    chains = [_folders(photo) for photo in photos]
    above: dict[str, set[tuple[str, ...]]] = {}
    for chain in chains:
        if len(chain) > 2:
            above.setdefault(chain[-1], set()).add(chain[:-1])
    parts = {name for name, parents in above.items() if len(parents) > 1 and parents <= set(chains)}
    for name, parents in sorted(above.items()):
        inside = " and ".join(sorted(parent[-1] for parent in parents)[:3])
        if name not in parts and (len(parents) > 1 or parents <= set(chains)):
            said = f"the photos in {name} (in {inside}) are taken for those of a person of this name"
            print(printable(said), file=sys.stderr)
    return [chain[-2] if chain[-1] in parts else chain[-1] if len(chain) > 1 else "" for chain in chains]


def _folders(photo: Photo) -> tuple[str, ...]:
    """The folder that was given, and those below it above the photo that are no dates."""
    folders = photo.file.relative_to(photo.root).parts[:-1] if photo.root.is_dir() else ()
    return (str(photo.root), *(name for name in folders if not name_date((name, ""))))


def _faces(pipeline: AgePipeline, photos: list[Photo]) -> list[list[FaceAge]]:
    """The faces of each photo, the largest first."""
    found: list[list[FaceAge]] = []
    for start in range(0, len(photos), TOGETHER):
        part = [str(photo.file) for photo in photos[start : start + TOGETHER]]
        by_name: dict[str, list[FaceAge]] = {name: [] for name in part}
        for face in pipeline.estimate(part):
            by_name[face.photo].append(face)
        found += [by_name[name] for name in part]
    return found


def _recognised_faces(pipeline: AgePipeline, photos: list[Photo]) -> tuple[list[list[FaceAge]], np.ndarray]:
    """The faces of each photo, and the identity embeddings [F, 512] of all that were found, in their order."""
    encoder, found, identities = IdentityEncoder(), [], [np.empty((0, 512), np.float32)]
    for photo in photos:
        try:
            crops = _crops(pipeline, photo.file)
        except ImageError as error:
            found.append([FaceAge(str(photo.file), status=str(error).removeprefix(f"{photo.file}: "))])
            continue
        found.append(pipeline.estimate_crops(crops) if crops else [FaceAge(str(photo.file), status="no face found")])
        identities.append(encoder(crops))
    return found, np.concatenate(identities)


def _crops(pipeline: AgePipeline, file: Path) -> list[np.ndarray]:
    """The aligned faces [S, S, 3] uint8 of a photo, the largest first; raises ImageError."""
    image = decode_image(read_bytes(file, str(file)), str(file))
    return [crop for _, crop in pipeline.base.faces(image)]


def _table(rows: list[tuple], named_by_folder: bool) -> pd.DataFrame:
    """Rows of COLUMNS; a folder's name goes to the largest face of a photo, the others are nobody's."""
    table = pd.DataFrame("", index=range(len(rows)), columns=COLUMNS, dtype=object)
    for number, (name, face, person, stated, latest, digest) in enumerate(rows):
        largest = face.face in (0, None)
        record = {"photo": name, "face": "" if face.face is None else face.face, "estimate": face.base_age}
        record |= {"person": person if named_by_folder and largest else "", "photo_date": stated, "latest": latest}
        table.loc[number, list(record)] = list(record.values())
        table.loc[number, ["id", "status"]] = [digest, face.status]
    return table


def name_people(identity: np.ndarray, arguments: argparse.Namespace, pipeline: AgePipeline) -> np.ndarray:
    """Names [F] str of faces with identity embeddings [F, 512]: by examples, else numbered clusters, else ''."""
    names = np.full(len(identity), "", object)
    if arguments.examples and len(identity):
        known, people = _examples(arguments.examples, pipeline)
        limit = threshold(arguments.false_match_rate, len(people))
        names = match_people(identity, known, people, np.ones((len(identity), len(people)), bool), limit).astype(object)
    unnamed = np.flatnonzero(names == "")
    if arguments.cluster and len(unnamed):
        names[unnamed] = [f"{PERSON} {number + 1}" for number in cluster(identity[unnamed])]
    return names


def _examples(folder: Path, pipeline: AgePipeline) -> tuple[np.ndarray, np.ndarray]:
    """Identity embeddings [N, 512] and names [N] of examples: anna.jpg, or anna/1.jpg; the largest face of each."""
    if not folder.is_dir():
        raise DataError(f"There is no folder of examples at {folder}; put people/anna.jpg or people/anna/1.jpg there.")
    crops, names = [], []
    for photo in list_photos([folder], None):
        parts = photo.file.relative_to(folder).parts
        found = _crops(pipeline, photo.file)
        if not found:
            raise DataError(f"{photo.file} shows no face; give an example that does.")
        crops.append(found[0])
        names.append(parts[0] if len(parts) > 1 else photo.file.stem)
    return IdentityEncoder()(crops), np.array(names, str)


def cluster(identity: np.ndarray) -> np.ndarray:
    """Number [F] int of the person each embedding [F, 512] shows, from 0, the most frequent first.

    Average linkage (scikit-learn) up to SAME_PERSON. Raises DataError beyond MOST_CLUSTERED faces.
    """
    from sklearn.cluster import AgglomerativeClustering

    if len(identity) > MOST_CLUSTERED:
        raise DataError(
            f"{len(identity)} unnamed faces are too many to cluster ({MOST_CLUSTERED}); give a part of them."
        )
    if len(identity) < 2:
        return np.zeros(len(identity), int)
    grouping = AgglomerativeClustering(None, distance_threshold=SAME_PERSON, linkage="average")
    label = grouping.fit_predict(identity.astype(float))
    kinds, first, count = np.unique(label, return_index=True, return_counts=True)
    order = sorted(range(len(kinds)), key=lambda kind: (-count[kind], first[kind]))
    rank = np.empty(len(kinds), int)
    rank[order] = np.arange(len(kinds))
    return rank[label]
