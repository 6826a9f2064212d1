"""Broken, hostile and enormous inputs; a kill or a full disk in the middle of writing."""

import io
import json
import pickle
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from AgeRegBaseline.AgeRegBaseline__infer2 import main as infer2
from common.base.model import BAR, BARConfig
from common.base.weights import load_bar, save_bar
from common.data.manifest import load_prepared
from common.data.predictions import COLUMNS, read_predictions, write_predictions
from common.difference.bank import ReferenceBank, load_bank
from common.errors import ImageError, UserError, WeightsError
from common.faces.images import decode_image
from common.training.checkpoints import load_checkpoint
from tests.conftest import REPOSITORY

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "gif": "GIF"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights of the smallest base."""
    torch.manual_seed(0)
    return save_bar(
        BAR(BARConfig(backbone="tiny", crop_size=48, input_size=48)), tmp_path_factory.mktemp("weights"), {"data": []}
    )


def encoded(crop: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, kind)
    return buffer.getvalue()


def damaged(data: bytes, random: np.random.Generator, way: int) -> bytes:
    """The bytes cut off, with some changed anywhere or in the header, or with a piece missing."""
    changed = bytearray(data)
    if way == 0:
        return bytes(changed[: random.integers(0, len(data))])
    if way == 3:
        at = random.integers(len(data))
        del changed[at : at + random.integers(1, 40)]
        return bytes(changed)
    for _ in range(random.integers(1, 12)):
        changed[random.integers(len(data) if way == 1 else min(60, len(data)))] = random.integers(256)
    return bytes(changed)


def planted(file: Path) -> bytes:
    """A pickle that would make `file` if anything unpickled it."""

    class Malicious:
        def __reduce__(self):
            return Path.touch, (file,)

    return pickle.dumps(Malicious())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", FORMATS.values())
def test_whatever_the_bytes_a_picture_or_an_image_error_comes_out(kind):
    random = np.random.default_rng(0)
    data = encoded(random.integers(0, 256, (32, 32, 3), dtype=np.uint8), kind)
    refused = 0
    for number in range(200):
        try:
            image = decode_image(damaged(data, random, number % 4), "x")
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        except ImageError as error:
            refused += 1
            assert str(error).startswith("x: ") and "\n" not in str(error)
    assert refused > 20


def test_a_small_file_that_claims_a_huge_picture_is_refused_before_it_is_unpacked():
    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    chunks = (
        len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big") for name, body in parts
    )
    with pytest.raises(ImageError, match="too large"):
        decode_image(b"\x89PNG\r\n\x1a\n" + b"".join(chunks), "bomb.png")


def test_of_an_animation_the_first_picture_is_taken():
    frames = [Image.fromarray(np.full((20, 20, 3), grey, np.uint8)) for grey in (40, 200)]
    for kind, words in {"GIF": {}, "WEBP": {"lossless": True}, "TIFF": {}}.items():
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], **words)
        image = decode_image(buffer.getvalue(), "x")
        assert image.shape == (20, 20, 3) and (image == 40).all(), kind


def test_a_picture_that_is_a_program_is_not_run():
    with pytest.raises(ImageError, match="not an image"):
        decode_image(encoded(np.zeros((32, 32, 3), np.uint8), "EPS"), "x.jpg")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_many_broken_files_lose_none_of_the_good(synthetic_set, weights, tmp_path, capsys):
    random, crops = np.random.default_rng(0), load_prepared(synthetic_set).crops
    for number in range(100):
        Image.fromarray(crops[number]).save(tmp_path / f"good{number:03d}.png")
    for number in range(200):
        suffix, kind = list(FORMATS.items())[number % len(FORMATS)]
        cut = encoded(crops[number], kind)[: random.integers(0, 30)]
        (tmp_path / f"broken{number:03d}.{'jpg' if suffix == 'gif' else suffix}").write_bytes(cut)
    out = tmp_path / "p.csv"
    assert infer2([str(tmp_path), "--crops", "--weights", str(weights), "--out", str(out), "--device", "cpu"]) == 1
    table = read_predictions(out)
    good = table[table["status"] == "ok"]
    assert [Path(path).name for path in good["path"]] == [f"good{number:03d}.png" for number in range(100)]
    assert len(table) == 300 and np.isfinite(good["age"]).all()
    assert capsys.readouterr().err.count("not estimated:") == 200


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_planted_pickle_is_never_run(weights, tmp_path):
    made = tmp_path / "made"
    hostile = shutil.copytree(weights, tmp_path / "weights")
    for content in (planted(made), b"\x80\x02" + planted(made)):
        (hostile / "model.safetensors").write_bytes(content)
        with pytest.raises(WeightsError, match="model.safetensors"):
            load_bar(hostile)
        (tmp_path / "x.ckpt").write_bytes(content)
        with pytest.raises(WeightsError, match="is no checkpoint"):
            load_checkpoint(tmp_path / "x.ckpt")
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(WeightsError, match="reference bank"):
            load_bank(tmp_path / "x.npz", "abc")
    objects = np.array([pickle.loads(pickle.dumps("harmless"))], dtype=object)
    np.savez(tmp_path / "objects.npz", embeddings=objects, fingerprint="abc")
    with pytest.raises(WeightsError, match="reference bank"):
        load_bank(tmp_path / "objects.npz", "abc")
    assert not made.exists()
    pickle.loads(planted(made))
    assert made.exists()  # the trap works


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_size": "48"}, "crop_size must be of type int"),
        ({"mirror": 1}, "mirror must be of type bool"),
        ({"input_size": 10**9}, "input_size"),
        ({"embedding_size": -3}, "does not describe a base regressor"),
        ({"embedding_size": 128}, "that fits its config.json"),
        ({"head": ["distribution"]}, "head must be of type str"),
        ({"unheard": 1}, "unheard"),
    ],
)
def test_a_config_of_wrong_types_or_sizes_is_one_sentence(weights, tmp_path, change, message):
    wrong = shutil.copytree(weights, tmp_path / "wrong")
    settings = json.loads((wrong / "config.json").read_text())
    settings["model"] |= change
    (wrong / "config.json").write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match=message) as caught:
        load_bar(wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["shape", "missing", "further", "infinite", "cut"])
def test_tensors_that_do_not_fit_are_refused(weights, tmp_path, kind):
    wrong = shutil.copytree(weights, tmp_path / "wrong")
    tensors = load_file(wrong / "model.safetensors")
    if kind == "shape":
        tensors["head.bias"] = tensors["head.bias"][:-1].clone()
    if kind == "missing":
        del tensors["head.bias"]
    if kind == "further":
        tensors["more"] = torch.zeros(1)
    if kind == "infinite":
        tensors["head.bias"][3] = torch.inf
    save_file(tensors, wrong / "model.safetensors")
    if kind == "cut":
        (wrong / "model.safetensors").write_bytes((wrong / "model.safetensors").read_bytes()[:100_000])
    with pytest.raises(WeightsError, match="model.safetensors"):
        load_bar(wrong)


def bank_parts() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    ages = random.uniform(20, 40, 30).astype(np.float32)
    return {
        "embeddings": random.normal(size=(30, 8)).astype(np.float16), "ages": ages, "estimates": ages + 1,
        "seen": ages > 30, "person": np.full(30, "p"), "id": np.arange(30).astype(str),
    }  # fmt: skip


def test_a_damaged_bank_is_refused_or_still_a_bank(tmp_path):
    ReferenceBank(**bank_parts(), fingerprint="abc").save(tmp_path / "bank.npz")
    data, random, refused = (tmp_path / "bank.npz").read_bytes(), np.random.default_rng(0), 0
    for number in range(400):
        (tmp_path / "x.npz").write_bytes(damaged(data, random, number % 4))
        try:
            assert load_bank(tmp_path / "x.npz", "abc").embeddings.shape == (30, 8)
        except UserError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ages", np.full(30, "40")), ("embeddings", np.zeros(30, np.float16)), ("seen", np.full(30, "yes")),
        ("id", np.arange(30)), ("embeddings", np.full((30, 8), np.nan, np.float16)),
    ],
)  # fmt: skip
def test_a_bank_of_wrong_types_is_refused(tmp_path, name, value):
    np.savez(tmp_path / "bank.npz", fingerprint="abc", **(bank_parts() | {name: value}))
    with pytest.raises(UserError, match=name):
        load_bank(tmp_path / "bank.npz", "abc")


SETUP = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np, pandas as pd, torch
from common.training.checkpoints import save_checkpoint
from common.base.weights import write_tensors
from common.errors import UserError
from common.data.predictions import COLUMNS, write_predictions
from common.difference.bank import ReferenceBank

ages, names = np.linspace(20, 40, 2000).astype(np.float32), np.arange(2000).astype(str)
looks = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float16)
writers = {
    "p.csv": lambda out: write_predictions(pd.DataFrame("new", range(9000), COLUMNS), out),
    "x.ckpt": lambda out: save_checkpoint(out, {"new": torch.zeros(200_000)}),
    "x.safetensors": lambda out: write_tensors({"new": torch.zeros(200_000)}, out),
    "x.npz": lambda out: ReferenceBank(looks, ages, ages, ages > 30, names, names, "abc").save(out),
}
"""
FULL_DISK = """
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for name, write in writers.items():
    try:
        write(Path(sys.argv[1]) / name)
    except UserError as error:
        print(error)
"""
KILL_IN_THE_MIDDLE = """
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
for name, write in writers.items():
    child = os.fork()
    if not child:
        write(Path(sys.argv[1]) / name)
        os._exit(0)
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def write_over_old_files(script: str, folder: Path) -> list[str]:
    """Lines printed by a script of its own process that writes every kind of file over an old one."""
    for name in ("p.csv", "x.ckpt", "x.safetensors", "x.npz"):
        (folder / name).write_text("old")
    command = [sys.executable, "-c", SETUP + script, str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("p.csv", "x.ckpt", "x.safetensors", "x.npz"):
        assert (folder / name).read_text() == "old", name
    return done.stdout.splitlines()


def test_a_kill_before_all_is_written_leaves_the_old_file(tmp_path):
    lines = write_over_old_files(KILL_IN_THE_MIDDLE, tmp_path)
    assert lines == ["p.csv -9", "x.ckpt -9", "x.safetensors -9", "x.npz -9"]


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path):
    lines = write_over_old_files(FULL_DISK, tmp_path)
    assert len(lines) == 4 and all("cannot be written" in line for line in lines)
    assert len(list(tmp_path.iterdir())) == 4  # nothing half written is left behind


def test_a_table_can_be_written_to_what_is_no_file():
    code = "write_predictions(pd.DataFrame('x', [0], COLUMNS), '/dev/stdout')"
    command = [sys.executable, "-c", f"import pandas as pd\nfrom common.data.predictions import *\n{code}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.startswith("id,path,face"), done.stderr


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "there" / "p.csv")
    write_predictions(pd.DataFrame("x", [0], COLUMNS), tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "there" / "p.csv").is_file()
