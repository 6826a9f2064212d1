"""Entering references into a bank: what is new, what is corrected, and what contradicts the base too much."""

from dataclasses import replace

import numpy as np

from common.data.labels import is_group, person_key
from common.difference.bank import ARRAYS, ReferenceBank, concatenate, no_faces, one_spelling
from common.errors import DataError
from scripts.references.entries import Entered
from scripts.references.outliers import GROSS, departures, notable

SAME_AGE = 0.005  # years; two days


def merge(old: ReferenceBank | None, new: ReferenceBank) -> tuple[ReferenceBank, list[str]]:
    """The bank `old` with the references of `new`, and what to say of it.

    An image that is in both takes the age, person and face of `new`, but keeps its person where `new` names none.
    """
    if old is None:
        return new, []
    place = {number: row for row, number in enumerate(old.id.tolist())}
    known = np.array([number in place for number in new.id.tolist()])
    before = np.array([place[number] for number in new.id[known].tolist()], int)  # [M] rows of `old`
    again = new.rows(known) if known.any() else None
    said, parts = [], {name: getattr(old, name).copy() for name in ARRAYS}
    identity = None if old.identity is None else old.identity.copy()
    faces = None if old.faces is None else old.faces.copy()
    if again is not None:
        keeps = np.array([not name or is_group(name) for name in again.person.tolist()])
        person = np.where(keeps, old.person[before], again.person)
        aged = np.abs(again.ages - old.ages[before]) > SAME_AGE
        renamed = np.array([person_key(a) != person_key(b) for a, b in zip(person, old.person[before], strict=True)])
        changed = aged | renamed
        for name in ARRAYS:
            values = person if name == "person" else getattr(again, name)
            parts[name] = _with(parts[name], before[changed], values[changed])
        if identity is not None:
            identity[before[changed]] = again.identity[changed]
        if again.faces is not None:  # also of an image that was entered without
            faces = no_faces(len(old)) if faces is None else faces
            faces[before] = again.faces
        counts = ((aged, "age"), (renamed, "person"))
        said += [_corrected(int(which.sum()), what) for which, what in counts if which.any()]
        if not changed.all():
            said.append(f"in the bank already: {int((~changed).sum())} of {len(new)} images")
    bank = ReferenceBank(**parts, fingerprint=old.fingerprint, identity=identity, faces=faces)
    return (one_spelling(bank) if known.all() else concatenate([bank, new.rows(~known)])), said


def _with(array: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "U":  # a longer name needs room
        array = array.astype(np.result_type(array, values))
    array[rows] = values
    return array


def _corrected(count: int, what: str) -> str:
    if what == "person":
        return f"{count} {'person' if count == 1 else 'persons'} corrected"
    return f"{count} {what}{'' if count == 1 else 's'} corrected"


def without_outliers(entered: Entered, old: ReferenceBank | None, keep: bool) -> Entered:
    """What was entered without the ages that contradict the base grossly, each one a problem, unless `keep`.

    Less gross ones are kept and remarked on. The line that ages are compared with is that of all references, those of
    the bank so far (`old`) too. Raises DataError if nothing is left.
    """
    bank = entered.bank
    ages, estimates = bank.ages, bank.estimates
    if old is not None:
        others = ~np.isin(old.id, bank.id)
        ages, estimates = np.append(ages, old.ages[others]), np.append(estimates, old.estimates[others])
    all_departures = departures(ages, estimates)
    departure, stands_out = all_departures[: len(bank)], notable(all_departures)[: len(bank)]
    gross = (np.abs(departure) > GROSS) & (not keep)
    look = np.flatnonzero((stands_out | (np.abs(departure) > GROSS)) & ~gross)
    remarks = [(entered.pictures[bank.id[row]], f"{_contradiction(entered, row)} (kept)") for row in look]
    problems = [
        (
            entered.pictures[bank.id[row]],
            f"{_contradiction(entered, row)}, {abs(departure[row]):.0f} years off what the others say; correct it, or "
            "give --keep-outliers.",
        )
        for row in np.flatnonzero(gross)
    ]
    if gross.all():
        raise DataError(f"Not one of {len(bank)} images could be used; {problems[0][1]}")
    return replace(entered, bank=bank.rows(~gross), problems=entered.problems + problems, remarks=remarks)


def _contradiction(entered: Entered, row: int) -> str:
    bank = entered.bank
    name = entered.pictures[bank.id[row]].name
    return f"{name} is said to show {bank.ages[row]:.0f} years and looks like {bank.estimates[row]:.0f}"
