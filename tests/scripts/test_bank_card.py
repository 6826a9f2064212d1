"""The calibration card says what was planted in a bank: offset, slope, people, wrong dates, wrong faces."""

import re

import numpy as np
import pytest

from common.difference.bank import ReferenceBank
from scripts.references.card import Mean, card_lines, draw_card, make_card


def planted(offset: float = 4.0, identities: bool = True) -> ReferenceBank:
    """100 faces of ten people; read `offset` years too young at 40, 1 year more for 10 years; p3 5 years more so."""
    random = np.random.default_rng(0)
    estimates = random.uniform(15, 65, 100)
    ages = estimates + offset + 0.1 * (estimates - 40) + random.normal(0, 1, 100)
    person = np.repeat([f"p{number}" for number in range(10)], 10)
    ages[person == "p3"] += 5
    identity = np.repeat(np.eye(10, 16), 10, axis=0) + random.normal(0, 0.01, (100, 16))
    ages[25] -= 40  # a wrong date, of p2
    identity[47] = np.eye(10, 16)[8]  # a wrong face: p8 under the name of p4
    shown = identity.astype(np.float16) if identities else None
    ids = np.array([f"{row:08d}" for row in range(100)])
    ages, estimates = ages.astype(np.float32), estimates.astype(np.float32)
    nothing = np.zeros((100, 4), np.float16)
    return ReferenceBank(nothing, ages, estimates, np.zeros(100, bool), person, ids, "abc", shown)


def test_a_mean_has_the_interval_of_its_groups():
    values = np.array([1.0, 2.0, 3.0, 6.0])
    alone = Mean.of(values)
    half = 1.96 * values.std(ddof=1) / 2
    assert (alone.count, alone.value) == (4, 3) and alone.half == pytest.approx(half)
    assert alone.spread == pytest.approx(values.std(ddof=1)) and alone.more == int(np.ceil(4 * (half**2 - 1)))
    assert Mean.of(np.array([1.0, 1.1, 0.9, 1.0])).more == 0
    together = Mean.of(np.repeat(values, 5), np.repeat(range(4), 5))
    assert together.half == pytest.approx(half)  # five photos of a person tell no more of the others than one
    assert Mean.of(np.array([1.0, 2.0])).cells() == ["+1.5", "–", "0.7", "–"]


def test_the_card_says_what_was_planted():
    card = make_card(planted())
    assert card.slope == pytest.approx(1.0, abs=0.15)
    first, wanted = card_lines(card)[:2]
    said = [float(word) for word in re.findall(r"[\d.]+", first)[:3]]
    assert said[0] == pytest.approx(card.residual.mean(), abs=0.05) and "too young" in first and " more with" in first
    assert said[1] == pytest.approx(card.offset.half, abs=0.05) and said[2] == pytest.approx(1.0, abs=0.15)
    assert int(wanted.split()[0]) == card.offset.more > 0
    assert card.people["p3"].value == pytest.approx(5, abs=1.2) and card.people["p5"].value == pytest.approx(0, abs=1.2)
    assert card.wrong_rows.tolist() == [25, 47]
    assert re.match(r"00000025 \(p2, .*: wrong date\? it looks like \d+$", card.wrong[0])
    assert card.wrong[1].endswith("wrong face? it is unlike every other photo of this name, and like p8")


def test_of_one_person_alone_no_people_are_listed():
    bank = planted()
    assert list(make_card(bank.rows(np.flatnonzero(bank.person != "p3"))).people)[0] == "p0"
    alone = make_card(bank.rows(np.flatnonzero(bank.person == "p3")))
    assert alone.people == {} and not any(line.startswith("people") for line in card_lines(alone))


def test_without_identities_a_wrong_face_is_only_possible():
    card = make_card(planted(identities=False))
    assert card.wrong_rows.tolist() == [25] and card.wrong[0].endswith(", or a wrong face")


def test_a_camera_that_is_read_rightly_may_be_chance():
    lines = card_lines(make_card(planted(offset=-0.2)))
    assert "which may be chance" in lines[0]


def test_few_photos_are_not_given_an_interval_and_are_drawn_all_the_same(tmp_path):
    bank = planted().rows(np.array([0, 1]))
    card = make_card(bank)
    assert "too few people or photos" in card_lines(card)[0]
    draw_card(card, lambda estimate: 0 * estimate, tmp_path / "card.png")
    assert (tmp_path / "card.png").stat().st_size > 5000
