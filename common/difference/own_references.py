"""A correction by the user's own references, without training: by other people's, then by the person's own."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.data.labels import person_key
from common.difference.bank import ReferenceBank
from common.difference.corrector import CorrectsAges, Faces


@dataclass(frozen=True)
class VoteSettings:
    """How far residuals are believed, all in years unless said otherwise.

    Attributes:
        offset: Standard deviation expected of a domain's common offset.
        slope: The same of its change over 20 years of age.
        bend: The same of local departures from that line.
        bend_width: Age range over which these vary.
        noise: Standard deviation of single residuals of different people of 30 (see `noise_at`).
        shrinkage: How many times what noise alone would give is taken off a shift's square (a number).
        limit: A residual further than this from the others counts as this far.
        personal_width: Difference of estimates over which errors on one person repeat.
        personal_noise: Standard deviation of single residuals of one person.
        personal_weight: A person's references count as if so many more said 0 (a number).
    """

    offset: float = 4.0
    slope: float = 6.0
    bend: float = 1.5
    bend_width: float = 12.0
    noise: float = 5.5
    shrinkage: float = 3.0
    limit: float = 10.0
    personal_width: float = 10.0
    personal_noise: float = 4.0
    personal_weight: float = 1.0


class Shifts(NamedTuple):
    """Years to add to N starting ages: domain [N], personal [N]; references [N]: how many voted."""

    domain: np.ndarray
    personal: np.ndarray
    references: np.ndarray


class DomainFit(NamedTuple):
    """What a domain's references say of B estimates: residual [B] expected, in years; shrinkage factor, 0 to 1."""

    residual: np.ndarray
    shrinkage: float


def fit_domain(estimate: np.ndarray, known: np.ndarray, residual: np.ndarray, settings: VoteSettings) -> DomainFit:
    """Expected residuals at estimates [B] (years), from references with estimates `known` [N] and residuals [N].

    A Gaussian process over the estimate (offset, slope and local bend, each expected to be 0), fitted to the mean
    residual of every whole year of it; residuals far from a first fit are pulled in before the second. How far it is to
    be trusted follows from what noise alone would give (see `shrinkage_factor`); without references not at all.
    """
    if not len(known):
        return DomainFit(np.zeros(len(estimate)), 0.0)
    years, place, count = np.unique(np.round(known), return_inverse=True, return_counts=True)  # [Y] whole years
    noise = noise_at(years, settings) ** 2 / count  # [Y]
    solve = np.linalg.inv(_kernel(years, years, settings) + np.diag(noise))  # [Y, Y]
    smooth = _kernel(years, years, settings) @ solve  # [Y, Y] from mean residuals to fitted ones
    fit = np.full(len(years), _middle(residual))
    for _ in range(2):
        clipped = fit[place] + np.clip(residual - fit[place], -settings.limit, settings.limit)  # [N]
        mean = np.bincount(place, weights=clipped) / count  # [Y]
        fit = smooth @ mean
    by_chance = np.average((smooth**2 * noise).sum(axis=1), weights=count)
    shrinkage = shrinkage_factor(np.average(fit**2, weights=count), by_chance, len(known), settings)
    return DomainFit(_kernel(estimate, years, settings) @ solve @ mean, float(shrinkage))


def domain_shift(estimate: np.ndarray, known: np.ndarray, residual: np.ndarray, settings: VoteSettings) -> np.ndarray:
    """The trusted part [B] (years) of the residuals that `fit_domain` expects."""
    fit = fit_domain(estimate, known, residual, settings)
    return fit.shrinkage * fit.residual


def noise_at(estimate: np.ndarray, settings: VoteSettings) -> np.ndarray:
    """Standard deviation [N] (years) of single residuals at estimates [N]: the old are judged less exactly."""
    return settings.noise * (0.4 + np.clip(estimate, 0, 100) / 50)


def shrinkage_factor(
    square: np.ndarray | float, by_chance: np.ndarray | float, count: int, settings: VoteSettings
) -> np.ndarray:
    """Part of a shift to apply, 0 to 1, from its square and the square that noise alone would give on average.

    The positive-part shrinkage of James & Stein, "Estimation with quadratic loss", 1961; the fewer the `count`
    references are, the less their noise is known, and the more is taken off.
    """
    taken_off = settings.shrinkage * (1 + 2 / count)
    return np.clip(1 - taken_off * by_chance / np.maximum(square, 1e-12), 0, 1)


def _middle(residual: np.ndarray) -> float:
    return float(np.median(residual)) * len(residual) / (len(residual) + 5)


def _kernel(first: np.ndarray, second: np.ndarray, settings: VoteSettings) -> np.ndarray:
    slope = settings.slope**2 * np.outer((first - 40) / 20, (second - 40) / 20)
    distance = (first[:, None] - second[None, :]) / settings.bend_width
    return settings.offset**2 + slope + settings.bend**2 * np.exp(-0.5 * distance**2)  # [len(first), len(second)]


def personal_shift(start: np.ndarray, known: np.ndarray, residual: np.ndarray, settings: VoteSettings) -> np.ndarray:
    """Expected residual [B] (years) of one person at ages so far [B], from the person's own references [n].

    A mean weighted by how near the ages so far are, as if `personal_weight` more references said 0, scaled down by
    what noise alone would give (see `shrinkage_factor`).
    """
    if not len(known):
        return np.zeros(len(start))
    middle = _middle(residual)
    clipped = middle + np.clip(residual - middle, -settings.limit, settings.limit)
    weight = np.exp(-0.5 * ((start[:, None] - known[None, :]) / settings.personal_width) ** 2)  # [B, n]
    total = weight.sum(axis=1) + settings.personal_weight
    shift = weight @ clipped / total
    by_chance = settings.personal_noise**2 * (weight**2).sum(axis=1) / total**2
    return shrinkage_factor(shift**2, by_chance, len(known), settings) * shift


@dataclass(frozen=True)
class UserReferences:
    """A user's bank with the starting ages [N] (years) of its references: what the training bank makes of them."""

    bank: ReferenceBank
    start: np.ndarray
    settings: VoteSettings = VoteSettings()

    def shifts(self, faces: Faces, start: np.ndarray, asked: np.ndarray | None = None) -> Shifts:
        """Corrections of N faces with starting ages `start` [N] (years), their base estimates being `faces.estimate`.

        A face is never its own reference. Other references of its person (`faces.person`) vote in neither part,
        unless `asked` [N] str names the person a face is known to show ('' nobody): then this person's references
        give the personal part and all others the domain part.
        """
        asked = np.full(len(start), "") if asked is None else _keys(asked)
        own_id = np.where(np.isin(faces.id, self.bank.id), faces.id, "")
        hidden, shown = np.where(asked != "", asked, _keys(faces.person)), _keys(self.bank.person)
        domain, personal, references = np.zeros(len(start)), np.zeros(len(start)), np.zeros(len(start), int)
        keys = pd.DataFrame({"id": own_id, "hidden": hidden, "asked": asked})
        for (own, person, known), rows in keys.groupby(list(keys.columns)).indices.items():
            usable = self.bank.id != own
            others = usable & ((shown != person) | (shown == ""))
            hers = usable & (shown == known) & (known != "")
            domain[rows], personal[rows] = self.votes(faces.estimate[rows].astype(float), start[rows], others, hers)
            references[rows] = others.sum() + hers.sum()
        return Shifts(domain, personal, references)

    def leave_one_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Ages [N] (years) of the references themselves, each as if new: by other people; and by the person's own too.

        A reference without a person is only left out itself.
        """
        bank = self.bank
        faces = Faces(bank.embeddings, bank.estimates, bank.id, bank.person)
        domain = self.start + self.shifts(faces, self.start).domain
        both = self.shifts(faces, self.start, asked=np.where(bank.named, bank.person, ""))
        return domain, self.start + both.domain + both.personal

    def votes(
        self, estimate: np.ndarray, start: np.ndarray, others: np.ndarray, hers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Domain and personal shift of faces with base estimates and starting ages [B], voted for by these rows."""
        bank = self.bank
        base, before = np.concatenate([estimate, bank.estimates[hers]]), np.concatenate([start, self.start[hers]])
        known = bank.estimates[others].astype(float)
        fit = fit_domain(base, known, bank.ages[others] - known, self.settings)
        shifted = before + fit.shrinkage * (base + fit.residual - before)  # [B + n]
        mine, theirs = shifted[: len(start)], shifted[len(start) :]
        return mine - start, personal_shift(mine, theirs, bank.ages[hers] - theirs, self.settings)


def _keys(names: np.ndarray) -> np.ndarray:
    known, place = np.unique(np.asarray(names, str), return_inverse=True)
    return np.array([person_key(name) for name in known], str)[place]


def start_of(corrector: CorrectsAges, bank: ReferenceBank) -> UserReferences:
    """A user's bank with starting ages: what the difference regressor and its training bank say of each reference."""
    faces = Faces(bank.embeddings.astype(np.float32), bank.estimates, bank.id, bank.person)
    return UserReferences(bank, corrector.correct(faces, votes=False).age.astype(float))
