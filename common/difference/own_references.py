"""Ages corrected by the user's own references, without training: what others say of the domain, and the person's own.

The model is that of common/difference/own_effects.py; references correct the base's estimate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.data.labels import person_key
from common.difference.bank import ReferenceBank
from common.difference.corrector import Faces
from common.difference.own_effects import Observed, PersonParts, domain_effect, expected_shift, reweighted
from common.difference.own_settings import EffectSettings, from_scale, to_scale, years_per_unit

JUDGED = 1000  # references at most that a bank's own errors are measured on


class OwnAges(NamedTuple):
    """N faces corrected by own references.

    age [N] years; size [N]: standard deviation of its error on the scale, the noise of one photo in it; doubt [N]:
    variance of the effects in it, which more references lower; references [N]: how many were used, `own` [N] of them
    of the person asked for.
    """

    age: np.ndarray
    size: np.ndarray
    doubt: np.ndarray
    references: np.ndarray
    own: np.ndarray


class _Question(NamedTuple):
    """Rows of faces with the same references: the row of the bank that is the face itself (-1 none), codes of the
    person who is hidden and the one who is asked for (-1 nobody)."""

    rows: np.ndarray
    itself: int
    hidden: int
    asked: int


@dataclass(frozen=True)
class UserReferences:
    """A user's bank and how far its references are believed."""

    bank: ReferenceBank
    settings: EffectSettings = EffectSettings()

    def correct(self, faces: Faces, asked: np.ndarray | None = None) -> OwnAges:
        """Correct the base's estimates of N faces.

        A face is never its own reference. Other references of its person (`faces.person`) are not used, unless `asked`
        [N] str names the person a face is known to show ('' nobody): then this person's effect is estimated from them.
        """
        count = len(faces.estimate)
        asked = np.full(count, "") if asked is None else np.asarray(asked, str)
        estimate, settings = faces.estimate.astype(float), self.settings
        mean, doubt, references, own = np.zeros(count), np.zeros(count), np.zeros(count, int), np.zeros(count, int)
        for question in self._questions(faces, asked):
            rows, itself, hidden, wanted = question
            information, vector, parts = self._evidence(question)
            domain = domain_effect(information, vector, settings)
            mean[rows], doubt[rows] = expected_shift(estimate[rows], domain, parts, settings)
            references[rows] = len(self.bank) - (itself >= 0) - self._count(hidden, itself)
            own[rows] = self._count(wanted, itself)
        age = from_scale(to_scale(estimate) + mean)
        return OwnAges(age, np.sqrt(doubt + settings.single**2), doubt, references, own)

    def _evidence(self, question: _Question) -> tuple[np.ndarray, np.ndarray, PersonParts | None]:
        """Information and vector about the domain's effect, and what the person asked for says (None: nobody)."""
        _, itself, hidden, wanted = question
        information, vector = self._total
        person = int(self._code[itself]) if itself >= 0 else -1
        for gone in {person, hidden, wanted} - {-1}:  # these people's references count otherwise, or not at all
            whole = self._parts.one(gone)
            information, vector = information - whole.common, vector - whole.common_vector
        if person >= 0 and person not in (hidden, wanted):
            rest = self._without(itself)
            information, vector = information + rest.common, vector + rest.common_vector
        if wanted < 0:
            return information, vector, None
        parts = self._without(itself) if wanted == person else self._parts.one(wanted)
        return information + parts.information, vector + parts.vector, parts

    def leave_one_out(self, rows: np.ndarray | None = None) -> tuple[OwnAges, OwnAges]:
        """The references (or those of these rows) each as if new: by other people; and by the person's own too.

        A reference without a person is only left out itself.
        """
        bank = self.bank if rows is None else self.bank.rows(rows)
        faces = Faces(bank.embeddings, bank.estimates, bank.id, bank.person)
        return self.correct(faces), self.correct(faces, np.where(bank.named, bank.person, ""))

    @cached_property
    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        """|error| over its expected size of the references themselves (JUDGED at most), by others; and by own too."""
        rows = np.random.default_rng(0).permutation(len(self.bank))[:JUDGED]
        truth = to_scale(self.bank.ages[rows].astype(float))
        domain, both = (np.abs(truth - to_scale(ages.age)) / ages.size for ages in self.leave_one_out(rows))
        return domain, both

    def widening(self, probability: float, own: bool) -> float:
        """How many times wider intervals must be than the calibration has them, for these references' errors.

        The quantile of the calibration's scores, which count as `settings.calibration` references, and of the bank's.
        """
        known = np.array(self.settings.scores)
        scores = self.scores[int(own)]
        weight = np.concatenate([np.full(len(known), self.settings.calibration / len(known)), np.ones(len(scores))])
        pooled = _quantile(np.concatenate([known, scores]), weight, probability)
        return pooled / _quantile(known, np.ones(len(known)), probability)

    def width_factor(self, estimate: np.ndarray, ages: OwnAges, probability: float) -> np.ndarray:
        """By what [N] the calibrated half-widths of faces with base estimates [N] (years) are to be multiplied.

        The expected size of the error is that of the corrected age instead of the base's in its own domain.
        """
        factor = ages.size / self.settings.usual * years_per_unit(ages.age) / years_per_unit(estimate)
        wide = np.array([self.widening(probability, own) for own in (False, True)])
        return factor * wide[(ages.own > 0).astype(int)]

    @cached_property
    def _keys(self) -> dict[str, int]:
        names = {person_key(name) for name in np.unique(self.bank.person).tolist()} - {""}
        return {name: number for number, name in enumerate(sorted(names))}

    @cached_property
    def _code(self) -> np.ndarray:
        """Number [N] of the person of each reference; those of nobody named are each somebody else."""
        code = np.array([self._keys.get(person_key(name), -1) for name in self.bank.person.tolist()])
        code[code < 0] = len(self._keys) + np.arange((code < 0).sum())
        return code

    @cached_property
    def _observed(self) -> Observed:
        ages, estimates = self.bank.ages.astype(float), self.bank.estimates.astype(float)
        seen = Observed.of(ages, estimates, self._code, self.settings)
        return reweighted(seen, self._code, self._code.max() + 1, self.settings)

    @cached_property
    def _parts(self) -> PersonParts:
        return PersonParts.of(self._observed, self._code, self._code.max() + 1, self.settings)

    @cached_property
    def _total(self) -> tuple[np.ndarray, np.ndarray]:
        return self._parts.common.sum(axis=0), self._parts.common_vector.sum(axis=0)

    def _without(self, row: int) -> PersonParts:
        """What the person of a reference says without it."""
        rows = np.flatnonzero(self._code == self._code[row])
        seen = self._observed.rows(rows[rows != row])
        return PersonParts.of(seen, np.zeros(len(rows) - 1, int), 1, self.settings).one(0)

    def _count(self, person: int, itself: int) -> int:
        if person < 0:
            return 0
        return int((self._code == person).sum()) - int(itself >= 0 and self._code[itself] == person)

    def _questions(self, faces: Faces, asked: np.ndarray) -> Iterator[_Question]:
        place = {number: row for row, number in enumerate(self.bank.id.tolist())}
        itself = [place.get(number, -1) for number in faces.id.tolist()]
        wanted = self._codes(asked)
        hidden = np.where(asked != "", -1, self._codes(faces.person))
        table = pd.DataFrame({"itself": itself, "hidden": hidden, "asked": wanted})
        for (own, gone, known), rows in table.groupby(["itself", "hidden", "asked"]).indices.items():
            yield _Question(rows, own, gone, known)

    def _codes(self, names: np.ndarray) -> np.ndarray:
        known, place = np.unique(np.asarray(names, str), return_inverse=True)
        return np.array([self._keys.get(person_key(name), -1) for name in known.tolist()], int)[place]


def _quantile(values: np.ndarray, weight: np.ndarray, probability: float) -> float:
    """The least of the values [n] that, with those below, has this share of all weight [n]."""
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][min(int(np.searchsorted(reached, probability - 1e-9)), len(values) - 1)])
