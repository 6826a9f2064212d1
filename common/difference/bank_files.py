"""Reading a bank's file without trusting it: what it declares is compared before anything is unpacked."""

import io
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from common.errors import WeightsError

# What a bank holds: numpy's letter of its kind, and its number of axes.
KINDS = {
    "embeddings": ("f", 2), "ages": ("f", 1), "estimates": ("f", 1), "seen": ("b", 1), "person": ("U", 1),
    "id": ("U", 1), "fingerprint": ("U", 0), "identity": ("f", 2), "faces": ("u", 4),
}  # fmt: skip
OPTIONAL = {"identity", "faces"}
LONGEST_TEXT = 1024  # characters of a name or an id
LARGEST = 4 << 30  # bytes of a bank in memory: two million references
SMALL, EXPANSION = 256 << 20, 20  # bytes that any bank may take, and how much larger than its file a larger one may be
UNPACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Declared(NamedTuple):
    """Shape and type of an array as its header declares them, and the bytes that both take."""

    shape: tuple[int, ...]
    dtype: np.dtype
    size: int


def read_arrays(path: str | Path, data: bytes | None = None) -> dict[str, np.ndarray]:
    """The arrays of a bank by name, in the machine's byte order; raises WeightsError naming what is wrong with it.

    With `data`, the bytes of the file, nothing is read from the disk, and `path` is only its name.
    """
    path = Path(path)
    if data is None and not path.is_file():
        raise WeightsError(f"There is no reference bank at {path}; check the name.")
    try:
        with zipfile.ZipFile(path if data is None else io.BytesIO(data)) as archive:
            members = _members(archive, path.stat().st_size if data is None else len(data))
            declared = {name: _declared(archive, member) for name, member in members.items()}
            _compare(declared, members)
            return {name: _read(archive, member) for name, member in members.items()}
    except Exception as error:  # zip, zlib, numpy and plain Python errors, according to what is broken
        reason = f" ({error})" if isinstance(error, _Refused) else ""
        raise WeightsError(
            f"{path} cannot be read as a reference bank{reason}; give a file that scripts/build_reference_bank.py "
            "wrote."
        ) from None


class _Refused(Exception):
    """What a file declares is not what a bank holds."""


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    names = [info.filename.removesuffix(".npy") for info in infos if info.filename.endswith(".npy")]
    if len(names) != len(infos) or len(set(names)) != len(names) or not set(names) <= set(KINDS):
        raise _Refused("it has other parts than a bank")
    missing = set(KINDS) - OPTIONAL - set(names)
    if missing:
        raise _Refused(f"it has no {sorted(missing)[0]}")
    if any(info.compress_type not in UNPACKED for info in infos):
        raise _Refused("it is packed in another way")
    total = sum(info.file_size for info in infos)
    if total > min(LARGEST, max(SMALL, EXPANSION * size)):
        raise _Refused(f"it would take {total / 1e9:.1f} GB of memory")
    return dict(zip(names, infos, strict=True))


def _declared(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Declared:
    with archive.open(member) as file:
        return _header(file)


def _header(file: IO[bytes]) -> Declared:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):  # the only one without a length of header that has to be believed
        raise _Refused("its arrays are of an unknown version")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    size = dtype.itemsize
    for length in shape:
        size *= length
    return Declared(shape, dtype, file.tell() + size)


def _compare(declared: dict[str, Declared], members: dict[str, zipfile.ZipInfo]) -> None:
    """Raise _Refused where kinds, numbers of axes, lengths or sizes do not fit each other."""
    count = (declared["embeddings"].shape or (0,))[0]
    for name, (shape, dtype, size) in declared.items():
        kind, axes = KINDS[name]
        if dtype.kind != kind or len(shape) != axes:
            raise _Refused(f"its {name} are not what they should be")
        if dtype.kind == "U" and dtype.itemsize > 4 * LONGEST_TEXT:
            raise _Refused(f"its {name} are longer than {LONGEST_TEXT} characters")
        if axes and shape[0] != count:
            raise _Refused(f"it has {count} embeddings and {shape[0]} {name}")
        if size != members[name].file_size:
            raise _Refused(f"its {name} are cut")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):  # reading to the end has the archive's checksum compared
            raise _Refused("it has more than its arrays")
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        return array.astype(np.float32)
    return np.asarray(array, array.dtype.newbyteorder("="))
