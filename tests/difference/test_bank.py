import numpy as np
import pytest

from common.difference.bank import EMPTY, ReferenceBank, load_bank
from common.errors import DataError, WeightsError


def bank(count: int = 40) -> ReferenceBank:
    random = np.random.default_rng(0)
    ages = random.uniform(20, 40, count).astype(np.float32)
    return ReferenceBank(
        embeddings=random.normal(size=(count, 8)).astype(np.float16),
        ages=ages,
        estimates=(ages + random.normal(size=count)).astype(np.float32),
        seen=random.random(count) < 0.5,
        person=np.array([f"p{number // 4}" if number < 20 else "" for number in range(count)]),
        id=np.array([f"id{number}" for number in range(count)]),
        fingerprint="abc",
    )


def ask(own: ReferenceBank, rows: list[int], k: int = 5, window: float = 100, ids=None, persons=None):
    nobody = np.array([""] * len(rows))
    return own.query(
        own.embeddings[rows].astype(np.float32), own.ages[rows], k, window,
        nobody if ids is None else ids, nobody if persons is None else persons,
    )  # fmt: skip


def test_the_nearest_come_first_as_counted_by_hand():
    own, rows = bank(), [3, 21]
    found = ask(own, rows, k=6, window=4)
    unit = own.embeddings.astype(float) / np.linalg.norm(own.embeddings.astype(float), axis=1, keepdims=True)
    for place, row in enumerate(rows):
        near = [n for n in range(len(own)) if abs(own.ages[n] - own.ages[row]) <= 4]
        expected = sorted(near, key=lambda n: -unit[n] @ unit[row])[:6]
        assert found.index[place][found.mask[place]].tolist() == expected


def test_a_planted_copy_of_the_query_and_its_person_are_never_returned():
    own = bank()
    unguarded = ask(own, [0, 30], k=40)
    assert unguarded.index[0, 0] == 0 and unguarded.index[1, 0] == 30  # the leak is there to be caught
    found = ask(own, [0, 30], k=40, ids=own.id[[0, 30]], persons=own.person[[0, 30]])
    assert not {0, 1, 2, 3} & set(found.index[0]) and 30 not in found.index[1]
    assert found.mask.sum(axis=1).tolist() == [36, 39]


def test_an_empty_name_excludes_nobody_and_rows_never_repeat():
    found = ask(bank(), [25], k=40, ids=np.array(["unknown"]))
    assert found.mask.sum() == 40 and len(set(found.index[0])) == 40


def test_too_few_references_come_with_a_mask():
    found = ask(bank(), [5], k=60, window=0.5)
    count = int(found.mask.sum())
    assert 0 < count < 10 and found.index.shape == (1, 60)
    assert (found.index[0, count:] == EMPTY).all() and found.mask[0, :count].all()
    taken = bank().take(found)
    assert taken.embedding.shape == (1, 60, 8) and taken.mask.sum() == count


def test_same_answer_twice_and_after_saving(tmp_path):
    own = bank()
    own.save(tmp_path / "bank.npz")
    again = load_bank(tmp_path / "bank.npz", "abc")
    assert np.array_equal(ask(own, [1, 2, 3]).index, ask(again, [1, 2, 3]).index)
    assert np.array_equal(again.ages, own.ages) and again.id.tolist() == own.id.tolist()


def test_a_bank_of_other_weights_and_a_broken_file_are_refused(tmp_path):
    bank().save(tmp_path / "bank.npz")
    with pytest.raises(WeightsError, match="other base weights"):
        load_bank(tmp_path / "bank.npz", "def")
    (tmp_path / "broken.npz").write_bytes(b"no bank")
    for name, said in (("broken.npz", "cannot be read as a reference bank"), ("missing.npz", "no reference bank at")):
        with pytest.raises(WeightsError, match=said):
            load_bank(tmp_path / name, "abc")


def test_a_bank_of_any_name_is_written_and_nothing_else(tmp_path):
    bank().save(tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"] and len(load_bank(tmp_path / "mine", "abc")) == 40


def test_a_bank_needs_equal_lengths_and_known_ages():
    own = bank()
    parts = {name: getattr(own, name) for name in ("embeddings", "ages", "estimates", "seen", "person", "id")}
    with pytest.raises(DataError, match="39 ages"):
        ReferenceBank(**{**parts, "ages": own.ages[1:]}, fingerprint="abc")
    with pytest.raises(DataError, match="needs an age"):
        ReferenceBank(**{**parts, "ages": np.where(own.ages > 30, np.nan, own.ages)}, fingerprint="abc")
    with pytest.raises(DataError, match="at least one"):
        ReferenceBank(**{name: value[:0] for name, value in parts.items()}, fingerprint="abc")
