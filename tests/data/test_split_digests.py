"""The splits of the data that the released weights were trained and judged on: they must never move.

The digests are those of commit fedb21c. SHA-256 of the sorted lines "id,split".
"""

import hashlib
import tarfile
from pathlib import Path

import pytest

from common.data.manifest import load_prepared
from scripts.prepare_data import main
from tests.conftest import REPOSITORY

WHOLE = {
    "utkface": (18_308, "d8a0542d14d04e995baeee878dee2522f4be4eae465db7711bdf85bf209c4e81"),
    "fairface": (44_947, "ec1eaf8b2fbac4245042db65afa9ab48f4426684e9e8f1383ab5d3fb5513a7f2"),
}  # images, digest
PART = {
    "utkface": ("UTKFace.tar", "73738247b9303a7c6b13036401177d5430856dd8acdbda1277d7723af8b51888"),
    "fairface": ("FairFace.tar", "d3a14325ed3f9218547649fb0d02de7e214477e5e3b01c2f1b745d93cc55d9a0"),
}  # archive, digest
STEP = 30  # one file in so many; all of them take minutes


def digest(folder: Path) -> str:
    table = load_prepared(folder).manifest
    return hashlib.sha256("\n".join(sorted(table["id"] + "," + table["split"])).encode()).hexdigest()


def thinned(archive: Path, out: Path) -> None:
    """Copy every STEP-th file of an archive, and its tables."""
    with tarfile.open(archive) as whole, tarfile.open(out, "w") as part:
        for number, member in enumerate(member for member in whole if member.isfile()):
            if number % STEP == 0 or member.name.endswith(".csv"):
                part.addfile(member, whole.extractfile(member))


@pytest.mark.parametrize("name", list(PART))
def test_the_splits_of_a_part_have_not_moved(name, shared_data, tmp_path):
    archive, expected = PART[name]
    thinned(shared_data / archive, tmp_path / "part.tar")
    assert main([name, "--source", str(tmp_path / "part.tar"), "--out", str(tmp_path / "out")]) == 0
    assert digest(tmp_path / "out") == expected


@pytest.mark.parametrize("name", list(WHOLE))
def test_the_splits_of_a_whole_set_have_not_moved(name):
    folder = REPOSITORY / "data" / "prepared" / name
    if not (folder / "prepared.json").is_file():
        pytest.skip(f"{folder} is not prepared")
    assert (len(load_prepared(folder).manifest), digest(folder)) == WHOLE[name]
