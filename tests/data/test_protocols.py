"""Protocols on random manifests: no person on two sides, sizes, hashes that do not depend on the machine."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from common.data.manifest import COLUMNS, SPLITS
from common.data.protocols import (
    PROTOCOLS,
    Faces,
    Request,
    dealt,
    drawn,
    make_folds,
    people_on_both_sides,
    read_published,
    read_split_file,
    split_hash,
    split_table,
    training_split,
)
from common.data.splits import assign_splits
from common.errors import DataError

NO_PAIRS = np.empty((0, 2), np.int64)
SUBJECT_EXCLUSIVE = ("subject-kfold", "subject-80-20", "leave-one-person-out")


def manifest_of(person: list[str], ages: list[float] | None = None, **columns) -> pd.DataFrame:
    count = len(person)
    table = pd.DataFrame("", index=range(count), columns=COLUMNS).assign(age_min=np.nan, age_max=np.nan)
    table["path"], table["id"] = [f"set/{row}.jpg" for row in range(count)], [f"id{row:04d}" for row in range(count)]
    return table.assign(person=person, age=[30.0] * count if ages is None else ages, **columns)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)  # [N, 32, 32, 3]


def random_set(seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Persons of 1 to 12 images, some images of nobody known, and near-copies of images under another name."""
    random = np.random.default_rng(seed)
    person = [f"p{number}" for number in range(random.integers(6, 20)) for _ in range(random.integers(1, 13))]
    person += [""] * int(random.integers(0, 10))
    random.shuffle(person)
    crops = pictures(len(person), seed)
    for source, copy in random.integers(0, len(person), (3, 2)):
        crops[copy] = np.clip(crops[source].astype(int) * 0.9 + 9, 0, 255)
    return manifest_of(person), crops


def folds_of(manifest: pd.DataFrame, crops: np.ndarray, protocol: str, **wishes):
    return make_folds(Faces.of(manifest, crops), Request(protocol, **wishes))


@pytest.mark.parametrize("protocol", SUBJECT_EXCLUSIVE)
def test_no_person_and_no_picture_is_on_both_sides(protocol):
    for seed in range(40):
        manifest, crops = random_set(seed)
        faces = Faces.of(manifest, crops)
        folds = make_folds(faces, Request(protocol, folds=3, seed=seed))
        for fold in folds:
            test, training = fold.split == "test", ~np.isin(fold.split, ("test", ""))
            assert not set(faces.key[test]) & set(faces.key[training])
            assert people_on_both_sides(manifest, fold.split) == 0
            sides = manifest[manifest["person"] != ""].assign(split=fold.split[manifest["person"] != ""])
            assert sides.groupby("person")["split"].nunique().max() == 1  # nor do base, dar, val, calib share one
        tested = np.sum([fold.split == "test" for fold in folds], axis=0)
        if protocol == "subject-kfold":
            assert (tested == 1).all()
        if protocol == "leave-one-person-out":
            assert (tested == (manifest["person"] != "")).all()
            assert len(folds) == manifest["person"].replace("", np.nan).nunique()


def test_fold_sizes():
    for seed in range(40):
        random = np.random.default_rng(seed)
        sizes = random.integers(1, 30, random.integers(5, 40))
        key = np.repeat([f"p{number}" for number in range(len(sizes))], sizes)
        counts = np.bincount(dealt(key, 4, seed), minlength=4)
        assert counts.sum() == sizes.sum() and np.ptp(counts) <= sizes.max()
        share = drawn(key, 0.2, seed).mean()
        assert share > 0 and (share <= 0.2 or sizes.max() > 0.2 * sizes.sum())
        assert share > 0.2 - sizes.max() / sizes.sum() or share == 0.2
    singles = np.array([f"id{row}" for row in range(1000)])
    assert np.bincount(dealt(singles, 5, 0)).tolist() == [200] * 5
    assert drawn(singles, 0.2, 0).sum() == 200


@pytest.mark.parametrize("protocol", [*SUBJECT_EXCLUSIVE, "random-80-20"])
def test_the_same_pictures_give_the_same_hash_in_any_order_and_folder(protocol):
    manifest, crops = random_set(5)
    moved = np.random.default_rng(9).permutation(len(manifest))
    elsewhere = manifest.iloc[moved].reset_index(drop=True)
    elsewhere["path"] = "other/place/" + elsewhere["path"]
    here, there = (folds_of(*pair, protocol) for pair in ((manifest, crops), (elsewhere, crops[moved])))
    assert [fold.name for fold in here] == [fold.name for fold in there]
    for first, second in zip(here, there, strict=True):
        tables = split_table(manifest, first.split), split_table(elsewhere, second.split)
        assert tables[0][["id", "split"]].equals(tables[1][["id", "split"]])
        assert split_hash(tables[0]) == split_hash(tables[1])


def test_another_seed_is_another_draw():
    manifest, crops = random_set(5)
    for protocol in ("subject-kfold", "subject-80-20", "random-80-20"):
        first, second = (folds_of(manifest, crops, protocol, seed=seed)[0].split for seed in (0, 1))
        assert ((first == "test") != (second == "test")).any()


def test_splits_and_hash_are_those_of_every_machine():
    manifest = manifest_of(["a", "a", "b", "c", "c", "d"])
    order = [hashlib.sha1(f"0:{name}".encode()).hexdigest()[:2] for name in "abcd"]
    assert order == ["46", "90", "9c", "e3"]  # so a goes to fold 0, b and c to fold 1, d to fold 0
    fold = folds_of(manifest, pictures(6), "subject-kfold", folds=2)[0]
    assert fold.split.tolist() == ["test", "test", "calib", "base", "base", "test"]
    lines = "\n".join(f"id{row:04d},{split}" for row, split in enumerate(fold.split))
    table = split_table(manifest, fold.split)
    assert split_hash(table) == hashlib.sha1(lines.encode()).hexdigest()
    assert split_hash(table.iloc[::-1]) == split_hash(table)
    changed = table.assign(split=["test", "test", "calib", "base", "dar", "test"])
    assert split_hash(changed) != split_hash(table)


def test_training_parts_are_those_of_the_common_splits():
    person = [f"p{number}" for number in range(400)]
    manifest = manifest_of(person)
    common = assign_splits(manifest, NO_PAIRS, {})
    fold = folds_of(manifest, pictures(400), "subject-80-20")[0].split
    same = (fold != "test") & (common != "test")
    assert (fold[same] == common[same]).all()
    assert set(fold) == set(SPLITS)
    assert {training_split(name) for name in person} == {"base", "dar", "val", "calib"}


def test_a_random_split_is_found_to_leak_identities():
    manifest = manifest_of([f"p{row // 4}" for row in range(80)])
    fold = folds_of(manifest, pictures(80), "random-80-20")[0]
    test, training = (set(manifest["person"][side]) for side in (fold.split == "test", fold.split != "test"))
    assert (fold.split == "test").sum() == 16
    assert people_on_both_sides(manifest, fold.split) == len(test & training) > 5


def test_a_planted_person_on_both_sides_is_counted():
    manifest = manifest_of(["a", "a", "b", "b", "", ""])
    assert people_on_both_sides(manifest, np.array(["test", "base", "test", "test", "test", "base"])) == 1
    assert people_on_both_sides(manifest, np.array(["test", "", "dar", "dar", "test", "base"])) == 0
    assert people_on_both_sides(manifest_of(["", ""]), np.array(["test", "base"])) is None


def test_pictures_of_a_left_out_person_under_another_name_are_left_out():
    crops = pictures(6)
    crops[5] = crops[0]
    folds = folds_of(manifest_of(["a", "a", "b", "b", "c", "c"]), crops, "leave-one-person-out")
    assert [fold.name for fold in folds] == ["person_a", "person_b", "person_c"]
    first = folds[0].split
    assert first[:2].tolist() == ["test", "test"] and first[4:].tolist() == ["", ""]
    assert not set(first[2:4]) & {"test", ""}


def test_names_of_persons_become_file_names():
    folds = folds_of(manifest_of(["a/b", "a_b", "ä"]), pictures(3), "leave-one-person-out")
    names = [fold.name for fold in folds]
    assert len(set(names)) == 3 and not any("/" in name for name in names)


def test_ages_leave_out_all_others():
    ages = [20, 21, 60, 61, np.nan, 40, 41, 42]
    manifest = manifest_of([f"p{row}" for row in range(8)], ages)
    manifest.loc[4, ["age_min", "age_max"]] = [25, 32]
    folds = folds_of(manifest, pictures(8), "subject-kfold", folds=5, ages=(21.0, 60.0))
    for fold in folds:
        assert (fold.split[[0, 3, 4]] == "").all() and (fold.split[[1, 2, 5, 6, 7]] != "").all()
    everyone = folds_of(manifest, pictures(8), "subject-kfold", folds=5)
    assert (everyone[0].split != "").all()
    with pytest.raises(DataError, match="No face has an exact age within --ages"):
        folds_of(manifest, pictures(8), "subject-kfold", ages=(90.0, 99.0))


def test_published_parts_and_folds():
    part = ["train"] * 60 + ["val"] * 10 + ["test"] * 10
    manifest = manifest_of([""] * 80, official=part, fold=[str(row % 5) for row in range(80)])
    split = folds_of(manifest, pictures(80), "official")[0].split
    assert (split[70:] == "test").all() and (split[60:70] == "val").all()
    assert set(split[:60]) == {"base", "dar", "val", "calib"}
    folds = folds_of(manifest, pictures(80), "official-folds")
    assert [fold.name for fold in folds] == [f"fold{number}" for number in range(5)]
    for number, fold in enumerate(folds):
        assert np.flatnonzero(fold.split == "test").tolist() == list(range(number, 80, 5))


def test_a_published_list(tmp_path):
    (tmp_path / "train.csv").write_text(",file,age\n0,0.jpg,19\n1,1.jpg,32\n")
    (tmp_path / "test.csv").write_text("file,age\n2.jpg,19\nset/3.jpg,19\n")
    published = read_published([f"train={tmp_path / 'train.csv'}", f"test={tmp_path / 'test.csv'}"])
    assert published == {"0.jpg": "train", "1.jpg": "train", "2.jpg": "test", "set/3.jpg": "test"}
    split = folds_of(manifest_of([""] * 5), pictures(5), "list", published=published)[0].split
    assert split[2:].tolist() == ["test", "test", ""] and not set(split[:2]) & {"test", ""}
    (tmp_path / "all.csv").write_text("name,split\n0.jpg,dar\n1.jpg,test\n")
    ours = folds_of(manifest_of([""] * 5), pictures(5), "list", published=read_published([str(tmp_path / "all.csv")]))
    assert ours[0].split.tolist() == ["dar", "test", "", "", ""]


def test_a_list_by_an_unnamed_first_column(tmp_path):
    (tmp_path / "morph.csv").write_text(",id_num,age\n273546_01M22.jpg,273546,6\n")
    assert read_published([f"test={tmp_path / 'morph.csv'}"]) == {"273546_01M22.jpg": "test"}


def test_split_files_come_back(tmp_path):
    manifest = manifest_of(["a", "b", "c", "d"])
    table = split_table(manifest, np.array(["test", "base", "", "dar"]))
    table.to_csv(tmp_path / "split.csv", index=False)
    assert table["id"].tolist() == ["id0000", "id0001", "id0003"]
    assert split_hash(read_split_file(tmp_path / "split.csv")) == split_hash(table)


@pytest.mark.parametrize(
    ("protocol", "columns", "message"),
    [
        ("subject-kfold", {"person": ""}, "names no persons"),
        ("leave-one-person-out", {"person": ""}, "names no persons"),
        ("subject-kfold", {"person": "a"}, "5 folds cannot be made of 1 groups"),
        ("official", {}, "column 'official'"),
        ("official-folds", {"fold": ""}, "column 'fold'"),
        ("official", {"official": "train"}, "nothing to test on"),
        ("leave-one-person-out", {"person": "a"}, "nothing beside it"),
        ("list", {}, "names no image"),
    ],
)
def test_protocols_that_do_not_fit_the_set(protocol, columns, message):
    with pytest.raises(DataError, match=message):
        folds_of(manifest_of(["a", "b", "c", "d"]).assign(**columns), pictures(4), protocol)


def test_lists_that_are_none(tmp_path):
    (tmp_path / "a.csv").write_text("name,split\n0.jpg,training\n")
    (tmp_path / "b.csv").write_text("file\n0.jpg\n")
    with pytest.raises(DataError, match="'training' is no part"):
        read_published([str(tmp_path / "a.csv")])
    with pytest.raises(DataError, match="is no split file"):
        read_published([str(tmp_path / "b.csv")])
    with pytest.raises(DataError, match="which another list names too"):
        read_published([f"train={tmp_path / 'b.csv'}", f"test={tmp_path / 'b.csv'}"])
    with pytest.raises(DataError, match="cannot be read as a list"):
        read_published([f"train={tmp_path / 'c.csv'}"])


def test_every_protocol_has_a_sentence():
    assert all(make.__doc__ for make in PROTOCOLS.values())
    assert "leaks identities" in PROTOCOLS["random-80-20"].__doc__
