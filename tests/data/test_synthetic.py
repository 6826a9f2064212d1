from dataclasses import replace

import numpy as np
import pytest

from common.data.synthetic import generate_faces, linear_probe_mae, photograph, render_face, sample_identity


def faces(people: list, age: float, size: int = 200, camera: int = 0) -> np.ndarray:
    """Each person once at this age: [N, S, S, 3] float."""
    rngs = map(np.random.default_rng, range(len(people)))
    drawn = [render_face(person, age, camera, rng, size) for person, rng in zip(people, rngs, strict=True)]
    return np.stack(drawn).astype(float)


def people(count: int) -> list:
    rng = np.random.default_rng(0)
    return [sample_identity(rng) for _ in range(count)]


def centre_of(brightness: np.ndarray) -> np.ndarray:
    """Centre (x, y) of the brightest fifth of a window [H, W]."""
    weight = np.clip(brightness - np.percentile(brightness, 80), 0, None)
    y, x = np.indices(weight.shape)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def test_a_seed_decides_every_byte_and_longer_sets_begin_alike():
    crops, table = generate_faces(12, seed=3, size=64)
    again, longer = generate_faces(20, seed=3, size=64)
    other, _ = generate_faces(12, seed=4, size=64)
    assert np.array_equal(crops, again[:12])
    assert table.equals(longer[:12])
    assert crops.tobytes() == generate_faces(12, seed=3, size=64)[0].tobytes()
    assert not np.array_equal(crops, other)
    assert crops.shape == (12, 64, 64, 3) and crops.dtype == np.uint8
    assert table["name"][11] == "synthetic_000011.png" and table["person"][11] == "p00002"
    assert list(table.columns) == ["name", "age", "person", "gender", "group", "camera"]


def test_people_appear_at_several_ages_in_both_cameras():
    _, table = generate_faces(200, seed=0, size=16)
    assert table["person"].nunique() == 50
    assert (table.groupby("person")["age"].nunique() >= 3).all()
    assert table["age"].min() <= 3 and table["age"].max() >= 87
    assert set(table["camera"]) == {0, 1} and set(table["group"]) == {"a", "b"}
    assert set(table["gender"]) == {"male", "female"}
    assert table["age"].dtype == np.int64 and table["age"].between(0, 90).all()
    assert (table.groupby("person")[["gender", "group"]].nunique() == 1).all(axis=None)
    ages = generate_faces(900, seed=0, size=4)[1]["age"]
    decades = np.histogram(ages, bins=[0, 10, 20, 30, 40, 50, 60, 70, 80, 91])[0]
    assert decades.min() > 70 and decades.max() < 135  # 100 each, if uniform


def test_the_columns_describe_the_pictures():
    crops, table = generate_faces(400, seed=0, size=32)
    warmth = (crops[..., 0].astype(float) - crops[..., 2]).mean(axis=(1, 2))
    skin = crops[:, 14:20, 12:20].mean(axis=(1, 2, 3))
    cameras, groups = table["camera"].to_numpy(), table["group"].to_numpy()
    assert warmth[cameras == 1].mean() - warmth[cameras == 0].mean() > 12
    assert skin[groups == "a"].mean() - skin[groups == "b"].mean() > 40


def test_the_second_camera_is_warmer_flatter_and_softer():
    first, second = (faces(people(20), 40, 128, camera) for camera in (0, 1))
    warmth = (second[..., 0] - second[..., 2]).mean() - (first[..., 0] - first[..., 2]).mean()
    assert warmth > 15
    assert second.std(axis=(1, 2)).mean() < 0.9 * first.std(axis=(1, 2)).mean()


def test_age_changes_the_face_more_than_chance():
    person = sample_identity(np.random.default_rng(1))
    faces = [render_face(person, age, 0, np.random.default_rng(7)).astype(float) for age in (5, 6, 75)]
    assert np.abs(faces[0] - faces[2]).mean() > 5 * np.abs(faces[0] - faces[1]).mean()


def test_a_linear_probe_reads_the_age_but_not_well():
    probe, mean = linear_probe_mae(600, seed=0)
    assert probe == pytest.approx(9.6, abs=1.5)
    assert 6 < probe < mean / 2 and 20 < mean < 28


def test_eyes_and_mouth_lie_on_the_crop_template():
    women = [replace(person, gender="female", skin=(200.0, 150.0, 120.0)) for person in people(40)]
    drawn = faces(women, age=20)  # [40, 200, 200, 3]: jitter and roll average out
    whites = drawn.min(axis=3).mean(axis=0)
    for x in (60, 138):
        assert np.abs(centre_of(whites[40:76, x - 25 : x + 25]) + (x - 25, 40) - (x, 58)).max() < 2
    redness = (drawn[..., 0] / drawn[..., 1].clip(1)).mean(axis=0)
    mouth = centre_of(redness[115:165, 50:150]) + (50, 115)
    assert abs(mouth[0] - 98) < 2 and 139 < mouth[1] < 147  # a smile hangs below its corners


def test_every_cue_of_age_is_drawn():
    drawn = [replace(person, hair=(40.0, 30.0, 26.0), grey_onset=45.0) for person in people(12)]
    greying = [faces(drawn, age)[:, :12, 85:115].mean() for age in (30, 80)]
    assert greying[1] - greying[0] > 100
    dark = [replace(person, grey_onset=200.0) for person in drawn]  # the hair keeps its colour
    folds = []
    for age in (25, 45, 80):
        cheek = faces(dark, age)[:, 100:140, 130:152].mean(axis=3)  # [12, 40, 22]
        folds.append((cheek < 0.85 * np.median(cheek, axis=(1, 2), keepdims=True)).mean())
    assert folds[0] < 0.01 and folds[1] > 0.03 and folds[2] > 0.12
    eyes = [(faces(dark, age)[:, 40:76, 40:160].min(axis=3) > 190).mean() for age in (1, 20)]
    assert eyes[0] > 1.4 * eyes[1]


def test_the_cameras_differ_in_noise_sharpness_and_colour():
    flat, step = np.full((64, 64, 3), 110.0), np.full((64, 64, 3), 60.0)
    step[32:] = 160.0
    seeds = range(40)
    for camera, noise, edge in ((0, 3.0, 100.0), (1, 7.0, 46.9)):  # 46.9: contrast 0.7, tint 0.98, blur
        plain = np.stack([photograph(flat, camera, np.random.default_rng(i)) for i in seeds]).astype(float)
        edges = np.stack([photograph(step, camera, np.random.default_rng(i)) for i in seeds]).astype(float)
        assert np.diff(plain, axis=1).std() / 2**0.5 == pytest.approx(noise, rel=0.1)
        assert (edges[:, 32] - edges[:, 31]).mean() == pytest.approx(edge, rel=0.05)
        warm = plain[..., 0].mean() / plain[..., 2].mean()
        assert warm == pytest.approx((1.0, 1.12 / 0.82)[camera], rel=0.02)
