"""Of a folder the photos are taken, and what is no photo never hangs, fills the memory or goes without a word."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from common.errors import ImageError
from common.faces.images import decode_image, load_image
from common.faces.photo_files import IMAGE_SUFFIXES, list_pictures, not_looked_at
from common.figures import new_figure, save_figure
from common.inference.drawings import save_drawing
from tests.conftest import REPOSITORY

NOISE = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)


def encoded(kind: str, image: Image.Image | None = None, **words) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(NOISE)).save(buffer, kind, **words)
    return buffer.getvalue()


def names(folder, listing) -> list[str]:
    return [str(file.relative_to(folder)) for file in listing.files]


def test_a_folder_is_listed_with_what_is_left_out(tmp_path):
    for name in ["b.JPG", "a/c.heic", "a/d.avif", "e.jfif", "._b.JPG", ".trash/f.jpg", "g.mp4", "h.mp4", "i.pdf"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listing = list_pictures(tmp_path)
    assert names(tmp_path, listing) == ["a/c.heic", "a/d.avif", "b.JPG", "e.jfif"]
    assert not_looked_at(listing) == "3 files not looked at: 2 .mp4, 1 .pdf."
    assert {".gif", ".heif", ".jpe", ".mpo", ".jp2"} <= IMAGE_SUFFIXES


def test_linked_folders_are_followed_once_and_loops_end(tmp_path):
    album, other = tmp_path / "album", tmp_path / "other"
    for folder in (album / "z", other):
        folder.mkdir(parents=True)
        (folder / "x.jpg").write_bytes(b"x")
    for name, target in {"again": "z", "loop": ".", "out": "../other", "out2": "../other"}.items():
        (album / name).symlink_to(target, target_is_directory=True)
    assert names(album, list_pictures(album)) == ["out/x.jpg", "z/x.jpg"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"x")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_pictures(tmp_path)
    assert names(tmp_path, listing) == ["a.jpg"]
    assert not_looked_at(listing) == f"{tmp_path / 'shut'} cannot be read (Permission denied)."


def test_our_own_drawings_are_left_out_and_refused_by_name(tmp_path):
    (tmp_path / "photo.png").write_bytes(encoded("PNG"))
    save_figure(new_figure(2, 2)[0], tmp_path / "drawn.png")
    save_drawing(Image.fromarray(NOISE), tmp_path / "drawn.jpg")
    (tmp_path / "photo.jpg").write_bytes(encoded("JPEG", comment=b"my age-by-difference"))
    listing = list_pictures(tmp_path)
    assert names(tmp_path, listing) == ["photo.jpg", "photo.png"]
    assert not_looked_at(listing) == "2 files not looked at: 2 drawings of our own."
    for name in ("drawn.png", "drawn.jpg"):
        with pytest.raises(ImageError, match=f"{name}: this is a drawing of age-by-difference itself, not a photo.$"):
            load_image(tmp_path / name)


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with open(tmp_path / "sparse.jpg", "wb") as stream:
        stream.truncate(10**12)
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "zero.jpg"):
        with pytest.raises(ImageError, match=f"{name}: this is not a regular file but a pipe or a device.$"):
            load_image(tmp_path / name)
    with pytest.raises(ImageError, match=r"sparse.jpg: the file is too large \(more than 200 MB\).$"):
        load_image(tmp_path / "sparse.jpg")
    (tmp_path / "good.png").write_bytes(encoded("PNG"))
    (tmp_path / "link.png").symlink_to("good.png")
    assert np.array_equal(load_image(tmp_path / "link.png"), NOISE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright_as_pillow_does(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded("PNG", exif=exif)
    expected = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(decode_image(data, "x"), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_no_exif_costs_the_picture(kind):
    exif, random = Image.Exif(), np.random.default_rng(0)
    exif[0x0112], exif[0x010F], exif[0x8769] = 1, "camera", {0x9003: "2001:01:01 00:00:00"}
    expected = np.sort(decode_image(encoded(kind), "x"), axis=None)  # however it is turned
    for _ in range(100):
        broken = bytearray(exif.tobytes())
        for at in random.integers(6, len(broken), 6):
            broken[at] = random.integers(256)
        assert np.array_equal(np.sort(decode_image(encoded(kind, exif=bytes(broken)), "x"), axis=None), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "HEIF", "AVIF", "JPEG2000"])
@pytest.mark.filterwarnings("ignore")
def test_whatever_the_mutation_only_a_picture_or_an_image_error_comes_out(kind):
    decode_image(encoded("PNG"), "x")
    data, random = encoded(kind), np.random.default_rng(1)
    assert decode_image(data, "x").shape == (32, 48, 3)
    for _ in range(60):
        broken = bytearray(data)
        for at in random.integers(0, min(len(data), 400), random.integers(1, 6)):
            broken[at] = random.integers(256)
        try:
            assert decode_image(bytes(broken), "x").dtype == np.uint8
        except ImageError as error:
            assert str(error).startswith("x: ") and "\n" not in str(error)


def test_a_small_file_never_takes_gigabytes():
    white = encoded("WEBP", Image.new("RGB", (6000, 4000)))
    with pytest.raises(ImageError, match=r"x: the image is too large for its kind; shrink it below 23 megapixels.$"):
        decode_image(white, "x")


@pytest.mark.parametrize(("kind", "mode", "side"), [("TIFF", "F", 4500), ("JPEG", "RGB", 8700), ("PNG", "RGBA", 7000)])
def test_a_large_picture_takes_half_a_gigabyte_at_most(kind, mode, side, tmp_path):
    options = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
    (tmp_path / "x").write_bytes(encoded(kind, Image.new(mode, (side, side)), **options))
    code = (
        "import resource, sys; from common.faces.images import load_image\n"
        "def peak():\n    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = peak(); print(load_image(sys.argv[1]).shape[0], peak() - before)"
    )
    clean = ["/bin/sh", "-c", '"$0" "$@"; true', sys.executable, "-c", code, str(tmp_path / "x")]  # peaks are inherited
    done = subprocess.run(clean, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    height, grew = map(int, done.stdout.split())
    assert height == (side // 2 if kind == "JPEG" else side) and grew < 540  # MiB
