"""From listed images to references: which face of an image is the person's, and what the base predicts of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from common.data.labels import OLDEST, person_key
from common.difference.bank import FACE_SIDE, ReferenceBank, one_spelling
from common.errors import DataError, ImageError, UserError
from common.faces.alignment import resize_crop
from common.faces.identity import IdentityEncoder, threshold
from common.faces.images import decode_image
from common.faces.photo_files import read_bytes
from common.pipeline import AgePredictBasicPipeline
from scripts.references.sources import Picture

SMALL = 0.25  # a face whose side is a smaller part of the largest one's is background
MATCH_RATE = 0.01  # probability that a stranger's face is taken for the person
MARGIN = 0.1  # distance by which the person's face must be nearer than any other face of the image


@dataclass(frozen=True)
class Candidate:
    """An image that was read: the crops of its faces, each [S, S, 3] uint8, and its id; one face is to be chosen."""

    picture: Picture
    number: str
    faces: list[np.ndarray]


@dataclass(frozen=True)
class Entered:
    """References made of images, the image of each id, (image, sentence) of each one left out or only remarked on."""

    bank: ReferenceBank
    pictures: dict[str, Picture]
    problems: list[tuple[Picture, str]]
    remarks: list[tuple[Picture, str]] = field(default_factory=list)


def enter_pictures(
    pictures: list[Picture],
    pipeline: AgePredictBasicPipeline,
    crops_given: bool,
    encoder: IdentityEncoder | None = None,
) -> tuple[ReferenceBank, list[str]]:
    """The bank of all usable images, and a line for each one left out; raises DataError if none is left.

    With an encoder the bank holds identities.
    """
    entered = enter(pictures, pipeline, crops_given, encoder or IdentityEncoder(), encoder is not None)
    return entered.bank, [sentence for _, sentence in entered.problems]


def enter(
    pictures: list[Picture],
    pipeline: AgePredictBasicPipeline,
    crops_given: bool,
    encoder: IdentityEncoder,
    identities: bool,
    faces: bool = False,
) -> Entered:
    """The references of all usable images, with identities and faces if asked for; DataError if none is left."""
    read = read_candidates(pictures, pipeline, crops_given)
    return enter_candidates(pictures, read, pipeline, encoder, identities, faces)


def enter_candidates(
    pictures: list[Picture],
    read: tuple[list[Candidate], list[tuple[Picture, str]]],
    pipeline: AgePredictBasicPipeline,
    encoder: IdentityEncoder,
    identities: bool,
    faces: bool = False,
) -> Entered:
    """The references of images that were `read` (see `read_candidates`); raises DataError if none is left."""
    candidates, problems = read[0], list(read[1])
    chosen, unclear = choose_faces(candidates, encoder)
    problems += unclear
    if chosen:
        seen = pipeline.predict(np.stack([candidate.faces[0] for candidate in chosen]))
        embeddings = seen.embeddings.astype(np.float16)
        good = np.isfinite(embeddings).all(axis=1) & np.isfinite(seen.ages)
        problems += [
            (candidate.picture, f"{candidate.picture.name}: the base's estimate of it is no number.")
            for candidate, usable in zip(chosen, good, strict=True)
            if not usable
        ]
        chosen = [candidate for candidate, usable in zip(chosen, good, strict=True) if usable]
    place = {id(picture): number for number, picture in enumerate(pictures)}
    problems.sort(key=lambda problem: place[id(problem[0])])
    if not chosen:
        raise DataError(
            f"Not one of {len(pictures)} images could be used" + (f"; {problems[0][1]}" if problems else ".")
        )
    bank = ReferenceBank(
        embeddings[good], np.array([candidate.picture.age for candidate in chosen], np.float32),
        seen.ages[good].astype(np.float32), np.zeros(len(chosen), bool),
        np.array([candidate.picture.person for candidate in chosen]),
        np.array([candidate.number for candidate in chosen]), pipeline.fingerprint,
        encoder([candidate.faces[0] for candidate in chosen]).astype(np.float16) if identities else None,
        np.stack([resize_crop(candidate.faces[0], FACE_SIDE) for candidate in chosen]) if faces else None,
    )  # fmt: skip
    return Entered(one_spelling(bank), {candidate.number: candidate.picture for candidate in chosen}, problems)


def read_candidates(
    pictures: list[Picture], pipeline: AgePredictBasicPipeline, crops_given: bool
) -> tuple[list[Candidate], list[tuple[Picture, str]]]:
    """The images that show a face at a known age, each image once, and a sentence for each of the others."""
    candidates, problems, first, background = [], [], {}, 0
    for picture in tqdm(pictures, unit="picture", disable=len(pictures) < 20):
        try:
            number, faces, ignored = faces_of(picture, pipeline, crops_given)
        except ImageError as error:
            told = str(error) if str(error).startswith(picture.name) else f"{picture.name}: {error}"
            problems.append((picture, told))
            continue
        if number in first:
            problems.append((picture, _copy_of(picture, first[number])))
            continue
        first[number] = picture
        background += ignored > 0
        candidates.append(Candidate(picture, number, faces))
    if background:
        print(f"background: of {background} images faces less than a quarter as large as the largest were not used")
    return candidates, problems


def _copy_of(picture: Picture, first: Picture) -> str:
    told = f"{picture.name}: the same image as {first.name}"
    labels = [f"{one.age:.1f} years" + (f", {one.person}" if one.person else "") for one in (first, picture)]
    return told if labels[0] == labels[1] else f"{told}, which enters as {labels[0]} and not as {labels[1]}"


def faces_of(
    picture: Picture, pipeline: AgePredictBasicPipeline, crops_given: bool
) -> tuple[str, list[np.ndarray], int]:
    """Id of an image, crops [S, S, 3] of its faces, and how many small ones were ignored.

    Raises ImageError if its age or its face cannot be used.
    """
    if isinstance(picture.age, str):
        raise ImageError(f"{picture.name}: {picture.age}.")
    if not 0 <= picture.age <= OLDEST:
        raise ImageError(f"{picture.name}: impossible age {picture.age:.1f}.")
    data = read_bytes(picture.file, picture.name)
    image, number = decode_image(data, picture.name), hashlib.sha1(data).hexdigest()
    if crops_given:
        return number, [resize_crop(image, pipeline.config.crop_size)], 0
    faces = pipeline.faces(image)
    if not faces:
        raise ImageError(f"{picture.name}: no face found.")
    near = not_background([face.crop for face in faces], [face.face.box for face in faces])
    return number, near, len(faces) - len(near)


def not_background(crops: Sequence[np.ndarray], boxes: Sequence[tuple[float, float, float, float]]) -> list[np.ndarray]:
    """The crops whose faces, with these boxes (pixels), are no small part of the first, largest one."""
    sides = [float(np.sqrt((right - left) * (bottom - top))) for left, top, right, bottom in boxes]
    return [crop for crop, side in zip(crops, sides, strict=True) if side >= SMALL * sides[0]]


def choose_faces(
    candidates: Sequence[Candidate], encoder: IdentityEncoder
) -> tuple[list[Candidate], list[tuple[Picture, str]]]:
    """The images with the one face that is the person's, and a sentence for each whose face is not clear.

    Of an image with several faces it is the one that the same person's images with a single face show.
    """
    alone = {}
    for candidate in candidates:
        if len(candidate.faces) == 1:
            alone.setdefault(person_key(candidate.picture.person), []).append(candidate.faces[0])
    chosen, problems, photos = [], [], {}
    for candidate in candidates:
        key, picture = person_key(candidate.picture.person), candidate.picture
        if len(candidate.faces) == 1:
            chosen.append(candidate)
            continue
        told = f"{picture.name} shows {len(candidate.faces)} faces"
        if not key:
            problems.append((picture, f"{told} and nobody is named; cut the right one out."))
            continue
        try:
            if key in alone and key not in photos:
                photos[key] = encoder(alone[key])
            face = matching_face(encoder(candidate.faces), photos[key]) if key in alone else None
        except UserError:  # without the package that recognises people
            face = None
        if face is None:
            reason = f"and not exactly one of them looks like {picture.person}'s other photos; cut the right one out."
            problems.append((picture, f"{told} {reason}"))
        else:
            chosen.append(Candidate(picture, candidate.number, [candidate.faces[face]]))
    return chosen, problems


def matching_face(faces: np.ndarray, photos: np.ndarray) -> int | None:
    """Which of F identities [F, D] is that of the photos [n, D]; None if none, or more than one, is near enough.

    Nearness is the mean distance to the nearer half of the photos, so that one wrong photo among them decides nothing.
    """
    distance = np.sort(np.linalg.norm(faces[:, None] - photos[None], axis=2), axis=1)  # [F, n]
    mean = distance[:, : (len(photos) + 1) // 2].mean(axis=1)
    best, second = np.argsort(mean)[:2]
    near = mean[best] < threshold(MATCH_RATE, len(faces))
    return int(best) if near and mean[second] - mean[best] > MARGIN else None
