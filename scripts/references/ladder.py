"""What so many own photos of a person are worth, by the mixed model and by the plain methods it has to beat."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.difference.bank import ReferenceBank
from common.difference.corrector import Faces
from common.difference.own_references import UserReferences
from common.difference.own_settings import EffectSettings, from_scale, knot_weights, to_scale
from common.evaluation.metrics import paired_bootstrap
from common.evaluation.tables import markdown

OWN_COUNTS = (1, 2, 3, 5, 10)
DRAWS = 2
FEWEST = 5  # other people's photos from which a line is drawn
# Bayesian linear regression in years: standard deviations of a person's offset at 30 and of its change over 20 years.
OFFSET, SLOPE = 4.0, 3.0
MODEL = "mixed model"


class Known(NamedTuple):
    """Base estimates and ages [n] (years) of references."""

    estimate: np.ndarray
    age: np.ndarray


def plain_ages(estimate: float, others: Known, own: Known) -> dict[str, float]:
    """The age of a face by the plain methods: a line through other people's photos, then the person's residuals."""
    starts = np.append(estimate, own.estimate)
    if len(others.age) >= FEWEST:
        starts = np.polyval(np.polyfit(others.estimate, others.age, 1), starts)
    start, residual = float(starts[0]), own.age - starts[1:]
    count = len(residual)
    design = np.stack([np.ones(count + 1), (starts - 30) / 20], axis=1)
    weight = (2 + np.minimum(starts[1:], 40) / 12) ** -2  # of noise that grows with age
    precision = np.diag([OFFSET**-2, SLOPE**-2]) + (design[1:] * weight[:, None]).T @ design[1:]
    line = np.linalg.solve(precision, (design[1:] * weight[:, None]).T @ residual)
    return {
        "nothing": start,
        "plain offset": start + (float(residual.mean()) if count else 0.0),
        "shrunken offset": start + float(residual.sum()) / (count + 1),
        "Bayesian line": start + float(design[0] @ line),
    }


def of_numbers(estimates: np.ndarray, ages: np.ndarray, person: np.ndarray) -> ReferenceBank:
    """A bank of estimates and ages [N] (years) of people [N] str, without embeddings."""
    count = len(ages)
    return ReferenceBank(
        np.ones((count, 1), np.float16), ages.astype(np.float32), estimates.astype(np.float32), np.zeros(count, bool),
        person, np.arange(count).astype(str), "",
    )  # fmt: skip


def age_of(bank: ReferenceBank, row: int, rows: np.ndarray, settings: EffectSettings) -> float:
    """Age (years) of the face of this row by the references of `rows`, of which those of its person are its own."""
    if not len(rows):
        return float(bank.estimates[row])
    face = Faces(bank.embeddings[row : row + 1], bank.estimates[row : row + 1], np.array(["new"]), np.array([""]))
    return float(UserReferences(bank.rows(rows), settings).correct(face, bank.person[row : row + 1]).age[0])


def other_photos(bank: ReferenceBank, row: int) -> np.ndarray:
    """Rows of other photos of the same person at another age (in whole years)."""
    same = (bank.person == bank.person[row]) & bank.named[row] & (bank.id != bank.id[row])
    return np.flatnonzero(same & (np.floor(bank.ages) != np.floor(bank.ages[row])))


def other_people(bank: ReferenceBank, row: int) -> np.ndarray:
    """Rows of the references of other people."""
    own = (bank.person == bank.person[row]) & (bank.person[row] != "")
    return np.flatnonzero(~own & (bank.id != bank.id[row]))


def own_curve(bank: ReferenceBank, settings: EffectSettings, most: int = 400) -> pd.DataFrame:
    """Errors over the number of own photos, drawn DRAWS times: columns row, person, domain, own, method, error, before.

    `domain`: whether all other people's photos (`most` of them) are references, too; `before`: the error of the method
    without own photos. Photos of the face's own age are left out: two of one sitting are no test.
    """
    return pd.DataFrame(
        _curve(bank, settings, most),
        columns=["row", "person", "domain", "own", "method", "error", "before"],
    )  # fmt: skip


def _curve(bank: ReferenceBank, settings: EffectSettings, most: int) -> Iterator[tuple]:
    random, none = np.random.default_rng(0), np.array([], int)
    for row in range(len(bank)):
        own = other_photos(bank, row)
        if not len(own):
            continue
        others = random.permutation(other_people(bank, row))[:most]
        for domain, used in ((False, none), (True, others)):
            before = _ages(bank, row, used, none, settings)
            for _ in range(DRAWS):
                drawn = random.permutation(own)
                for count in OWN_COUNTS:
                    if count > len(own):
                        break
                    for method, age in _ages(bank, row, used, drawn[:count], settings).items():
                        truth = float(bank.ages[row])
                        errors = abs(age - truth), abs(before[method] - truth)
                        yield (row, bank.person[row], domain, count, method, *errors)


def _ages(
    bank: ReferenceBank, row: int, others: np.ndarray, own: np.ndarray, settings: EffectSettings
) -> dict[str, float]:
    estimates, ages = bank.estimates.astype(float), bank.ages.astype(float)
    parts = (Known(estimates[rows], ages[rows]) for rows in (others, own))
    return plain_ages(float(estimates[row]), *parts) | {MODEL: age_of(bank, row, np.append(others, own), settings)}


def curve_tables(table: pd.DataFrame) -> list[str]:
    """Markdown: MAE by method and number of own photos, with and without a domain bank; then the model's gains."""
    lines = []
    for domain, part in table.groupby("domain"):
        counts = sorted(part["own"].unique())
        errors = part.groupby(["method", "own"])["error"].mean()
        rows = [[name, *(f"{errors[name, count]:.2f}" for count in counts)] for name in part["method"].unique()]
        head = "own photos, upon a domain bank" if domain else "own photos alone"
        lines += ["", *markdown([head, *map(str, counts)], rows)]
        model = (
            part[part["method"] == MODEL].groupby(["own", "row", "person"])[["before", "error"]].mean().reset_index()
        )
        gains = []
        for count in counts:
            one = model[model["own"] == count]
            gain = paired_bootstrap(one["before"], one["error"], one["person"].to_numpy(str))
            gains.append([count, len(one), *(f"{gain[name]:+.2f}" for name in ("gain", "low", "high"))])
        lines += ["", *markdown(["own photos", "faces", "gain of the mixed model", "low", "high"], gains)]
    return lines


def simulated_people(people: int, photos: int, settings: EffectSettings, seed: int = 0) -> ReferenceBank:
    """People drawn from the model's variances and from others: an offset in years, a slope, a direction of embeddings.

    A third of them each: the drifting effect of the model; an offset (sd 3 years) with a slope (2 years per 20); a
    direction (of 8) that faces share by chance with a standard deviation of `person`. Ages 1 to 75, Student-t noise.
    """
    random = np.random.default_rng(seed)
    cov, direction = settings.person_cov(), random.normal(size=8) / np.sqrt(8)
    parts = []
    for number in range(people):
        age = random.uniform(1, 75, photos)
        effect = np.zeros(photos)
        if number % 3 == 0:
            effect = knot_weights(to_scale(age)) @ random.multivariate_normal(np.zeros(len(cov)), cov)
        if number % 3 == 2:
            looks = random.normal(size=8) + 0.7 * random.normal(size=(photos, 8))  # [n, 8] alike in one person
            effect = settings.person * looks @ direction
        years = random.normal(0, 3) + random.normal(0, 2) * (age - 30) / 20 if number % 3 == 1 else 0.0
        noise = settings.noise * random.standard_t(settings.degrees, photos)
        estimate = np.clip(from_scale(to_scale(age) - effect + noise) - years, 0, 100)
        parts.append((estimate, age, np.full(photos, f"person {number:03d}")))
    estimate, age, person = (np.concatenate(column) for column in zip(*parts, strict=True))
    return of_numbers(estimate, age, person)
