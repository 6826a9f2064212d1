import numpy as np
import pandas as pd
import pytest

from common.data.manifest import SPLITS
from common.data.splits import SHARES, assign_splits, components, conflicting, duplicate_pairs, equal_pairs, split_of
from common.errors import DataError


def manifest(count: int, **columns) -> pd.DataFrame:
    table = pd.DataFrame({"path": [f"{i}.jpg" for i in range(count)], "id": [f"id{i}" for i in range(count)]})
    table["person"], table["age"], table["age_min"], table["age_max"] = "", 30.0, np.nan, np.nan
    return table.assign(**columns)


def noise(count: int, size: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, size // 8, size // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def test_shares_sum_to_one_and_are_met():
    assert sum(SHARES.values()) == pytest.approx(1.0)
    counts = pd.Series([split_of(f"key{i}") for i in range(20_000)]).value_counts(normalize=True)
    for name, share in SHARES.items():
        assert counts[name] == pytest.approx(share, abs=0.01)


def test_split_is_deterministic():
    assert [split_of(key) for key in ("a", "b", "001", "p00007")] == ["base", "calib", "calib", "base"]


def test_planted_near_duplicate_is_found_and_shares_its_split():
    crops = noise(300)
    crops[250] = np.clip(crops[3].astype(int) * 0.9 + 9, 0, 255).astype(np.uint8)  # re-exposed copy
    pairs = duplicate_pairs(crops, block=64)
    assert pairs.tolist() == [[3, 250]]
    split = assign_splits(manifest(300), pairs, {})
    assert split[3] == split[250]
    alone = assign_splits(manifest(300), np.empty((0, 2), np.int64), {})
    different = [key for key in range(300) if alone[key] != alone[3]]
    planted = assign_splits(manifest(300), np.array([[3, different[0]]]), {})
    assert planted[3] == planted[different[0]]


def test_planted_person_shares_one_split():
    person = ["" if i % 3 else "p1" for i in range(60)]
    split = assign_splits(manifest(60, person=person), np.empty((0, 2), np.int64), {})
    assert split[::3].nunique() == 1
    assert split.nunique() > 2


def test_person_and_duplicate_join_transitively():
    table = manifest(100, person=["p1", "p1"] + [""] * 98)
    split = assign_splits(table, np.array([[1, 50], [50, 99]]), {})
    assert split[[0, 1, 50, 99]].nunique() == 1


def test_split_does_not_depend_on_the_order_of_rows():
    table = manifest(200)
    first = assign_splits(table, np.array([[5, 9]]), {})
    shuffled = table.iloc[::-1].reset_index(drop=True)
    again = assign_splits(shuffled, np.array([[190, 194]]), {})
    assert first.tolist() == again.tolist()[::-1]


def test_published_split_rules_its_group_and_the_most_held_out_wins():
    pairs = np.array([[0, 1], [1, 2]])
    split = assign_splits(manifest(10), pairs, {"0.jpg": "base", "2.jpg": "test"})
    assert split[:3].tolist() == ["test"] * 3
    assert assign_splits(manifest(10), pairs, {"4.jpg": "calib"})[4] == "calib"


def test_unknown_published_split_is_refused():
    with pytest.raises(DataError, match="'train' is not a split"):
        assign_splits(manifest(3), np.empty((0, 2), np.int64), {"0.jpg": "train"})
    assert "train" not in SPLITS


def test_conflicting_ages():
    table = manifest(6, age=[30, 32, 40, 43, 10, np.nan])
    table.loc[5, ["age_min", "age_max"]] = [20, 29]
    assert conflicting(table, np.array([0, 0, 1, 1, 2, 2])).tolist() == [False, False, True, True, True, True]
    assert conflicting(table, np.arange(6)).any() == np.False_


def test_components_and_equal_pairs():
    assert components(4, np.array([[0, 2]])).tolist() == [0, 1, 0, 2]
    assert equal_pairs(pd.Series(["x", "", "y", "x", "", "x"])).tolist() == [[0, 3], [3, 5]]


def test_uniform_pictures_are_no_duplicates():
    assert len(duplicate_pairs(np.full((5, 32, 32, 3), 7, np.uint8))) == 0
