"""Dates and births of an album, solved together from the estimated ages of its faces: no network, no torch.

The base's estimate e of a face of true age a follows, with h(a) = log(a + knee),

    h(e) = intercept + slope · (h(a) - h(REFERENCE_AGE)) + person's effect at that age + photo's effect + noise,

and a = date(photo) - birth(person). The noise is Student-t: a face that fits nobody's dates counts little. The person's
effect is an Ornstein-Uhlenbeck process over h(a) (who looks old at 30 still does at 35, less surely at 60),
interpolated between knots. Solved by iteratively re-weighted least squares on linearised observations; each step is
exact (AlbumPipeline__system). Literature: Lange, Little & Taylor, "Robust Statistical Modeling Using the t
Distribution", JASA 1989; photos dated by the faces in them: arXiv 2511.05464.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from AlbumPipeline.AlbumPipeline__rows import Album as Album
from AlbumPipeline.AlbumPipeline__rows import Known as Known
from AlbumPipeline.AlbumPipeline__rows import State, Step, difference_rows, linear_step, single_rows
from AlbumPipeline.AlbumPipeline__system import PHOTO
from AlbumPipeline.AlbumPipeline__weights import AgeErrors

STEPS, SETTLED = 40, 0.01  # iterations at most; years (root mean square) that the last one may move dates by
FAR, FAR_YOUNG, YOUNG = 10.0, 5.0, 15.0  # years; smaller contradictions cannot be seen, less is enough for the young
NO_DATE = 2000.0  # where an album without any date is put


class AlbumAges(NamedTuple):
    """Posterior of an album: decimal years, ages in years, standard deviations not yet scaled by the factor.

    A standard deviation is infinite where nothing ties a birth or a photo to any date.

    born, born_sd [P]; taken, taken_sd [D]; age, age_sd [F]; deviation [F]: signed, how many standard deviations the
    estimate of a face is from what all other faces and dates say of it; weight [F]: of its Student-t noise.
    """

    born: np.ndarray
    born_sd: np.ndarray
    taken: np.ndarray
    taken_sd: np.ndarray
    age: np.ndarray
    age_sd: np.ndarray
    deviation: np.ndarray
    weight: np.ndarray


def solve_album(album: Album, errors: AgeErrors) -> AlbumAges:
    """Solve an album; a part without any date is placed anywhere, its standard deviations then being about VAGUE."""
    state = first_guess(album, errors)
    for _ in range(STEPS):
        step = linear_step(album, errors, state)
        posterior = step.posterior
        born = step.origin + posterior.people[step.birth]  # [P]
        taken = step.origin + posterior.photos[::PHOTO]  # [D]
        residual = _residual(step) / (errors.noise * np.sqrt(album.repeats))  # [F] in scales of the noise
        weight = (errors.degrees + 1) / (errors.degrees + residual**2)
        moved = max(_root_mean_square(born - state.born), _root_mean_square(taken - state.taken))
        state = State(born, taken, weight)
        if moved < SETTLED:
            break
    fisher = (errors.degrees + 1) / (errors.degrees + 3)  # information of a Student-t observation over its weight
    last = linear_step(album, errors, state._replace(weight=state.weight * fisher), bounded=False)
    return _answer(album, errors, last, state)


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean())) if len(values) else 0.0


def first_guess(album: Album, errors: AgeErrors) -> State:
    """Births and dates by medians of what their faces say, known ones first; all weights 1."""
    age = errors.calibrated(album.estimate)  # [F]
    born, taken = album.born.mean.copy(), album.taken.mean.copy()
    missing = len(born) + len(taken) + 1
    while (left := int(np.isnan(born).sum() + np.isnan(taken).sum())) > 0:
        if left == missing:  # nothing is connected to a date: one date is put somewhere, the others follow from it
            somewhere = NO_DATE if np.isnan(taken).all() else np.nanmedian(taken)
            unknown = taken if np.isnan(taken).any() else born
            unknown[np.flatnonzero(np.isnan(unknown))[0]] = somewhere
        missing = left
        _fill(born, album.person, taken[album.photo] - age)
        _fill(taken, album.photo, born[album.person] + age)
    return State(born, taken, np.ones(len(age)))


def _fill(values: np.ndarray, index: np.ndarray, said: np.ndarray) -> None:
    """Put the median of what is said [F] where a value is missing."""
    usable = np.isnan(values[index]) & ~np.isnan(said)
    medians = pd.Series(said[usable]).groupby(index[usable]).median()
    values[medians.index.to_numpy(int)] = medians.to_numpy()


def _residual(step: Step) -> np.ndarray:
    faces, posterior = step.faces, step.posterior
    return faces.y - faces.people @ posterior.people - faces.photos @ posterior.photos  # [F] of h


def _answer(album: Album, errors: AgeErrors, step: Step, state: State) -> AlbumAges:
    posterior, faces, cov = step.posterior, step.faces, step.posterior.people_cov()
    size = (faces.people.shape[1], faces.photos.shape[1])
    born_sd = np.sqrt(cov[step.birth, step.birth])
    dates = single_rows(1, PHOTO * np.arange(len(state.taken)), state.taken, state.taken, size)
    taken_sd = np.sqrt(posterior.variance(cov, dates.people, dates.photos))
    since = difference_rows(np.ones(len(album.person)), step.birth[album.person], album.photo, size)
    age_sd = np.sqrt(posterior.variance(cov, *since))
    age = np.maximum(state.taken[album.photo] - state.born[album.person], 0.0)
    deviation = _deviation(album, errors, step, posterior.variance(cov, faces.people, faces.photos))
    people, photos = anchored(album)
    born_sd, taken_sd = np.where(people, born_sd, np.inf), np.where(photos, taken_sd, np.inf)
    return AlbumAges(state.born, born_sd, state.taken, taken_sd, age, age_sd, deviation, state.weight)


def anchored(album: Album) -> tuple[np.ndarray, np.ndarray]:
    """Masks [P] and [D] of people and photos that faces connect, directly or not, to a known birth or date."""
    count, photos = len(album.born.mean), len(album.taken.mean)
    links = sparse.coo_array(
        (np.ones(len(album.person)), (album.person, count + album.photo)), shape=(count + photos, count + photos)
    )
    part = connected_components(links, directed=False)[1]  # [P + D]
    known = np.isfinite(np.concatenate([album.born.sd, album.taken.sd]))
    tied = np.isin(part, part[known])
    return tied[:count], tied[count:]


def _deviation(album: Album, errors: AgeErrors, step: Step, variance: np.ndarray) -> np.ndarray:
    """Leave-one-out deviations [F]: how far each estimate is from what everything else says, in standard deviations.

    By the leverage of each row (Cook & Weisberg, "Residuals and Influence in Regression", 1982), from the variance [F]
    of its fit; its own noise counts in full, whatever its weight.
    """
    left = np.maximum(1 - variance * step.faces.precision, 1e-9)  # [F] 1 - leverage
    return _residual(step) / left / np.sqrt(errors.noise**2 * album.repeats + variance / left)


def implied_age(album: Album, errors: AgeErrors) -> np.ndarray:
    """The age [F] (years) that each face alone implies: its estimate, calibrated."""
    return errors.calibrated(album.estimate)


def disagreement(album: Album, ages: AlbumAges, errors: AgeErrors) -> np.ndarray:
    """Size of the deviation [F] of faces whose age alone is far from the album's, else 0 (see FAR, FAR_YOUNG)."""
    away = np.abs(implied_age(album, errors) - ages.age)
    far = np.where(np.minimum(ages.age, implied_age(album, errors)) < YOUNG, FAR_YOUNG, FAR)
    return np.where(away >= far, np.abs(ages.deviation), 0.0)
