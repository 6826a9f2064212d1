"""A user's own references in a predictions table: who is asked for, what changed, which interval."""

from argparse import Namespace

import numpy as np
import pandas as pd

from common.base.intervals import SMALLEST_BANK, bounds, quantile
from common.data.labels import OLDEST, person_key
from common.difference.bank import ReferenceBank, concatenate, load_bank
from common.difference.corrector import Corrector, Faces
from common.difference.own_references import Shifts, UserReferences, start_of
from common.errors import DataError
from common.faces.identity import IdentityEncoder, match_people, threshold
from common.inference.base_estimates import BaseEstimates
from common.inference.options import AUTO


def correct_by_user(base: BaseEstimates, corrector: Corrector, arguments: Namespace) -> None:
    """Add what the user's own banks say to the ages of a table, with intervals calibrated on these banks if asked for.

    Reads `references`, `person`, `false_match_rate` and `interval` of a command line. Raises WeightsError for a bad
    bank, DataError for a person that is in none.
    """
    user = start_of(
        corrector, concatenate([load_bank(path, corrector.pipeline.fingerprint) for path in arguments.references])
    )
    rows = base.good_rows
    good = base.table.loc[rows]
    ids, persons = good["id"].to_numpy(str), good["person"].fillna("").to_numpy(str)
    faces = Faces(base.embeddings, good["base_age"].to_numpy(float), ids, persons)
    asked = who_is_asked(base.crops, ids, user.bank, arguments.person, arguments.false_match_rate)
    if arguments.person == AUTO:
        matched = pd.Series(asked[asked != ""]).value_counts()
        print("matched: " + (", ".join(f"{name} {count}" for name, count in matched.items()) or "nobody"))
        base.table.loc[rows, "matched_person"] = asked
    shifts = user.shifts(faces, good["age"].to_numpy(float), asked)
    age = np.clip(good["age"].to_numpy(float) + shifts.domain + shifts.personal, 0, OLDEST)
    base.table.loc[rows, "age"] = age
    base.table.loc[rows, "n_references"] += shifts.references
    print(f"{len(user.bank)} references of yours: {influence(shifts, asked)}")
    if arguments.interval is not None:
        half_width = user_half_width(user, asked, arguments.interval)
        base.table.loc[rows, "interval_low"], base.table.loc[rows, "interval_high"] = bounds(age, half_width)


def influence(shifts: Shifts, asked: np.ndarray) -> str:
    """What to say of corrections by the user's references; `asked` [N] as in `UserReferences.shifts`."""
    if not (shifts.domain.any() or shifts.personal.any()):
        return "too few, or too near the estimates, to be trusted: they change nothing"
    said = f"on average those of others move an age by {shifts.domain.mean():+.1f} years"
    return said + (f", a person's own by {shifts.personal.mean():+.1f}" if (asked != "").any() else "")


def who_is_asked(
    crops: list[np.ndarray], ids: np.ndarray, bank: ReferenceBank, person: str | None, rate: float = 0.01
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


def recognise(crops: list[np.ndarray], ids: np.ndarray, bank: ReferenceBank, rate: float) -> np.ndarray:
    """Name [N] of the person of the bank each crop shows ('' nobody), never by the same picture; raises DataError."""
    if bank.identity is None:
        raise DataError("The banks hold no identities; build them with --identities to use --person auto.")
    limit = threshold(rate, int(bank.named.sum()))
    identity = IdentityEncoder()(crops)
    allowed = np.asarray(ids, str)[:, None] != bank.id[None]
    return match_people(identity, bank.identity.astype(np.float32), bank.person, allowed, limit)


def user_half_width(user: UserReferences, asked: np.ndarray, probability: float) -> np.ndarray:
    """Half-widths [N] (years) of intervals from the leave-one-out errors of a user's bank; NaN if it is too small."""
    if len(user.bank) < SMALLEST_BANK:
        print(f"no intervals: a bank of {len(user.bank)} is too small to calibrate them ({SMALLEST_BANK} are needed).")
        return np.full(len(asked), np.nan)
    domain, both = (quantile(np.abs(ages - user.bank.ages), probability) for ages in user.leave_one_out())
    return np.where(asked != "", both, domain)
