"""Files that say they are banks: what they declare is compared before anything is unpacked; no age is believed."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from common.difference.bank import ReferenceBank, load_bank
from common.difference.bank_files import read_arrays
from common.errors import DataError, WeightsError
from tests.training.test_interruptions import bank_parts


def parts(**changed) -> dict[str, np.ndarray]:
    return bank_parts() | {"fingerprint": np.array("abc")} | changed


def member(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def header(text: str, size: int = 0) -> bytes:
    """A member that declares what `text` says and then holds `size` bytes of zeros."""
    line = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line + bytes(size)


def packed(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def usual(**changed) -> list[tuple[str, bytes]]:
    return [(f"{name}.npy", member(array)) for name, array in parts(**changed).items()]


def refused(path: Path, said: str) -> None:
    with pytest.raises(WeightsError, match=f"cannot be read as a reference bank \\({said}"):
        load_bank(path, "abc")


def test_a_bank_that_would_take_gigabytes_is_refused_before_it_is_unpacked(tmp_path):
    zeros = "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 157286400), }"
    members = [("embeddings.npy", header(zeros, 300 << 20)), *usual()[1:]]
    path = packed(tmp_path / "bomb.npz", members)
    del members
    assert path.stat().st_size < 2 << 20
    tracemalloc.start()
    refused(path, "it would take 0.3 GB of memory")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{'descr': '<f2', 'fortran_order': False, 'shape': (30, 900000000000), }", "its embeddings are cut"),
        ("{'descr': '<f2', 'fortran_order': False, 'shape': (31, 8), }", "it has 31 embeddings and 30 ages"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (30, 8), }", "its embeddings are not what"),
        ("{'descr': '<f2', 'fortran_order': False, 'shape': (30, 2, 4), }", "its embeddings are not what"),
        ("{'descr': '<f2', 'fortran_order': False, 'shape': (30, 7), }", "its embeddings are cut"),
    ],
)
def test_shapes_that_contradict_the_file_are_refused(tmp_path, text, said):
    size = 496 if "(31, 8)" in text else 480
    refused(packed(tmp_path / "x.npz", [("embeddings.npy", header(text, size)), *usual()[1:]]), said)


def test_names_of_endless_width_are_refused(tmp_path):
    refused(packed(tmp_path / "x.npz", usual(person=np.array(["p" * 1025] * 30))), "its person are longer than 1024")


def test_parts_that_are_twice_or_none_of_a_bank_are_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = packed(tmp_path / "twice.npz", [*usual(), ("ages.npy", member(np.zeros(30, np.float32)))])
    refused(twice, "it has other parts than a bank")
    refused(packed(tmp_path / "more.npz", [*usual(), ("run.sh", b"hello")]), "it has other parts than a bank")
    refused(packed(tmp_path / "less.npz", usual()[:-1]), "it has no fingerprint")
    refused(packed(tmp_path / "lzma.npz", usual(), zipfile.ZIP_LZMA), "it is packed in another way")


def test_a_flipped_bit_is_noticed(tmp_path):
    path = packed(tmp_path / "x.npz", usual(), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"\x93NUMPY") + 300] ^= 4
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="cannot be read as a reference bank"):
        load_bank(path, "abc")


def test_numbers_of_another_machine_or_precision_are_read(tmp_path):
    ages = parts()["ages"]
    path = packed(tmp_path / "x.npz", usual(ages=ages.astype(">f8"), estimates=ages.astype(">f4")))
    bank = load_bank(path, "abc")
    assert np.array_equal(bank.ages, ages) and bank.ages.dtype == bank.estimates.dtype == np.dtype("=f4")


@pytest.mark.parametrize("name", ["ages", "estimates"])
@pytest.mark.parametrize("value", [1e30, -500, np.nan, np.inf, 120.5])
def test_impossible_ages_are_counted_and_refused(tmp_path, name, value):
    wrong = parts()[name].copy()
    wrong[[3, 7]] = value
    with pytest.raises(DataError, match=f"x.npz has 2 {name} outside 0 to 120 years; build it again"):
        load_bank(packed(tmp_path / "x.npz", usual(**{name: wrong})), "abc")


def test_identities_that_are_no_numbers_are_refused(tmp_path):
    with pytest.raises(DataError, match="identity that are not finite"):
        load_bank(packed(tmp_path / "x.npz", usual(identity=np.full((30, 2), np.inf, np.float16))), "abc")


def test_old_banks_and_released_ones_are_read_as_before(tmp_path):
    ReferenceBank(**bank_parts(), fingerprint="abc").save(tmp_path / "x.npz")
    for path in (tmp_path / "x.npz", *Path("weights").glob("*/bank.npz")):
        with np.load(path) as stored:
            assert all(np.array_equal(array, stored[name]) for name, array in read_arrays(path).items())
            assert load_bank(path, str(stored["fingerprint"])).person.tolist() == stored["person"].tolist()
