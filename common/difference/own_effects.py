"""How a domain and a person shift the base's estimates: a linear mixed model, solved in closed form with numpy.

On the scale t (log(age + knee) up to `flat` years, then linear), where the base errs about alike at every age,

    t(age) - t(estimate) = domain's effect at the estimate + person's effect at the age + session's effect + noise,

where of people who are not asked for the references count as so many strangers' as their correlation leaves (the design
effect of Kish, "Survey Sampling", 1965): how estimates vary within a person says nothing about other people. The
effects are Gaussian processes, interpolated between knots: a domain's is an offset, a slope and a bend, or a hundredth
of their variance (both priors are averaged by their evidence, so that references of the training domain change little);
a person's has a lasting part and one that drifts with age. The noise is Student-t, by re-weighting: a wrong age counts
little. Literature: Laird & Ware, "Random-Effects Models for Longitudinal Data", Biometrics 1982; Hoeting et al.,
"Bayesian Model Averaging", Statistical Science 1999; Lange, Little & Taylor, JASA 1989.
"""

from typing import NamedTuple

import numpy as np

from common.difference.own_settings import EffectSettings, knot_weights, to_scale

ROUNDS = 4  # of re-weighting


class Observed(NamedTuple):
    """References on the scale: y [n] observed shifts, at_estimate and at_age [n, K] weights of knots, precision [n]."""

    y: np.ndarray
    at_estimate: np.ndarray
    at_age: np.ndarray
    precision: np.ndarray

    @classmethod
    def of(cls, ages: np.ndarray, estimates: np.ndarray, code: np.ndarray, settings: EffectSettings) -> "Observed":
        """The references with these ages and base estimates (years) of the people `code` [n] int.

        Those of one person at one age (in whole years) share a session: k of them know it as one does.
        """
        at, scaled = to_scale(estimates), to_scale(ages)
        place, count = np.unique(
            np.stack([code, np.floor(ages)], axis=1), axis=0, return_inverse=True, return_counts=True
        )[1:]
        variance = settings.noise**2 + count[place.ravel()] * settings.session**2  # [n]
        return cls(scaled - at, knot_weights(at), knot_weights(scaled), 1 / variance)

    def rows(self, rows: np.ndarray) -> "Observed":
        """Some of them."""
        return Observed(*(part[rows] for part in self))


class PersonParts(NamedTuple):
    """What P people's references say: left [P, K, K] covariance of their effects given a domain's, pull [P, K] and
    cross [P, K, K], by which these depend on it; information [P, K, K] and vector [P, K] about the domain's effect, of
    the person asked for; common and common_vector, the same of others, whose references count as strangers'."""

    left: np.ndarray
    pull: np.ndarray
    cross: np.ndarray
    information: np.ndarray
    vector: np.ndarray
    common: np.ndarray
    common_vector: np.ndarray

    @classmethod
    def of(cls, seen: Observed, code: np.ndarray, people: int, settings: EffectSettings) -> "PersonParts":
        """Of references `seen` [n] of the people `code` [n] int, each from 0 to `people`."""
        order = np.argsort(code, kind="stable")
        first = np.searchsorted(code[order], np.arange(people))
        empty = np.bincount(code, minlength=people) == 0

        def summed(values: np.ndarray) -> np.ndarray:
            if not len(values):
                return np.zeros((people, *values.shape[1:]))
            sums = np.add.reduceat(values[order], np.minimum(first, len(values) - 1), axis=0)
            return np.where(empty.reshape(-1, *[1] * (values.ndim - 1)), 0.0, sums)

        at_age, at_estimate = seen.at_age * seen.precision[:, None], seen.at_estimate * seen.precision[:, None]
        own = summed(at_age[:, :, None] * seen.at_age[:, None, :])  # [P, K, K]
        cross = summed(at_age[:, :, None] * seen.at_estimate[:, None, :])
        pull = summed(at_age * seen.y[:, None])  # [P, K]
        left = np.linalg.inv(np.linalg.inv(settings.person_cov()) + own)
        turned = cross.transpose(0, 2, 1) @ left  # [P, K, K]
        information = summed(at_estimate[:, :, None] * seen.at_estimate[:, None, :]) - turned @ cross
        vector = summed(at_estimate * seen.y[:, None]) - (turned @ pull[:, :, None])[:, :, 0]
        alike = settings.person**2 / settings.usual**2
        design = 1 + (np.bincount(code, minlength=people)[code] - 1) * alike  # [n]
        strange = 1 / (1 / seen.precision + settings.person**2) / design
        common = summed((seen.at_estimate * strange[:, None])[:, :, None] * seen.at_estimate[:, None, :])
        common_vector = summed(seen.at_estimate * (strange * seen.y)[:, None])
        return cls(left, pull, cross, information, vector, common, common_vector)

    def one(self, person: int) -> "PersonParts":
        """Those of one person, without the first axis."""
        return PersonParts(*(part[person] for part in self))


class DomainEffect(NamedTuple):
    """A domain's effect at the knots under both priors: mean [2, K], cov [2, K, K], and how likely each is [2]."""

    mean: np.ndarray
    cov: np.ndarray
    share: np.ndarray


def domain_effect(information: np.ndarray, vector: np.ndarray, settings: EffectSettings) -> DomainEffect:
    """The posterior from the information [K, K] and the vector [K] of all references."""
    means, covs, evidence = [], [], []
    for prior in settings.domain_covs():
        inverse = np.linalg.inv(prior) + information
        cov = np.linalg.inv(inverse)
        means.append(cov @ vector)
        covs.append(cov)
        evidence.append(0.5 * (vector @ means[-1] - np.linalg.slogdet(prior @ inverse)[1]))
    share = np.exp(np.array(evidence) - max(evidence))
    return DomainEffect(np.array(means), np.array(covs), share / share.sum())


def expected_shift(
    estimate: np.ndarray, domain: DomainEffect, person: PersonParts | None, settings: EffectSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Mean [B] and variance [B] of the shift, on the scale and without noise, of faces with base estimates [B] (years).

    `person` holds the parts of the person shown (None: nobody known). The person's effect is taken at the age that a
    first pass gives.
    """
    start = to_scale(estimate)
    at, mean, variance = knot_weights(start), np.zeros(len(start)), np.zeros(len(start))
    for _ in range(2):
        near = knot_weights(start + mean)  # [B, K]
        left = near @ (settings.person_cov() if person is None else person.left)  # [B, K]
        means = domain.mean @ at.T  # [2, B]
        slopes = np.broadcast_to(at, (2, *at.shape))
        if person is not None:
            means = means + (person.pull - domain.mean @ person.cross.T) @ left.T
            slopes = slopes - left @ person.cross
        spread = (left * near).sum(axis=1) + ((slopes @ domain.cov) * slopes).sum(axis=2)  # [2, B]
        mean = domain.share @ means
        variance = domain.share @ (spread + means**2) - mean**2
    return mean, variance


def reweighted(seen: Observed, code: np.ndarray, people: int, settings: EffectSettings) -> Observed:
    """The references with the precision of Student-t noise: each by how far it is from what the others say of it."""
    full = seen.precision
    for _ in range(ROUNDS - 1):
        parts = PersonParts.of(seen, code, people, settings)
        domain = domain_effect(parts.common.sum(axis=0), parts.common_vector.sum(axis=0), settings)
        mean = domain.share @ domain.mean  # [K]
        effect = (parts.left @ (parts.pull - parts.cross @ mean)[:, :, None])[:, :, 0]  # [P, K]
        spread = ((parts.left[code] @ seen.at_age[:, :, None])[:, :, 0] * seen.at_age).sum(axis=1)  # [n]
        kept = np.maximum(1 - spread * seen.precision, 1e-9)  # 1 - leverage
        residual = (seen.y - seen.at_estimate @ mean - (seen.at_age * effect[code]).sum(axis=1)) / kept
        square = residual**2 / (1 / full + spread / kept)
        weight = np.minimum((settings.degrees + 1) / (settings.degrees + square), 1.0)
        seen = seen._replace(precision=weight * full)
    return seen
