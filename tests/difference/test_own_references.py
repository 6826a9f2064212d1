import unicodedata
from dataclasses import replace

import numpy as np
import pytest

from common.difference.bank import ReferenceBank, concatenate
from common.difference.corrector import Faces
from common.difference.own_references import (
    Shifts,
    UserReferences,
    VoteSettings,
    domain_shift,
    fit_domain,
    personal_shift,
)
from common.errors import DataError
from common.inference.own import influence, recognise, who_is_asked

SETTINGS = VoteSettings()
COUNTS = (0, 1, 2, 5, 20, 200)


def domain(count: int, offset: float, seed: int = 0, noise: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """Starting ages and residuals of `count` references of a domain whose faces are `offset` years older."""
    random = np.random.default_rng(seed)
    return random.uniform(10, 60, count), offset + random.normal(0, noise, count)


def test_without_references_nothing_changes():
    start, nothing = np.array([5.0, 40, 90]), np.array([])
    assert (domain_shift(start, nothing, nothing, SETTINGS) == 0).all()
    assert (personal_shift(start, nothing, nothing, SETTINGS) == 0).all()


def test_one_reference_counts_as_the_closed_form_says():
    known, residual = np.array([40.0]), np.array([25.0])
    settings = VoteSettings(limit=100)
    noise = settings.noise * (0.4 + 40 / 50)
    part = (settings.offset**2 + settings.bend**2) / (settings.offset**2 + settings.bend**2 + noise**2)
    trust = 1 - 3 * settings.shrinkage * noise**2 / 25**2  # with one reference three times the doubt
    assert trust > 0
    assert domain_shift(known, known, residual, settings)[0] == pytest.approx(trust * part * 25)
    trust = 1 - 3 * settings.shrinkage * settings.personal_noise**2 / 25**2
    expected = trust * 25 / (1 + settings.personal_weight)
    assert personal_shift(known, known, residual, settings)[0] == pytest.approx(expected)


def test_a_single_small_residual_is_not_believed_at_all():
    known, residual = np.array([40.0]), np.array([5.0])
    assert domain_shift(known, known, residual, SETTINGS)[0] == personal_shift(known, known, residual, SETTINGS)[0] == 0


def test_more_references_are_believed_more_and_many_fully():
    start = np.linspace(15, 55, 9)
    gains = []
    for count in COUNTS:
        shifts = [domain_shift(start, *domain(count, 6.0, seed), SETTINGS).mean() for seed in range(40)]
        gains.append(np.mean(shifts))
    assert gains[0] == 0 and all(np.diff(gains) >= 0) and gains[3] > 0.1
    assert gains[1] < 0.5 and gains[-1] == pytest.approx(6.0, abs=0.4)


@pytest.mark.parametrize("offset", [0.0, 3.0, -6.0])
def test_no_number_of_references_hurts_by_more_than_a_twentieth_of_a_year_on_average(offset):
    start = np.linspace(15, 55, 9)
    for count in COUNTS:
        errors = []
        for seed in range(200):
            random = np.random.default_rng(1000 + seed)
            truth = offset + random.normal(0, 5, 9)
            shift = domain_shift(start, *domain(count, offset, seed), SETTINGS)
            errors.append(np.abs(truth - shift).mean() - np.abs(truth).mean())
        assert np.mean(errors) < 0.05, (offset, count)


def test_one_grossly_wrong_age_among_five_moves_the_result_little():
    known = np.array([20.0, 28, 35, 42, 50])
    start = np.array([25.0, 40.0])
    for function in (domain_shift, personal_shift):
        right = function(start, known, np.array([1.0, -1, 0, 1, -1]), SETTINGS)
        wrong = function(start, known, np.array([1.0, -1, 0, 60, -1]), SETTINGS)
        assert np.abs(wrong - right).max() < 2, function.__name__


def test_a_shift_that_grows_with_age_is_followed():
    random = np.random.default_rng(0)
    known = random.uniform(5, 75, 400)
    residual = (known - 40) / 5 + random.normal(0, 3, 400)
    start = np.array([10.0, 40, 70])
    assert domain_shift(start, known, residual, SETTINGS) == pytest.approx([-6, 0, 6], abs=0.8)


def bank() -> UserReferences:
    ages, estimates = (np.array(years, np.float32) for years in ([30, 32, 34, 50, 52], [20, 22, 24, 46, 48]))
    own = ReferenceBank(
        np.ones((5, 4), np.float16), ages, estimates, np.zeros(5, bool),
        np.array(["anna", "anna", "anna", "", "ben"]), np.array(["a", "b", "c", "d", "e"]), "abc",
    )  # fmt: skip
    return UserReferences(own, estimates.astype(float))


def ask(ids: list[str], persons: list[str], person: str = ""):
    start = np.full(len(ids), 25.0)
    faces = Faces(np.ones((len(ids), 4), np.float32), start, np.array(ids), np.array(persons))
    return bank().shifts(faces, start, np.full(len(ids), person))


def test_who_votes():
    new, known_person, own_picture = ask(["x", "x", "a"], ["", "anna", ""]).references
    assert (new, known_person, own_picture) == (5, 2, 4)
    personal = ask(["x", "a"], ["", ""], person="anna")
    assert personal.references.tolist() == [5, 4]
    assert (personal.personal > 2).all() and (ask(["x"], [""]).personal == 0).all()
    assert (ask(["x"], [""], person="nobody known").personal == 0).all()


def test_a_persons_own_references_do_not_enter_the_domain_part():
    alone = ask(["x"], ["anna"])
    assert alone.domain[0] == pytest.approx(ask(["x"], [""], person="anna").domain[0])
    assert alone.domain[0] < ask(["x"], [""]).domain[0]


def votes_of_a_domain(offset: float, head: float) -> tuple[np.ndarray, float]:
    """Shifts of three faces that the training bank moves by `head`, from 200 references `offset` years older; trust."""
    estimates, residual = domain(200, offset)
    ages = (estimates + residual).astype(np.float32)
    own = ReferenceBank(
        np.ones((200, 4), np.float16), ages, estimates.astype(np.float32), np.zeros(200, bool),
        np.full(200, ""), np.arange(200).astype(str), "abc",
    )  # fmt: skip
    base = np.array([20.0, 40, 55])
    user, nobody = UserReferences(own, estimates + head), np.array([], int)
    known = own.estimates.astype(float)
    fit = fit_domain(base, known, ages - known, SETTINGS)
    return user.votes(base, base + head, np.arange(200), nobody)[0], fit.shrinkage


def test_trusted_votes_replace_the_answer_of_the_training_bank():
    plain, trust = votes_of_a_domain(10.0, head=0.0)
    moved, same = votes_of_a_domain(10.0, head=3.0)
    assert 0.9 < trust == same and plain == pytest.approx([10, 10, 10], abs=1.5)
    assert moved == pytest.approx(plain - trust * 3, abs=1e-9)


def test_votes_that_are_not_trusted_leave_the_answer_of_the_training_bank():
    shift, trust = votes_of_a_domain(0.0, head=3.0)
    assert trust == 0 and (shift == 0).all()


def test_what_references_did_is_said():
    nobody, anna, none, some = np.array([""]), np.array(["anna"]), np.zeros(1), np.array([1.5])
    assert influence(Shifts(none, none, none), anna).endswith("they change nothing")
    assert influence(Shifts(some, none, none), nobody) == "on average those of others move an age by +1.5 years"
    assert influence(Shifts(none, -some, none), anna).endswith("by +0.0 years, a person's own by -1.5")


GROUP = "copy of 0123456789"


def named(*names: str, identity: np.ndarray | None = None) -> ReferenceBank:
    """A bank with one photo of each of these names."""
    count = len(names)
    ages = np.linspace(20, 60, count).astype(np.float32)
    return ReferenceBank(
        np.ones((count, 4), np.float16), ages, ages - 10, np.zeros(count, bool), np.array(names),
        np.arange(count).astype(str), "abc", identity,
    )  # fmt: skip


def asked(person: str, own: ReferenceBank) -> list[str]:
    return who_is_asked([np.zeros((8, 8, 3), np.uint8)], np.array(["x"]), own, person).tolist()


def test_a_person_is_found_however_the_name_is_written():
    decomposed = unicodedata.normalize("NFD", "Zoë")
    own = concatenate([named("Anna", decomposed, "ZOË", "")])
    assert own.person.tolist() == ["Anna", "Zoë", "Zoë", ""] and own.people == ["Anna", "Zoë"]
    for name in ("Zoë", decomposed, "zoë", "ZOË "):
        assert asked(name, own) == ["Zoë"]
    with pytest.raises(DataError, match="shows 'Zoe'; they name Anna, Zoë."):
        asked("Zoe", own)


def test_the_persons_references_vote_however_the_manifest_writes_the_name():
    user = UserReferences(named("Anna", "Zoë", "Zoë"), np.array([10.0, 30, 50]))
    start, decomposed = np.array([30.0]), unicodedata.normalize("NFD", "zoë")
    faces = Faces(np.ones((1, 4), np.float32), start, np.array(["x"]), np.array([decomposed]))
    assert user.shifts(faces, start).references.tolist() == [1]
    assert user.shifts(faces, start, np.array([decomposed])).references.tolist() == [3]


def test_a_group_of_copies_is_no_person(monkeypatch):
    own = named("Anna", GROUP, GROUP, "", identity=np.array([[9.0, 0], [0, 0], [0, 0], [0, 1]], np.float16))
    assert own.people == ["Anna"] and own.named.tolist() == [True, False, False, False]
    with pytest.raises(DataError, match=f"shows '{GROUP}'; they name Anna."):
        asked(GROUP, own)
    limits = []
    monkeypatch.setattr("common.inference.own.threshold", lambda rate, count: limits.append(count) or 5.0)
    monkeypatch.setattr("common.inference.own.IdentityEncoder", lambda: lambda crops: np.zeros((1, 2), np.float32))
    crops = [np.zeros((8, 8, 3), np.uint8)]
    assert recognise(crops, np.array(["x"]), own, 0.01).tolist() == [""] and limits == [1]
    assert recognise(crops, np.array(["x"]), replace(own, person=np.array(["Anna", "Ben", GROUP, ""])), 0.01) == ["Ben"]


def test_copies_still_exclude_each_other():
    user = UserReferences(named("Anna", GROUP, GROUP), np.array([10.0, 30, 50]))
    faces = Faces(np.ones((1, 4), np.float32), np.array([30.0]), np.array(["x"]), np.array([GROUP]))
    assert user.shifts(faces, np.array([30.0])).references.tolist() == [1]
