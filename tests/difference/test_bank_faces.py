from dataclasses import replace

import numpy as np
import pytest

from common.difference.bank import ReferenceBank, concatenate, load_bank
from common.errors import DataError, WeightsError
from scripts.references.merging import merge


def bank(ids: str, colour: int | None) -> ReferenceBank:
    """A bank of images called by one letter each, with faces of this grey level."""
    count = len(ids)
    years = np.arange(count, dtype=np.float32) + 20
    faces = None if colour is None else np.full((count, 64, 64, 3), colour, np.uint8)
    return ReferenceBank(
        np.ones((count, 2), np.float16), years, years, np.zeros(count, bool), np.full(count, "Anna"),
        np.array(list(ids)), "abc", faces=faces,
    )  # fmt: skip


def greys(one: ReferenceBank) -> dict[str, int]:
    return {number: int(face[0, 0, 0]) for number, face in zip(one.id.tolist(), one.faces, strict=True)}


def test_faces_are_kept_in_a_file_and_in_parts(tmp_path):
    bank("ab", 7).save(tmp_path / "bank.npz")
    read = load_bank(tmp_path / "bank.npz", "abc")
    assert greys(read) == {"a": 7, "b": 7} and greys(read.rows(np.array([1]))) == {"b": 7}
    bank("ab", None).save(tmp_path / "old.npz")
    assert load_bank(tmp_path / "old.npz", "abc").faces is None


def test_joined_with_a_bank_without_faces_those_are_black():
    assert greys(concatenate([bank("ab", 7), bank("c", None)])) == {"a": 7, "b": 7, "c": 0}
    assert concatenate([bank("a", None), bank("b", None)]).faces is None


def test_images_entered_again_bring_their_faces():
    assert greys(merge(bank("ab", None), bank("bc", 9))[0]) == {"a": 0, "b": 9, "c": 9}
    assert greys(merge(bank("ab", 7), bank("bc", None))[0]) == {"a": 7, "b": 7, "c": 0}


def test_faces_of_another_shape_are_refused(tmp_path):
    with pytest.raises(DataError, match="other faces"):
        replace(bank("a", 7), faces=np.zeros((1, 32, 32, 3), np.uint8))
    parts = {name: getattr(bank("a", 7), name) for name in ("embeddings", "ages", "estimates", "seen", "person", "id")}
    np.savez(tmp_path / "bad.npz", **parts, fingerprint=np.array("abc"), faces=np.zeros((1, 64), np.uint8))
    with pytest.raises(WeightsError, match="cannot be read as a reference bank"):
        load_bank(tmp_path / "bad.npz", "abc")
