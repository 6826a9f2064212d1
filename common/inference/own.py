"""A user's own references beside the estimates: who is asked for, what changes, which interval."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common.base.intervals import SMALLEST_BANK, quantile
from common.data.labels import OLDEST, person_key
from common.difference.bank import ReferenceBank
from common.difference.corrector import Faces
from common.difference.own_references import Shifts, UserReferences
from common.errors import DataError
from common.faces.identity import IdentityEncoder, match_people, threshold
from common.inference.options import AUTO


class OwnCorrection(NamedTuple):
    """What own references make of N faces: age [N] years, references [N] that voted, person [N] asked for ('' nobody),
    and sentences to tell."""

    age: np.ndarray
    references: np.ndarray
    person: np.ndarray
    notes: list[str]


def correct_by_own(
    faces: Faces, age: np.ndarray, user: UserReferences, person: np.ndarray, recognised: bool
) -> OwnCorrection:
    """Correct ages [N] (years) by own references; `person` [N] as of `who_is_asked`, `recognised` by the face."""
    shifts = user.shifts(faces, age, person)
    notes = []
    if recognised:
        names, counts = np.unique(person[person != ""], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        matched = ", ".join(f"{names[place]} {counts[place]}" for place in order)
        notes.append(f"matched: {matched or 'nobody'}")
    notes.append(f"{len(user.bank)} references of yours: {influence(shifts, person)}")
    return OwnCorrection(np.clip(age + shifts.domain + shifts.personal, 0, OLDEST), shifts.references, person, notes)


def influence(shifts: Shifts, asked: np.ndarray) -> str:
    """What to say of corrections by the user's references; `asked` [N] as in `UserReferences.shifts`."""
    if not (shifts.domain.any() or shifts.personal.any()):
        return "too few, or too near the estimates, to be trusted: they change nothing"
    said = f"on average those of others move an age by {shifts.domain.mean():+.1f} years"
    return said + (f", a person's own by {shifts.personal.mean():+.1f}" if (asked != "").any() else "")


def who_is_asked(
    crops: Sequence[np.ndarray], ids: np.ndarray, bank: ReferenceBank, person: str | None, rate: float = 0.01
) -> np.ndarray:
    """Name [N] of the person each of the faces with these ids [N] is taken to show ('' nobody).

    AUTO recognises each by its crop [S, S, 3], a stranger being taken for somebody with probability `rate`. Raises
    DataError for a name that is not in the bank, or if people cannot be recognised.
    """
    person = person or ""
    if person == AUTO:
        return recognise(crops, ids, bank, rate)
    names = {person_key(name): name for name in bank.people}
    if person and person_key(person) not in names:
        known = ", ".join(bank.people[:10]) + (" and others" if len(names) > 10 else "") or "nobody"
        raise DataError(f"No reference in the banks shows '{person}'; they name {known}.")
    return np.full(len(ids), names[person_key(person)] if person else "")


def recognise(crops: Sequence[np.ndarray], ids: np.ndarray, bank: ReferenceBank, rate: float) -> np.ndarray:
    """Name [N] of the person of the bank each crop shows ('' nobody), never by the same image; raises DataError."""
    if bank.identity is None:
        raise DataError("The banks hold no identities; build them with --identities to use --person auto.")
    limit = threshold(rate, int(bank.named.sum()))
    identity = IdentityEncoder()(crops)
    allowed = np.asarray(ids, str)[:, None] != bank.id[None]
    return match_people(identity, bank.identity.astype(np.float32), bank.person, allowed, limit)


def own_half_width(user: UserReferences, asked: np.ndarray, probability: float) -> tuple[np.ndarray, list[str]]:
    """Half-widths [N] (years) of intervals from the leave-one-out errors of a user's bank (NaN if it is too small),
    and what is to be told of them."""
    if len(user.bank) < SMALLEST_BANK:
        told = f"no intervals: a bank of {len(user.bank)} is too small to calibrate them ({SMALLEST_BANK} are needed)."
        return np.full(len(asked), np.nan), [told]
    domain, both = (quantile(np.abs(ages - user.bank.ages), probability) for ages in user.leave_one_out())
    return np.where(asked != "", both, domain), []
