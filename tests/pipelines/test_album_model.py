"""The joint model of an album: closed forms, a dense solver, invariances, planted errors, intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from AlbumPipeline.AlbumPipeline__dataset import DatedFaces, dated_album, exact, noise_repeats, undated_photo, unknown
from AlbumPipeline.AlbumPipeline__model import Album, anchored, disagreement, first_guess, solve_album
from AlbumPipeline.AlbumPipeline__rows import linear_step
from AlbumPipeline.AlbumPipeline__simulate import simulate
from AlbumPipeline.AlbumPipeline__system import Rows, solve_gaussian, stack_rows
from AlbumPipeline.AlbumPipeline__weights import AgeErrors

ERRORS = AgeErrors()
PLAIN = AgeErrors(degrees=1e6, person=1e-4, photo=1e-4, prior_spread=1e3)  # independent Gaussian noise alone


def estimates_of(ages: np.ndarray, errors: AgeErrors = ERRORS) -> np.ndarray:
    return np.exp(errors.expected(ages)) - errors.knee


def simulated(seed: int, dated: float = 0.5, photos: int = 60, people: int = 8, errors: AgeErrors = ERRORS):
    random = np.random.default_rng(seed)
    born, taken = random.uniform(1920, 1980, people), np.sort(random.uniform(1950, 2000, photos))
    truth = simulate(born, taken, errors, random)
    known = random.random(photos) < dated
    dates = exact(np.where(known, taken, np.nan))._replace(sd=np.where(known, 0.003, np.inf))
    return truth, Album(truth.person, truth.photo, truth.estimate, np.ones(len(truth.person)), unknown(people), dates)


def test_estimates_as_expected_give_the_birth_exactly():
    ages = np.array([2.0, 5.0, 11.0, 30.0])
    solved = solve_album(dated_album(DatedFaces(np.full(4, "a"), estimates_of(ages, PLAIN), ages)), PLAIN)
    assert solved.born[0] == pytest.approx(2000, abs=0.01)
    assert solved.age == pytest.approx(ages, abs=0.02)


def test_two_photos_are_weighed_by_how_exact_an_age_of_that_size_is():
    ages, said = np.array([5.0, 45.0]), np.array([6.0, 45.0])
    solved = solve_album(dated_album(DatedFaces(np.full(2, "a"), estimates_of(said, PLAIN), ages)), PLAIN)
    years = PLAIN.noise * (solved.age + PLAIN.knee) / PLAIN.slope  # standard deviation of each, in years
    weight = years**-2
    said_born = 2000 + ages - said
    assert solved.born[0] == pytest.approx((said_born * weight).sum() / weight.sum(), abs=0.01)
    assert solved.born_sd[0] == pytest.approx(weight.sum() ** -0.5, rel=0.01)


def test_one_face_of_known_birth_dates_a_photo_as_far_as_its_age_is_known():
    solved = solve_album(
        undated_photo(DatedFaces(np.array(["a"]), estimates_of(np.array([20.0]), PLAIN), np.array([20.0]))), PLAIN
    )
    assert solved.taken[0] == pytest.approx(2000, abs=0.01)
    assert solved.taken_sd[0] == pytest.approx(PLAIN.noise * 25 / PLAIN.slope, rel=0.01)


def test_a_step_agrees_with_a_dense_solver():
    _, album = simulated(3)
    step = linear_step(album, ERRORS, first_guess(album, ERRORS))
    people, photos = step.posterior.people, step.posterior.photos
    random = np.random.default_rng(0)
    at = np.tile([0, 1], 40) + 2 * np.repeat(random.integers(0, 5, 40), 2)
    rows = Rows(
        sparse.random_array((40, 6), density=0.3, rng=random, format="csr"),
        sparse.csr_array((random.normal(size=80), (np.repeat(np.arange(40), 2), at)), shape=(40, 10)),
        random.normal(size=40), random.uniform(0.5, 2, 40),
    )  # fmt: skip
    prior, photo_prior = sparse.eye_array(6, format="csr"), np.full(10, 0.7)
    found = solve_gaussian(rows, prior, photo_prior)
    both = np.hstack([rows.people.toarray(), rows.photos.toarray()])
    precision = both.T @ (both * rows.precision[:, None]) + np.diag(np.r_[np.ones(6), photo_prior])
    cov = np.linalg.inv(precision)
    assert np.r_[found.people, found.photos] == pytest.approx(cov @ both.T @ (rows.precision * rows.y), abs=1e-9)
    assert found.people_cov() == pytest.approx(cov[:6, :6], abs=1e-9)
    variance = found.variance(found.people_cov(), rows.people, rows.photos)
    assert variance == pytest.approx(np.einsum("ri,ij,rj->r", both, cov, both), abs=1e-9)
    assert np.isfinite(people).all() and np.isfinite(photos).all()


def test_the_order_of_faces_and_photos_changes_nothing():
    _, album = simulated(1)
    solved = solve_album(album, ERRORS)
    random = np.random.default_rng(0)
    order, photos = random.permutation(len(album.person)), random.permutation(len(album.taken.mean))
    place = np.argsort(photos)
    mixed = Album(
        album.person[order], place[album.photo[order]], album.estimate[order], album.repeats[order], album.born,
        type(album.taken)(*(column[photos] for column in album.taken)),
    )  # fmt: skip
    again = solve_album(mixed, ERRORS)
    assert again.born == pytest.approx(solved.born, abs=1e-6)
    assert again.taken == pytest.approx(solved.taken[photos], abs=1e-6)
    assert again.age_sd == pytest.approx(solved.age_sd[order], abs=1e-6)


def test_shifting_all_dates_shifts_births_and_nothing_else():
    _, album = simulated(2)
    solved = solve_album(album, ERRORS)
    later = solve_album(album._replace(taken=album.taken._replace(mean=album.taken.mean + 37.5)), ERRORS)
    assert later.born - solved.born == pytest.approx(np.full(8, 37.5), abs=1e-3)
    assert later.age == pytest.approx(solved.age, abs=1e-3)
    assert later.deviation == pytest.approx(solved.deviation, abs=1e-3)


def test_a_planted_wrong_date_is_named_and_moves_the_birth_by_less_than_a_year():
    ages = np.arange(3.0, 60.0, 3.0)
    faces = DatedFaces(np.full(19, "a"), estimates_of(ages), ages.copy())
    faces.age[4] += 25  # a scan's date in the place of the photo's
    album = dated_album(faces)
    solved = solve_album(album, ERRORS)
    alarm = disagreement(album, solved, ERRORS) > ERRORS.alarm
    assert alarm.tolist() == [number == 4 for number in range(19)]
    assert solved.deviation[4] < -3 and solved.weight[4] < 0.3
    assert abs(solved.born[0] - 2000) < 1


def test_small_differences_are_no_contradictions():
    ages = np.arange(20.0, 40.0)
    said = ages.copy()
    said[3] += 8
    album = dated_album(DatedFaces(np.full(20, "a"), estimates_of(said), ages))
    assert (disagreement(album, solve_album(album, ERRORS), ERRORS) == 0).all()


def test_nobody_is_younger_than_nothing_and_no_photo_later_than_its_bound():
    ages = np.array([0.0, 0.5, 30.0])
    said = np.array([0.0, 0.0, 10.0])
    solved = solve_album(dated_album(DatedFaces(np.full(3, "a"), estimates_of(said), ages)), ERRORS)
    assert solved.born[0] < 2000.3 and (solved.age >= 0).all()
    photo = undated_photo(DatedFaces(np.array(["a"]), estimates_of(np.array([40.0])), np.array([20.0])))
    free = solve_album(photo, ERRORS)
    bound = solve_album(photo._replace(taken=photo.taken._replace(high=np.array([2010.0]))), ERRORS)
    assert free.taken[0] > 2015 and bound.taken[0] < 2010.3


def test_what_no_date_reaches_is_unknown_and_its_ages_are_not():
    ages = np.array([10.0, 30.0])
    alone = Album(np.array([0, 0]), np.array([0, 1]), estimates_of(ages), np.ones(2), unknown(2), unknown(3))
    solved = solve_album(alone, ERRORS)
    assert np.isinf(solved.born_sd).all() and np.isinf(solved.taken_sd).all()
    assert solved.age == pytest.approx(ages, abs=3)
    people, photos = anchored(
        alone._replace(taken=exact(np.array([1980.0, 0, 0]))._replace(sd=np.array([0.1, np.inf, np.inf])))
    )
    assert people.tolist() == [True, False] and photos.tolist() == [True, True, False]


def test_copies_of_a_photo_count_once_and_sessions_as_said():
    same = noise_repeats(np.zeros(3, int), np.array(["", "", ""]), np.array(["x", "x", "y"]), ERRORS)
    assert same.tolist() == [2, 2, 1]
    session = noise_repeats(np.zeros(3, int), np.array(["s", "s", ""]), np.array(["x", "y", "z"]), ERRORS)
    assert session.tolist() == [1.5, 1.5, 1]
    apart = noise_repeats(np.array([0, 1]), np.array(["s", "s"]), np.array(["x", "x"]), ERRORS)
    assert apart.tolist() == [1, 1]
    age, said = np.array([10.0, 20.0]), estimates_of(np.array([12.0, 20.0]))
    once = dated_album(DatedFaces(np.full(2, "a"), said, age))
    copied = dated_album(DatedFaces(np.full(3, "a"), said[[0, 0, 1]], age[[0, 0, 1]]))
    twice = solve_album(copied._replace(repeats=np.array([2.0, 2, 1])), PLAIN)
    assert twice.born == pytest.approx(solve_album(once, PLAIN).born, abs=1e-3)
    assert twice.born_sd == pytest.approx(solve_album(once, PLAIN).born_sd, abs=1e-3)


def test_on_albums_as_the_model_says_nine_of_ten_intervals_hold():
    scores, dates = [], []
    for seed in range(12):
        truth, album = simulated(seed)
        solved = solve_album(album, ERRORS)
        seen = np.isin(np.arange(8), truth.person)
        scores.extend(((solved.born - truth.born) / solved.born_sd)[seen])
        hidden = np.isinf(album.taken.sd)
        dates.extend(((solved.taken - truth.taken) / solved.taken_sd)[hidden])
    for values in (scores, dates):
        assert 0.82 < (np.abs(values) < 1.645).mean() < 0.96
        assert abs(np.mean(values)) < 0.4


@settings(max_examples=30, deadline=None)
@given(
    slope=st.floats(0.01, 0.2), precision=st.floats(1, 400), people=st.integers(0, 2), photo=st.integers(0, 3)
)  # fmt: skip
def test_more_photos_never_widen_an_interval_of_the_gaussian_part(slope, precision, people, photo):
    random = np.random.default_rng(5)
    side = sparse.csr_array(random.normal(size=(6, 3)))
    at = random.integers(0, 4, 6)
    photos = sparse.csr_array((np.ones(6), (np.arange(6), 2 * at)), shape=(6, 8))
    rows = Rows(side, photos, np.zeros(6), np.ones(6))
    prior = sparse.eye_array(3, format="csr"), np.ones(8)
    one = Rows(
        sparse.csr_array(([-slope], ([0], [people])), shape=(1, 3)),
        sparse.csr_array(([slope], ([0], [2 * photo])), shape=(1, 8)), np.zeros(1), np.array([precision]),
    )  # fmt: skip
    before, after = solve_gaussian(rows, *prior), solve_gaussian(stack_rows([rows, one]), *prior)
    assert (np.diag(after.people_cov()) <= np.diag(before.people_cov()) + 1e-12).all()


def test_an_empty_side_is_solved_too():
    album = Album(
        np.array([], int), np.array([], int), np.array([]), np.array([]), unknown(1), exact(np.array([1990.0]))
    )
    solved = solve_album(album, ERRORS)
    assert np.isinf(solved.born_sd[0]) and solved.taken[0] == pytest.approx(1990, abs=0.01)
