"""The Gaussian part of an album: a sparse linear system in people and photos, solved exactly.

Unknowns: of each person a birth date and, at a few ages (knots), how much older than others the person looks; of each
photo a date and an effect on all of its faces. An observation touches one person and one photo, so the photos' part of
the normal equations is block-diagonal and is eliminated: what remains is a dense system in the people alone (the Schur
complement; Golub & Van Loan, "Matrix Computations", 4.2.4).
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from common.errors import DataError

LARGEST = 6000  # unknowns of people; more would take a minute and a gigabyte
PHOTO = 2  # unknowns of a photo: its date, its effect
CHUNK = 1024  # functionals whose variance is computed at once


class Rows(NamedTuple):
    """R Gaussian observations y = people · x + photos · z + noise of variance 1 / precision.

    people: sparse [R, T]; photos: sparse [R, 2 D], touching one photo each; y, precision: [R].
    """

    people: sparse.csr_array
    photos: sparse.csr_array
    y: np.ndarray
    precision: np.ndarray


class Posterior(NamedTuple):
    """Means and covariances of T unknowns of people and 2 D of photos, given all observations.

    people [T], photos [2 D]: means; factor: Cholesky factor of the people's precision; gain: sparse [2 D, T], how a
    photo's mean follows the people (negative); alone: sparse [2 D, 2 D], covariance of the photos were people known.
    """

    people: np.ndarray
    photos: np.ndarray
    factor: tuple[np.ndarray, bool]
    gain: sparse.csr_array
    alone: sparse.bsr_array

    def people_cov(self) -> np.ndarray:
        """Covariance [T, T] of the people."""
        return cho_solve(self.factor, np.eye(len(self.people)), overwrite_b=True)

    def variance(self, cov: np.ndarray, people: sparse.csr_array, photos: sparse.csr_array) -> np.ndarray:
        """Variances [M] of linear functionals: people sparse [M, T], photos sparse [M, 2 D] of one photo each.

        `cov` is `people_cov()`.
        """
        parts = []
        for start in range(0, people.shape[0], CHUNK):
            of_people, of_photos = people[start : start + CHUNK], photos[start : start + CHUNK]
            through = of_people - of_photos @ self.gain  # [m, T]
            part = through.multiply(through @ cov).sum(axis=1)
            parts.append(np.asarray(part).ravel() + (of_photos @ self.alone).multiply(of_photos).sum(axis=1))
        return np.concatenate(parts) if parts else np.empty(0)


def stack_rows(parts: list[Rows]) -> Rows:
    """All observations of several lists, one below the other."""
    people, photos = (sparse.vstack([part[side] for part in parts], format="csr") for side in (0, 1))
    y, precision = (np.concatenate([part[side] for part in parts]) for side in (2, 3))
    return Rows(people, photos, y, precision)


def solve_gaussian(rows: Rows, people_prior: sparse.csr_array, photo_prior: np.ndarray) -> Posterior:
    """The exact posterior given observations and zero-mean priors: precision sparse [T, T], and [2 D] of the photos.

    Every photo needs a positive prior precision of both unknowns. Raises DataError beyond LARGEST unknowns of people.
    """
    if people_prior.shape[0] > LARGEST:
        raise DataError(f"The album has too many people at once ({people_prior.shape[0]} unknowns); split it.")
    weighted_people, weighted_photos = (side.multiply(rows.precision[:, None]).tocsr() for side in rows[:2])
    photos = (rows.photos.T @ weighted_photos + sparse.diags_array(photo_prior)).tobsr((PHOTO, PHOTO))
    photos.sort_indices()
    count = photos.shape[0] // PHOTO
    places = (np.arange(count), np.arange(count + 1))
    alone = sparse.bsr_array((np.linalg.inv(photos.data), *places), shape=photos.shape)  # [2 D, 2 D]
    cross = rows.photos.T @ weighted_people  # [2 D, T]
    gain = (alone @ cross).tocsr()
    schur = rows.people.T @ weighted_people + people_prior - cross.T @ gain  # [T, T]
    factor = cho_factor(schur.toarray(), lower=True)
    right_people, right_photos = weighted_people.T @ rows.y, weighted_photos.T @ rows.y
    mean = cho_solve(factor, right_people - gain.T @ right_photos)  # [T]
    return Posterior(mean, alone @ right_photos - gain @ mean, factor, gain, alone)
