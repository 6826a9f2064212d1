"""An album as linear observations: what its faces, its dates and its bounds say, linearised at a state."""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from AlbumPipeline.AlbumPipeline__system import PHOTO, Posterior, Rows, solve_gaussian, stack_rows
from AlbumPipeline.AlbumPipeline__weights import N_KNOTS, AgeErrors

VAGUE = 100.0  # years; standard deviation of what nothing is known of
SHARPEST = 0.003  # years; of what is known to the day
WALL = 0.1  # years; how far a bound yields


class Known(NamedTuple):
    """What is known of N dates (decimal years): mean, sd [N], NaN and inf where nothing is; bounds low, high [N]."""

    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Album(NamedTuple):
    """F faces of P people on D photos.

    person, photo [F] int: whose face, on which photo; estimate [F]: the base's age (years); repeats [F]: by how much
    the variance of its noise grows because other photos repeat it (1: none do); born [P], taken [D]: what is known.
    """

    person: np.ndarray
    photo: np.ndarray
    estimate: np.ndarray
    repeats: np.ndarray
    born: Known
    taken: Known


class State(NamedTuple):
    """Where an iteration linearises: born [P], taken [D] (decimal years), weight [F]."""

    born: np.ndarray
    taken: np.ndarray
    weight: np.ndarray


class Step(NamedTuple):
    """One exact solution: the posterior, its unknowns' places, and the rows [F] of the faces."""

    posterior: Posterior
    birth: np.ndarray  # [P] place of each birth among the people's unknowns
    faces: Rows
    origin: float  # decimal year that all dates are counted from


def linear_step(album: Album, errors: AgeErrors, state: State, bounded: bool = True) -> Step:
    """The exact solution of the album linearised at a state, with or without the bounds that the state violates."""
    origin = float(np.median(state.taken)) if len(state.taken) else 0.0
    age = np.maximum(state.taken[album.photo] - state.born[album.person], 0.0)  # [F]
    first, share = errors.effect_weights(age)
    column, birth, prior = _people_unknowns(album, errors, first)
    size = (prior.shape[0], PHOTO * len(state.taken))
    faces = _face_rows(album, errors, age, state.weight, (column, birth, first, share), size)
    rows = [faces, _age_rows(album, errors, state, birth, size), *_stated_rows(album, origin, birth, size)]
    if bounded:
        rows += _bound_rows(album, state, origin, birth, size)
    photo_prior = np.tile([VAGUE**-2, errors.photo**-2], len(state.taken))  # [2 D]
    return Step(solve_gaussian(stack_rows(rows), prior, photo_prior), birth, faces, origin)


def _people_unknowns(
    album: Album, errors: AgeErrors, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray, sparse.csr_array]:
    """Columns [P, N_KNOTS] of the knots in use (-1 the others), of the births [P], and the precision of both."""
    used = np.zeros((len(album.born.mean), N_KNOTS), bool)
    used[album.person, first] = used[album.person, first + 1] = True
    size = 1 + used.sum(axis=1)  # [P] unknowns of each person, the birth first
    birth = np.cumsum(size) - size
    column = np.where(used, birth[:, None] + np.cumsum(used, axis=1), -1)
    cov, parts = errors.effect_cov(), [np.empty((3, 0))]
    patterns, pattern = np.unique(used, axis=0, return_inverse=True)
    for number, knots in enumerate(patterns):
        block = np.zeros((1 + knots.sum(), 1 + knots.sum()))
        block[0, 0], block[1:, 1:] = VAGUE**-2, np.linalg.inv(cov[np.ix_(knots, knots)])
        at = birth[np.asarray(pattern).ravel() == number][:, None, None]  # people of this pattern
        row, below = np.broadcast_arrays(at + np.arange(len(block))[:, None], at + np.arange(len(block)))
        parts.append(np.stack([np.broadcast_to(block, row.shape).ravel(), row.ravel(), below.ravel()]))
    value, row, below = np.concatenate(parts, axis=1)
    total = int(size.sum())
    return column, birth, sparse.csr_array((value, (row.astype(int), below.astype(int))), shape=(total, total))


def _face_rows(
    album: Album, errors: AgeErrors, age: np.ndarray, weight: np.ndarray, places: tuple, size: tuple[int, int]
) -> Rows:
    """The faces' estimates, linearised at ages [F]; `places` are columns, births, first knots and shares."""
    column, birth, first, share = places
    count, row = len(age), np.arange(len(age))
    slope = errors.slope / (age + errors.knee)  # [F] of h on years
    on_people = np.concatenate([-slope, 1 - share, share])
    at = np.concatenate([birth[album.person], column[album.person, first], column[album.person, first + 1]])  # [3 F]
    people = sparse.csr_array((on_people, (np.tile(row, 3), at)), shape=(count, size[0]))
    on_photos = np.concatenate([slope, np.ones(count)])
    at = np.concatenate([PHOTO * album.photo, PHOTO * album.photo + 1])
    photos = sparse.csr_array((on_photos, (np.tile(row, 2), at)), shape=(count, size[1]))
    y = errors.log_age(album.estimate) - errors.expected(age) + slope * age
    return Rows(people, photos, y, weight / (errors.noise**2 * album.repeats))


def difference_rows(factor: np.ndarray, birth: np.ndarray, photo: np.ndarray, size: tuple[int, int]) -> tuple:
    """Sparse rows [R] of factor · (date - birth), for births at these columns and photos with these numbers."""
    row = np.arange(len(factor))
    people = sparse.csr_array((-factor, (row, birth)), shape=(len(row), size[0]))
    return people, sparse.csr_array((factor, (row, PHOTO * photo)), shape=(len(row), size[1]))


def _age_rows(album: Album, errors: AgeErrors, state: State, birth: np.ndarray, size: tuple[int, int]) -> Rows:
    """What is known of ages beforehand: they are about `prior_age`.

    The photos of a person of unknown birth share one such statement; with a known birth each photo has its own.
    """
    age = np.maximum(state.taken[album.photo] - state.born[album.person], 0.0)  # [F]
    shared = np.where(np.isfinite(album.born.sd), 1, np.bincount(album.person, minlength=len(birth)))[album.person]
    slope = 1 / (age + errors.knee)
    y = np.log(errors.prior_age + errors.knee) - errors.log_age(age) + slope * age
    sides = difference_rows(slope, birth[album.person], album.photo, size)
    return Rows(*sides, y, errors.prior_spread**-2 / shared)


def _stated_rows(album: Album, origin: float, birth: np.ndarray, size: tuple[int, int]) -> list[Rows]:
    """Births and dates as stated."""
    rows = []
    for side, known, columns in _sides(album, birth):
        stated = np.isfinite(known.sd)
        precision = np.maximum(known.sd[stated], SHARPEST) ** -2
        rows.append(single_rows(side, columns[stated], known.mean[stated] - origin, precision, size))
    return rows


def _bound_rows(album: Album, state: State, origin: float, birth: np.ndarray, size: tuple[int, int]) -> list[Rows]:
    """What keeps unknowns within their bounds, where the state is beyond: ages are not negative, nor dates too late."""
    rows = []
    for (side, known, columns), now in zip(_sides(album, birth), (state.born, state.taken), strict=True):
        below, above = now < known.low, now > known.high
        at, y = np.concatenate([columns[below], columns[above]]), np.concatenate([known.low[below], known.high[above]])
        rows.append(single_rows(side, at, y - origin, np.full(len(at), WALL**-2), size))
    early = np.flatnonzero(state.taken[album.photo] < state.born[album.person])
    sides = difference_rows(np.ones(len(early)), birth[album.person[early]], album.photo[early], size)
    return [*rows, Rows(*sides, np.zeros(len(early)), np.full(len(early), WALL**-2))]


def _sides(album: Album, birth: np.ndarray) -> list[tuple[int, Known, np.ndarray]]:
    """Of people (0) and photos (1): what is known, and the places of their dates among the unknowns."""
    return [(0, album.born, birth), (1, album.taken, PHOTO * np.arange(len(album.taken.mean)))]


def single_rows(side: int, at: np.ndarray, y: np.ndarray, precision: np.ndarray, size: tuple[int, int]) -> Rows:
    """Observations y [R] of single unknowns, at these places among those of people (side 0) or photos (1)."""
    one = sparse.csr_array((np.ones(len(at)), (np.arange(len(at)), at)), shape=(len(at), size[side]))
    none = sparse.csr_array((len(at), size[1 - side]))
    return Rows(*((one, none) if side == 0 else (none, one)), y, precision)
