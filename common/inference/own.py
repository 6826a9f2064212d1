"""A user's own references beside the estimates: who is asked for, what changes and what is said of it, which width."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np

from common.data.labels import OLDEST, person_key
from common.difference.bank import ReferenceBank
from common.difference.corrector import Faces
from common.difference.own_references import OwnAges, UserReferences
from common.difference.own_settings import years_per_unit
from common.errors import DataError
from common.faces.identity import IdentityEncoder, match_people, threshold
from common.inference.options import AUTO

NEAR_BEST = 1.1  # times the expected error that any number of references would leave: more are not asked for
WORTH = 1.05  # times that error: less is not worth further references
UNLIKE = 1.25  # times as wide as calibrated; wider is said
APART = 10.0  # years that a face may look older or younger than all references without a word
SIZE_TO_ERROR = 0.8  # mean absolute error over standard deviation, of a normal distribution
VOTES = 8  # references of a face that are shown


class OwnCorrection(NamedTuple):
    """What own references make of N faces: age [N] years, references [N] used, factor [N] of calibrated half-widths
    (None: not asked for), and sentences to tell."""

    age: np.ndarray
    references: np.ndarray
    factor: np.ndarray | None
    notes: list[str]


class OwnVote(NamedTuple):
    """A reference of a face, to be shown: its face [64, 64, 3] uint8 (None: not kept), its person ('' unknown), its age
    and the age of the face by it alone, both in years."""

    face: np.ndarray | None
    person: str
    age: float
    vote: float


def correct_by_own(
    faces: Faces,
    before: np.ndarray,
    user: UserReferences,
    asked: np.ndarray,
    name: str | None,
    probability: float | None,
) -> OwnCorrection:
    """Correct N faces whose ages were `before` [N] (years) by own references.

    `asked` [N] as of `who_is_asked` for `name`: where that is a person's, other faces stay as they are. `probability`
    is that of intervals (None: none).
    """
    used = asked != "" if name and name != AUTO else np.full(len(asked), True)
    ages = user.correct(faces, asked)
    age = np.where(used, np.clip(ages.age, 0, OLDEST), before)
    notes = [
        *_recognised(asked, name, user),
        summary(user, faces, OwnAges(*(part[used] for part in ages)), used, asked),
    ]
    notes += unlike(user, faces.estimate[used], bool((asked != "").any()))
    factor = None
    if probability is not None:
        factor = np.where(used, user.width_factor(faces.estimate.astype(float), ages, probability), 1.0)
    return OwnCorrection(age, np.where(used, ages.references, 0), factor, notes)


def _recognised(asked: np.ndarray, name: str | None, user: UserReferences) -> list[str]:
    if name == AUTO:
        names, counts = np.unique(asked[asked != ""], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return ["matched: " + (", ".join(f"{names[place]} {counts[place]}" for place in order) or "nobody")]
    if name and user.bank.identity is not None:
        known = int((asked != "").sum())
        rest = "" if known == len(asked) else "; the others are not corrected by these references"
        return [f"recognised as {name}: {known} of {len(asked)} faces{rest}"]
    return []


def summary(user: UserReferences, faces: Faces, ages: OwnAges, used: np.ndarray, asked: np.ndarray) -> str:
    """How many references were used, what they changed, how many more would help: one sentence.

    `ages` of the faces that are `used` [N] bool; `faces` and `asked` of all N.
    """
    total = f"{len(user.bank)} reference{'' if len(user.bank) == 1 else 's'} of yours"
    if not len(ages.age) or not ages.references.any():
        return f"{total}: none of them could be used, nothing changed"
    own = ages.own > 0
    names = sorted(set(asked[used][own].tolist()))
    who = "" if len(names) != 1 else f" ({ages.own[own].max()} of {names[0]})"
    moved = ages.age - faces.estimate[used]  # own references correct what the base says
    faces_said = "1 face" if len(moved) == 1 else f"{len(moved)} faces"
    span = "" if len(moved) == 1 else f" on average ({moved.min():+.1f} to {moved.max():+.1f})"
    part = OwnAges(*(values[own] for values in ages)) if own.any() else ages
    error, best, more = expected_errors(user, part, bool(own.any()))
    of = f" of {names[0]}" if len(names) == 1 else " of them" if names else ""
    kept = "more would change little"
    needed = f"about {more} more{of}, from other days near that age, would bring that to {best:.1f}"
    return (
        f"{total}{who} changed {faces_said} by {moved.mean():+.1f} years{span} from the base's estimate; "
        f"expected error now {error:.1f} years, {needed if more else kept}"
    )


def expected_errors(user: UserReferences, ages: OwnAges, own: bool) -> tuple[float, float, int]:
    """Expected absolute error of these faces (years, the median), what more references would make of it, and how many.

    Each further one is taken to show the person (`own`), or another one, at the age of the face: its information
    1 / single² adds to that of the effect; as many are needed as leave NEAR_BEST of the least error in reach.
    """
    settings = user.settings
    least = settings.single**2 if own else settings.usual**2
    doubt = np.maximum(ages.doubt - (0.0 if own else settings.person**2), 1e-9)
    more = max(0, ceil(1 / (NEAR_BEST**2 - 1) - least / float(np.median(doubt))))
    years = SIZE_TO_ERROR * user.widening(0.5, own) * float(np.median(years_per_unit(ages.age)))
    error, best = years * float(np.median(ages.size)), years * NEAR_BEST * least**0.5
    return error, best, more if error > WORTH * best else 0


def unlike(user: UserReferences, estimate: np.ndarray, own: bool) -> list[str]:
    """What to say of a bank, or of faces with base estimates [N] (years), that are unlike what was calibrated on."""
    told, wide = [], user.widening(0.9, own)
    if wide > UNLIKE:
        told.append(
            f"the errors on these references are {wide:.1f} times the usual ones: they are unlike the photos that the "
            "intervals were calibrated on, or some ages are wrong (build_reference_bank.py --inspect); intervals are "
            "widened"
        )
    low, high = float(user.bank.estimates.min()), float(user.bank.estimates.max())
    outside = int(((estimate < low - APART) | (estimate > high + APART)).sum())
    if outside:
        said = "1 face looks" if outside == 1 else f"{outside} faces look"
        told.append(
            f"{said} more than {APART:.0f} years younger or older than all references do ({low:.0f} to {high:.0f}): "
            "there the change is uncertain"
        )
    return told


def unrecognised(rows: np.ndarray, bank: ReferenceBank, person: str | None) -> list[str]:
    """A warning where a person is named whom the bank cannot tell from others, or nobody whom it could recognise.

    `rows` [N]: the image of each face.
    """
    if not person and bank.identity is not None and len(bank.people):
        return ["everybody is corrected by what these photos share; --person auto corrects the bank's people as such"]
    if not person or person == AUTO or bank.identity is not None or len(rows) < 2:
        return []
    several = int((np.unique(rows, return_counts=True)[1] > 1).sum())
    shows = "1 photo shows several faces" if several == 1 else f"{several} photos show several faces"
    shows = shows if several else "nobody is recognised by this bank"
    return [f"warning: {shows}, and all faces were taken for {person}'s: build the bank with --identities"]


def who_is_asked(
    crops: Sequence[np.ndarray], ids: np.ndarray, bank: ReferenceBank, person: str | None, rate: float = 0.01
) -> np.ndarray:
    """Name [N] of the person each of the faces with these ids [N] is taken to show ('' nobody).

    AUTO recognises each by its crop [S, S, 3], a stranger being taken for somebody with probability `rate`; of a bank
    with identities a named person is recognised, too. Raises DataError for a name that is not in the bank, or if people
    cannot be recognised.
    """
    person = person or ""
    if person == AUTO:
        return recognise(crops, ids, bank, rate)
    names = {person_key(name): name for name in bank.people}
    if person and person_key(person) not in names:
        known = ", ".join(bank.people[:10]) + (" and others" if len(names) > 10 else "") or "nobody"
        raise DataError(f"No reference in the banks shows '{person}'; they name {known}.")
    name = names[person_key(person)] if person else ""
    if name and bank.identity is not None:
        return np.where(recognise(crops, ids, bank, rate) == name, name, "")
    return np.full(len(ids), name)


def recognise(crops: Sequence[np.ndarray], ids: np.ndarray, bank: ReferenceBank, rate: float) -> np.ndarray:
    """Name [N] of the person of the bank each crop shows ('' nobody), never by the same image; raises DataError."""
    if bank.identity is None:
        raise DataError("The banks hold no identities; build them with --identities to use --person auto.")
    limit = threshold(rate, int(bank.named.sum()))
    identity = IdentityEncoder()(crops)
    allowed = np.asarray(ids, str)[:, None] != bank.id[None]
    return match_people(identity, bank.identity.astype(np.float32), bank.person, allowed, limit)


def own_votes(faces: Faces, number: int, user: UserReferences, asked: str) -> tuple[OwnVote, ...]:
    """The references of face `number` that did most: those of the person asked for first, each the most similar first.

    Similar by the cosine of the base's embeddings; VOTES at most, never the face itself.
    """
    bank = user.bank
    one = Faces(*(part[number : number + 1] for part in faces))
    embedding = one.embedding[0] / max(float(np.linalg.norm(one.embedding[0])), 1e-6)
    mine = np.array([bool(asked) and person_key(name) == person_key(asked) for name in bank.person.tolist()])
    shown = person_key(str(one.person[0]))
    hidden = np.array([bool(shown) and not asked and person_key(name) == shown for name in bank.person.tolist()])
    order = np.lexsort((-(bank.unit @ embedding), ~mine))
    shown_rows = [row for row in order.tolist() if bank.id[row] != one.id[0] and not hidden[row]][:VOTES]
    votes = []
    for row in shown_rows:
        alone = UserReferences(bank.rows(np.array([row])), user.settings)
        vote = float(alone.correct(one, np.array([asked]))[0][0])
        face = None if bank.faces is None or not bank.faces[row].any() else bank.faces[row]
        votes.append(OwnVote(face, str(bank.person[row]), float(bank.ages[row]), vote))
    return tuple(votes)
