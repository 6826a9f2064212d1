"""Fit the constants of the correction by own references to a base: how people differ, how exact one photo is.

    python scripts/release/fit_own_references.py --data data/prepared/publicfigures data/prepared/utkface

Writes weights/AgeRegBaseline/own_references.json (--weights DIR: another base). To be run again after every training of
the base. Faces of exact age outside split `base` are used: those of people with several photos for the variances
(maximum likelihood; people of the sets named by --data that have persons), those of split `calib` for the sizes of
errors that intervals are calibrated on. What is assumed of other domains is not fitted: EffectSettings says which.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from common.base.weights import git_commit
from common.data.manifest import load_prepared
from common.difference.own_effects import Observed, PersonParts, domain_effect
from common.difference.own_settings import SETTINGS_FILE, EffectSettings, save_settings, to_scale
from common.errors import DataError, UserError
from common.pipeline import RELEASED, AgePredictBasicPipeline

FITTED = ("noise", "session", "person", "drift")
MOST = 12  # photos of one person
FEW = 20  # people needed
LOOSE = 0.05  # pull of the fitted logarithms towards their defaults: that of a standard deviation of 3
STEPS = 240
SESSION = 1e-6  # of the scale: photos of one age
SCORES = 101  # quantiles kept


class Estimated(NamedTuple):
    """Faces of a set: ages, base estimates [N] (years), person [N] str, whether of split `calib` [N] bool."""

    age: np.ndarray
    estimate: np.ndarray
    person: np.ndarray
    calib: np.ndarray


def read_faces(folder: Path, base: AgePredictBasicPipeline) -> Estimated:
    """The faces of exact age outside split `base` of a prepared folder, estimated; raises DataError without any."""
    prepared = load_prepared(folder)
    manifest = prepared.manifest
    manifest = manifest[manifest["age"].notna() & (manifest["split"] != "base")]
    if manifest.empty:
        raise DataError(f"{folder} has no face of exact age outside split base.")
    ages = base.predict([prepared.crops[row] for row in manifest.index]).ages
    return Estimated(
        manifest["age"].to_numpy(float), ages.astype(float), manifest["person"].to_numpy(str),
        (manifest["split"] == "calib").to_numpy(),
    )  # fmt: skip


def shifts_of(faces: Estimated, settings: EffectSettings) -> np.ndarray:
    """Shifts [N] on the scale less what the set as a domain shifts all its faces by."""
    count = len(faces.age)
    seen = Observed.of(faces.age, faces.estimate, np.arange(count), settings)
    parts = PersonParts.of(seen, np.arange(count), count, settings)
    domain = domain_effect(parts.common.sum(axis=0), parts.common_vector.sum(axis=0), settings)
    return seen.y - seen.at_estimate @ (domain.share @ domain.mean)


def people_of(sets: list[Estimated], settings: EffectSettings) -> list[tuple[np.ndarray, np.ndarray]]:
    """Shifts and ages on the scale, [n] each, of every person with several photos."""
    people = []
    for faces in sets:
        shifts, scaled = shifts_of(faces, settings), to_scale(faces.age)
        for name in np.unique(faces.person[faces.person != ""]):
            rows = np.flatnonzero(faces.person == name)[:MOST]
            if len(rows) > 1:
                people.append((shifts[rows], scaled[rows]))
    return people


def fit_variances(people: list[tuple[np.ndarray, np.ndarray]], start: EffectSettings) -> EffectSettings:
    """Settings under which the shifts of these people are likeliest, whitened ones being Student-t."""
    first = np.append(np.log([getattr(start, name) for name in FITTED]), _logit(start.lasting))

    def with_values(values: np.ndarray) -> EffectSettings:
        bounded = np.exp(np.clip(values[:-1], -7, 3)).tolist()
        lasting = float(1 / (1 + np.exp(-np.clip(values[-1], -5, 5))))
        return replace(start, **dict(zip(FITTED, bounded, strict=True)), lasting=lasting)

    def loss(values: np.ndarray) -> float:
        return _unlikelihood(people, with_values(values)) + LOOSE * float(((values - first) ** 2).sum())

    found = minimize(loss, first, method="Nelder-Mead", options={"maxiter": STEPS, "xatol": 0.02, "fatol": 0.02})
    return with_values(found.x)


def _logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


def _unlikelihood(people: list[tuple[np.ndarray, np.ndarray]], settings: EffectSettings) -> float:
    total, degrees = 0.0, settings.degrees
    for shifts, scaled in people:
        alike = np.exp(-np.abs(scaled[:, None] - scaled[None]) / settings.drift)
        cov = settings.person**2 * (settings.lasting + (1 - settings.lasting) * alike)
        together = np.abs(scaled[:, None] - scaled[None]) < SESSION
        cov = cov + together * settings.session**2 + settings.noise**2 * np.eye(len(shifts))
        factor = np.linalg.cholesky(cov)
        white = np.linalg.solve(factor, shifts)
        total += float(np.log(np.diag(factor)).sum() + 0.5 * (degrees + 1) * np.log1p(white**2 / degrees).sum())
    return total


def scores_of(sets: list[Estimated], settings: EffectSettings) -> tuple[float, ...]:
    """Quantiles of |error of the base| over its expected size on the scale, of the faces of split `calib`."""
    errors = [np.abs(to_scale(part.age) - to_scale(part.estimate))[part.calib] for part in sets]
    scores = np.concatenate(errors) / settings.usual
    if len(scores) < SCORES:
        raise DataError(f"Only {len(scores)} faces of split calib; {SCORES} are needed.")
    return tuple(np.quantile(scores, np.linspace(0, 1, SCORES)).round(4).tolist())


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, nargs="+", required=True, metavar="DIR", help="prepared folders (scripts/prepare_data.py)")
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="the base, and where to write")
    add("--device", default="auto", help="auto, cpu or cuda")
    arguments = parser.parse_args(argv)
    try:
        base = AgePredictBasicPipeline.from_weights(arguments.weights, arguments.device)
        sets = [read_faces(folder, base) for folder in arguments.data]
        people = people_of(sets, EffectSettings())
        if len(people) < FEW:
            raise DataError(f"Only {len(people)} people with several photos outside split base; {FEW} are needed.")
        fitted = fit_variances(people, EffectSettings())
        fitted = replace(fitted, scores=scores_of(sets, fitted))
        notes = {"people": len(people), "photos": sum(len(one[0]) for one in people)}
        save_settings(arguments.weights, fitted, notes | {"commit": git_commit()})
    except UserError as error:
        print(f"fit_own_references: {error}", file=sys.stderr)
        return 2
    told = ", ".join(f"{name} {getattr(fitted, name):.3f}" for name in (*FITTED, "lasting"))
    print(f"{notes['people']} people, {notes['photos']} photos: {told}; written: {arguments.weights / SETTINGS_FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
