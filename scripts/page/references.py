"""A visitor's own references, from memory: when photos were taken, how old somebody was, the bank they make."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from common.data.dates import age_between, name_date
from common.data.labels import OLDEST, person_key
from common.difference.bank import ReferenceBank, concatenate, load_bank
from common.errors import DataError
from common.inference.estimates import Face
from common.inference.options import AUTO
from scripts.page.cards import OwnFace
from scripts.page.photos import Found, Own, Upload, Visit, jpeg_of
from scripts.references.entries import Candidate, enter_candidates, not_background
from scripts.references.merging import without_outliers
from scripts.references.sources import Picture

NO_AGE = "no age: type it, or give the birth date; the photo must have a date, too"


class References(NamedTuple):
    """Own references with their faces, and a sentence by the id of each photo that is odd or cannot be used."""

    own: Own | None
    faces: list[OwnFace]
    problems: dict[str, str]


def photo_date(upload: Upload) -> str:
    """When a photo was taken: by EXIF, else by its name; '' unknown."""
    return upload.exif[0][:10].replace(":", "-") or name_date((upload.name,))


def age_at_photo(upload: Upload, birth: str) -> float | None:
    """Age in years at a photo from a birth as typed (1960 or 1960-06-30) and the photo's date; None if unknown."""
    age = age_between(birth, photo_date(upload))
    return None if isinstance(age, str) else round(age, 1)


def own_references(
    visit: Visit, uploads: Sequence[Upload], ages: Mapping[str, float | None], person: str, recognised: bool
) -> References:
    """The bank of one person's photos of these ages (years, by the id of the photo), made once for the same ones.

    `recognised`: only faces that look like the person are corrected by it. Raises nothing: without one usable photo
    there are no references, and every photo has its sentence.
    """
    key = tuple((upload.id, upload.name, ages[upload.id]) for upload in uploads), person, recognised
    return visit.memory.get("references", key, lambda: _enter(visit, uploads, ages, person, recognised))


def _enter(
    visit: Visit, uploads: Sequence[Upload], ages: Mapping[str, float | None], person: str, recognised: bool
) -> References:
    found = {upload.id: visit.found(upload) for upload in uploads}
    pictures = {upload.id: _picture(upload, found[upload.id], ages[upload.id], person) for upload in uploads}
    problems = [(one, str(one.age)) for one in pictures.values() if isinstance(one.age, str)]
    candidates = [
        Candidate(one, number, _crops(found[number]))
        for number, one in pictures.items()
        if not isinstance(one.age, str)
    ]
    numbers = {id(one): number for number, one in pictures.items()}
    workshop = visit.workshop
    try:
        read = (candidates, problems)
        base, encoder = workshop.pipeline.base, workshop.encoder
        candidates_entered = enter_candidates([*pictures.values()], read, base, encoder, recognised, faces=True)
        entered = without_outliers(candidates_entered, None, keep=False)
    except DataError as error:
        told = {numbers[id(one)]: said for one, said in problems}
        return References(None, [], {number: told.get(number, str(error)) for number in numbers.values()})
    bank = entered.bank
    faces = faces_in(bank)
    told = {numbers[id(one)]: said.removeprefix(f"{one.name}: ") for one, said in entered.remarks + entered.problems}
    return References(Own(replace(bank, faces=None), person), faces, told)


def _picture(upload: Upload, found: Found, age: float | None, person: str) -> Picture:
    """A photo as one to enter, its age a sentence if it cannot be used."""
    told = next((part.status for part in found.faces if not isinstance(part, Face)), "")
    if not told and (age is None or not 0 <= age <= OLDEST):
        told = NO_AGE
    return Picture(Path(), upload.name, told or float(age or 0), person)


def _crops(found: Found) -> list:
    faces = [face for face in found.faces if isinstance(face, Face)]
    return not_background([face.crop for face in faces], [face.known.box or (0, 0, 1, 1) for face in faces])


def faces_in(bank: ReferenceBank) -> list[OwnFace]:
    """The references of a bank that holds faces; black where one is not kept."""
    assert bank.faces is not None
    parts = zip(bank.faces, bank.ages.tolist(), bank.estimates.tolist(), strict=True)
    return [OwnFace(jpeg_of(face), age, estimate) for face, age, estimate in parts]


def with_kept(visit: Visit, references: References, name: str, data: bytes, person: str) -> References:
    """References joined with a bank that the visitor kept, `data` being the bytes of its file.

    If it names `person`, that person's faces alone are corrected (without identities every face is taken for one). Else
    a bank with identities corrects whom it recognises, and everybody as by other people's photos. Raises WeightsError,
    DataError for a file that is no such bank.
    """
    key = references.own and references.own.key, sha1(data).hexdigest(), person
    return visit.memory.get("kept", key, lambda: _joined(visit, references, name, data, person))


def _joined(visit: Visit, references: References, name: str, data: bytes, person: str) -> References:
    kept = load_bank(name, visit.workshop.pipeline.base.fingerprint, data)
    faces = faces_in(kept) if kept.faces is not None else []
    bank = concatenate([kept, *([references.own.bank] if references.own else [])])
    named = {person_key(one): one for one in bank.people}.get(person_key(person), "")
    whose = named or ("" if bank.identity is None else AUTO)
    return References(Own(replace(bank, faces=None), whose), [*references.faces, *faces], references.problems)


def packed(bank: ReferenceBank) -> bytes:
    """The bytes of a bank's .npz, as build_reference_bank.py writes it."""
    stream = io.BytesIO()
    bank.write(stream)
    return stream.getvalue()
