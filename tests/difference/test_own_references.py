import json
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from common.difference.bank import ReferenceBank, concatenate
from common.difference.corrector import Faces
from common.difference.own_references import UserReferences
from common.difference.own_settings import (
    KNOTS,
    SETTINGS_FILE,
    EffectSettings,
    from_scale,
    knot_weights,
    load_settings,
    save_settings,
    to_scale,
)
from common.errors import DataError, WeightsError
from common.inference.own import correct_by_own, expected_errors, own_votes, recognise, unrecognised, who_is_asked
from scripts.references.ladder import of_numbers, simulated_people

SETTINGS = EffectSettings()


def face(estimate: float, number: str = "new", person: str = "") -> Faces:
    return Faces(np.ones((1, 1), np.float32), np.array([estimate]), np.array([number]), np.array([person]))


def test_the_scale_is_undone_and_grows_as_errors_do():
    ages = np.array([0.0, 1, 12, 34.9, 35, 35.1, 80, 120])
    assert from_scale(to_scale(ages)) == pytest.approx(ages, abs=1e-9)
    steps = to_scale(np.array([11.0, 36, 81])) - to_scale(np.array([10.0, 35, 80]))
    assert steps == pytest.approx([np.log(16 / 15), 1 / 40, 1 / 40])


def gaussian_process(estimates, ages, person, estimate, whose, settings=SETTINGS):
    """Mean and variance of the shift of a face, by the covariance of all references at once."""
    at, scaled, y = to_scale(estimates), to_scale(ages), to_scale(ages) - to_scale(estimates)
    own = knot_weights(scaled)
    same = person[:, None] == person[None]
    means, variances, evidence, mean = [], [], [], 0.0
    for _ in range(2):
        near = knot_weights(np.array([to_scale(estimate) + mean]))
        means, variances, evidence = [], [], []
        for prior in settings.domain_covs():
            use = knot_weights(at)
            query = knot_weights(np.array([to_scale(estimate)]))
            noise = settings.single**2 * np.eye(len(y))
            cov = use @ prior @ use.T + same * (own @ settings.person_cov() @ own.T) + noise
            cross = (query @ prior @ use.T + (person == whose) * (near @ settings.person_cov() @ own.T))[0]
            total = (query @ prior @ query.T + near @ settings.person_cov() @ near.T)[0, 0]
            means.append(cross @ np.linalg.solve(cov, y))
            variances.append(total - cross @ np.linalg.solve(cov, cross))
            evidence.append(multivariate_normal(np.zeros(len(y)), cov).pdf(y))
        share = np.array(evidence) / sum(evidence)
        mean = float(share @ means)
        variance = float(share @ (np.array(variances) + np.array(means) ** 2) - mean**2)
    return mean, variance


def test_ages_are_those_of_the_gaussian_process_written_out():
    ages = from_scale(np.append(KNOTS[2:7], to_scale(np.array([24.0, 26, 31]))))  # strangers at knots
    estimates = from_scale(to_scale(ages) + np.array([0.03, 0.05, -0.02, 0.06, 0.04, 0.09, 0.11, 0.05]))
    person = np.array(["a", "b", "c", "d", "e", "me", "me", "me"])
    settings = replace(SETTINGS, degrees=1e9)  # Gaussian noise
    for whose, rows in (("me", slice(None)), ("me", slice(5, None)), ("", slice(5))):
        part = estimates[rows], ages[rows], person[rows]
        found = UserReferences(of_numbers(*part), settings).correct(face(28.0), np.array([whose]))
        mean, variance = gaussian_process(*part, 28.0, whose or "nobody", settings)
        assert found.age[0] == pytest.approx(float(from_scale(to_scale(28.0) + mean)), abs=1e-4)
        assert found.doubt[0] == pytest.approx(variance, rel=1e-4)
        assert found.size[0] == pytest.approx(np.sqrt(variance + SETTINGS.single**2), rel=1e-4)
        assert (found.references[0], found.own[0]) == (len(part[0]), 3 if whose else 0)


def test_one_own_photo_counts_already_and_more_count_more():
    moved, doubt = [], []
    for count in (1, 2, 5, 10):
        estimates = np.full(count, 40.0)
        user = UserReferences(of_numbers(estimates, estimates - 6, np.full(count, "me")))
        found = user.correct(face(40.0), np.array(["me"]))
        moved.append(40 - found.age[0])
        doubt.append(found.doubt[0])
    assert 2 < moved[0] < moved[1] < moved[2] < moved[3] < 6 and (np.diff(doubt) < 0).all()


def test_without_a_usable_reference_nothing_changes_and_the_doubt_is_the_priors():
    user = UserReferences(of_numbers(np.array([30.0]), np.array([60.0]), np.array(["me"])))
    for faces in (face(30.0, number="0"), face(30.0, person="me")):
        found = user.correct(faces)
        assert found.age[0] == pytest.approx(30) and (found.references[0], found.own[0]) == (0, 0)
    assert user.correct(face(30.0)).references[0] == 1


def test_many_photos_of_one_stranger_say_little_of_others():
    twenty = UserReferences(of_numbers(np.full(20, 40.0), np.full(20, 34.0), np.full(20, "a")))
    people = UserReferences(of_numbers(np.full(20, 40.0), np.full(20, 34.0), np.array([f"p{i}" for i in range(20)])))
    one, many = twenty.correct(face(40.0)).age[0], people.correct(face(40.0)).age[0]
    assert 39 < one < 40 and many < 36.5


def test_a_wrong_age_among_five_moves_the_result_little():
    estimates, ages = np.array([20.0, 28, 35, 42, 50]), np.array([21.0, 27, 35, 43, 49])
    wrong = ages.copy()
    wrong[3] = 99
    for name in ("me", ""):
        found = [
            UserReferences(of_numbers(estimates, said, np.full(5, "me"))).correct(face(38.0), np.array([name])).age[0]
            for said in (ages, wrong)
        ]
        assert abs(found[1] - found[0]) < 3


def test_own_photos_gain_at_every_number_on_simulated_people():
    bank = simulated_people(60, 11, SETTINGS, seed=3)
    queries = np.flatnonzero(np.arange(len(bank)) % 11 == 10)
    before = np.abs(bank.estimates[queries] - bank.ages[queries])
    gains = []
    for count in (1, 2, 3, 5, 10):
        errors = []
        for row in queries:
            user = UserReferences(bank.rows(np.arange(row - 10, row - 10 + count)))
            faces = Faces(*(getattr(bank, name)[[row]] for name in ("embeddings", "estimates", "id")), np.array([""]))
            errors.append(abs(user.correct(faces, bank.person[[row]]).age[0] - bank.ages[row]))
        gains.append(float(before.mean() - np.mean(errors)))
    assert min(gains) > -0.05 and gains[-1] > 0.5 and gains[-1] > gains[0]


def test_leaving_one_out_is_asking_without_it():
    random = np.random.default_rng(0)
    ages = random.uniform(5, 70, 12)
    person = np.array(["a", "a", "a", "b", "b", "", "", "c", "c", "c", "c", "d"])
    bank = of_numbers(from_scale(to_scale(ages) + random.normal(0.05, 0.03, 12)), ages, person)
    user = UserReferences(bank)
    domain, both = user.leave_one_out()
    for row in range(12):
        rest = UserReferences(bank.rows(np.arange(12) != row))
        found = rest.correct(face(float(bank.estimates[row]), person=person[row]))
        assert domain.age[row] == pytest.approx(found.age[0], abs=0.1)  # re-weighted without it
        found = rest.correct(face(float(bank.estimates[row])), person[[row]])
        assert both.age[row] == pytest.approx(found.age[0], abs=0.1)
        assert (both.references[row], both.own[row]) == (11, found.own[0])


def test_intervals_follow_the_size_of_the_error_and_the_errors_of_the_bank():
    random = np.random.default_rng(0)
    ages = random.uniform(10, 60, 300)
    noise = SETTINGS.usual * random.standard_t(5, 300)
    wide = {}
    for times in (1.0, 2.0):
        bank = of_numbers(from_scale(to_scale(ages) + times * noise), ages, np.full(300, ""))
        wide[times] = UserReferences(bank).widening(0.9, own=False)
    assert wide[1.0] == pytest.approx(1, abs=0.25) and wide[2.0] > 1.4
    user = UserReferences(of_numbers(np.full(5, 30.0), np.full(5, 30.0), np.full(5, "me")))
    found = user.correct(face(30.0), np.array(["me"]))
    expected = (
        found.size[0] / np.sqrt(SETTINGS.noise**2 + SETTINGS.session**2 + SETTINGS.person**2) * user.widening(0.9, True)
    )
    factor = user.width_factor(np.array([30.0]), found, 0.9)[0]
    assert factor == pytest.approx(expected * (found.age[0] + 5) / 35) and factor < 1


def test_constants_are_written_and_refused_if_they_cannot_be(tmp_path):
    assert load_settings(tmp_path) == SETTINGS
    fitted = replace(SETTINGS, noise=0.07, scores=(0.0, 1.0, 2.0))
    for folder in (tmp_path, tmp_path / "broken"):
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"a base")
    save_settings(tmp_path, fitted, {"people": 3})
    assert load_settings(tmp_path) == fitted
    (tmp_path / "model.safetensors").write_bytes(b"another base")
    with pytest.raises(WeightsError, match="fitted to another base"):
        load_settings(tmp_path)
    for key, value in (("noise", -1), ("noise", "x"), ("scores", [2, 1]), ("unknown", 1)):
        stated = json.loads((tmp_path / SETTINGS_FILE).read_text())
        stated["settings"][key] = value
        (tmp_path / "broken" / SETTINGS_FILE).write_text(json.dumps(stated))
        with pytest.raises(WeightsError, match="constants of own references"):
            load_settings(tmp_path / "broken")


def own_bank(count: int = 2) -> UserReferences:
    return UserReferences(of_numbers(np.full(count, 40.0), np.full(count, 34.0), np.full(count, "Anna")))


def test_what_references_did_is_one_true_sentence():
    user, faces = own_bank(), face(40.0)
    (note,) = correct_by_own(faces, np.array([41.0]), user, np.array(["Anna"]), "Anna", None).notes
    found = user.correct(faces, np.array(["Anna"]))
    error, best, more = expected_errors(user, found, True)
    years = 0.8 * user.widening(0.5, True) * (min(found.age[0], 35) + 5)
    assert error == pytest.approx(years * found.size[0]) and best == pytest.approx(years * 1.1 * SETTINGS.single)
    assert more == int(np.ceil(1 / 0.21 - SETTINGS.single**2 / found.doubt[0])) > 0
    said = (
        f"2 references of yours (2 of Anna) changed 1 face by {found.age[0] - 40:+.1f} years from the base's estimate; "
    )
    said += "expected error now "
    assert (
        note
        == said
        + f"{error:.1f} years, about {more} more of Anna, from other days near that age, would bring that to {best:.1f}"
    )
    years = np.linspace(30, 50, 40)  # forty sessions
    album = UserReferences(of_numbers(years + 6, years, np.full(40, "Anna")))
    many = correct_by_own(faces, np.array([41.0]), album, np.array(["Anna"]), "Anna", None)
    assert many.notes[0].endswith("years, more would change little")
    same = correct_by_own(face(40.0, "0"), np.array([41.0]), own_bank(1), np.array(["Anna"]), "Anna", None)
    assert same.notes == ["1 reference of yours: none of them could be used, nothing changed"]


def test_a_bank_and_a_face_unlike_the_calibration_are_said():
    random = np.random.default_rng(0)
    ages = random.uniform(10, 60, 300)
    estimates = from_scale(to_scale(ages) + 3 * SETTINGS.usual * random.normal(size=300))
    user = UserReferences(of_numbers(np.minimum(estimates, 70), ages, np.full(300, "")))
    notes = correct_by_own(face(85.0), np.array([85.0]), user, np.array([""]), None, 0.9).notes
    assert any("times the usual ones" in note for note in notes)
    assert any(note.startswith("1 face looks more than 10 years younger or older") for note in notes)


def test_other_faces_than_the_named_persons_stay_as_they_are():
    user = own_bank()
    faces = Faces(np.ones((2, 1)), np.array([40.0, 40.0]), np.array(["x", "y"]), np.array(["", ""]))
    own = correct_by_own(faces, np.array([41.0, 42.0]), user, np.array(["Anna", ""]), "Anna", 0.9)
    assert own.age[1] == 42 and own.references.tolist() == [2, 0] and own.factor[1] == 1 and own.age[0] < 39


def test_several_faces_that_cannot_be_told_apart_are_warned_of():
    bank = own_bank().bank
    assert unrecognised(np.array([0, 0, 1]), bank, "Anna")[0].startswith(
        "warning: 1 photo shows several faces, and all"
    )
    known = replace(bank, identity=np.zeros((len(bank), 4), np.float16))
    assert "--person auto corrects" in unrecognised(np.array([0]), known, None)[0]
    assert unrecognised(np.array([0]), bank, None) == unrecognised(np.array([0]), known, "auto") == []
    assert "nobody is recognised by this bank, and all faces were" in unrecognised(np.array([0, 1]), bank, "Anna")[0]
    assert unrecognised(np.array([0]), bank, "Anna") == unrecognised(np.array([0, 0]), bank, None) == []
    known = replace(bank, identity=np.ones((2, 2), np.float16))
    assert unrecognised(np.array([0, 0]), known, "Anna") == []


def test_only_the_named_person_is_recognised(monkeypatch):
    own = named("Anna", "Ben", identity=np.array([[0.0, 0], [1, 0]], np.float16))
    monkeypatch.setattr("common.inference.own.threshold", lambda rate, count: 0.5)
    monkeypatch.setattr(
        "common.inference.own.IdentityEncoder", lambda: lambda crops: np.array([[0, 0], [1, 0], [9, 9]], np.float32)
    )
    found = who_is_asked([np.zeros((8, 8, 3), np.uint8)] * 3, np.array(["x", "y", "z"]), own, "anna")
    assert found.tolist() == ["Anna", "", ""]


def test_votes_shown_are_the_persons_first_and_the_most_similar_first():
    bank = ReferenceBank(
        np.array([[1, 0], [0.9, 0.1], [0, 1], [1, 0]], np.float16), np.array([30, 31, 32, 33], np.float32),
        np.array([36, 36, 36, 36], np.float32), np.zeros(4, bool), np.array(["Ben", "Anna", "Anna", "Anna"]),
        np.array(["0", "1", "2", "new"]), "",
    )  # fmt: skip
    faces = Faces(np.array([[1.0, 0]], np.float32), np.array([36.0]), np.array(["new"]), np.array([""]))
    user = UserReferences(bank)
    votes = own_votes(faces, 0, user, "Anna")
    assert [vote.age for vote in votes] == [31, 32, 30] and all(vote.face is None for vote in votes)
    alone = UserReferences(bank.rows(np.array([1]))).correct(faces, np.array(["Anna"])).age[0]
    assert votes[0].vote == pytest.approx(alone) and alone < votes[2].vote < 36


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
    user = UserReferences(named("Anna", "Zoë", "Zoë"))
    start, decomposed = np.array([30.0]), unicodedata.normalize("NFD", "zoë")
    faces = Faces(np.ones((1, 4), np.float32), start, np.array(["x"]), np.array([decomposed]))
    assert user.correct(faces).references.tolist() == [1]
    ages = user.correct(faces, np.array([decomposed]))
    assert (ages.references.tolist(), ages.own.tolist()) == ([3], [2])


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
    user = UserReferences(named("Anna", GROUP, GROUP))
    faces = Faces(np.ones((1, 4), np.float32), np.array([30.0]), np.array(["x"]), np.array([GROUP]))
    assert user.correct(faces).references.tolist() == [1]
