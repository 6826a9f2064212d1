import numpy as np
import pytest

from common.synthetic import generate_faces, linear_probe_mae, render_face, sample_identity


def test_a_seed_decides_every_byte_and_longer_sets_begin_alike():
    crops, table = generate_faces(12, seed=3, size=64)
    again, _ = generate_faces(20, seed=3, size=64)
    other, _ = generate_faces(12, seed=4, size=64)
    assert np.array_equal(crops, again[:12])
    assert not np.array_equal(crops, other)
    assert crops.shape == (12, 64, 64, 3) and crops.dtype == np.uint8
    assert table["name"][11] == "synthetic_000011.png"


def test_people_appear_at_several_ages_in_both_cameras():
    _, table = generate_faces(200, seed=0, size=16)
    assert table["person"].nunique() == 50
    assert (table.groupby("person")["age"].nunique() >= 3).all()
    assert table["age"].min() <= 3 and table["age"].max() >= 87
    assert set(table["camera"]) == {0, 1} and set(table["group"]) == {"a", "b"}
    assert set(table["gender"]) == {"male", "female"}


def test_the_second_camera_is_warmer_flatter_and_softer():
    rng = np.random.default_rng(0)
    people = [sample_identity(rng) for _ in range(20)]
    first, second = (
        np.stack([render_face(p, 40, camera, np.random.default_rng(i)) for i, p in enumerate(people)]).astype(float)
        for camera in (0, 1)
    )
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
    assert mean > 20
