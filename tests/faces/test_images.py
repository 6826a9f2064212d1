import io

import cv2
import numpy as np
import pytest
from PIL import Image

from common.errors import ImageError
from common.faces.alignment import LANDMARK_TARGETS, align_face, resize_crop, similarity_transform
from common.faces.images import decode_image, load_image

POINTS = np.array(LANDMARK_TARGETS)


def moved(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ turn.T + shift


@pytest.mark.parametrize("size", [128, 200])
@pytest.mark.parametrize(("degrees", "scale", "shift"), [(0, 1, (0, 0)), (17, 1.4, (90, 40)), (-30, 6, (600, 900))])
def test_landmarks_land_on_the_template_within_a_pixel(size, degrees, scale, shift):
    landmarks = moved(POINTS, degrees, scale, shift)
    side = int(landmarks.max() + 100 * scale)
    for point, target in zip(landmarks, POINTS, strict=True):
        image = np.zeros((side, side, 3), np.uint8)
        cv2.circle(image, tuple(int(round(value)) for value in point), int(5 * scale), (255, 255, 255), -1)
        weight = align_face(image, landmarks, size)[:, :, 0].astype(float)
        rows, columns = np.mgrid[:size, :size]
        found = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        assert np.abs(found - ((target + 0.5) * size / 200 - 0.5)).max() < 1


def test_a_face_on_the_template_is_left_as_it_is():
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8), (200, 200))
    assert np.abs(align_face(image, POINTS, 200).astype(int) - image).max() <= 1


def test_fine_patterns_are_averaged_not_sampled():
    board = (np.indices((1600, 1600)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    crop = align_face(board, (POINTS + 0.5) * 8 - 0.5, 200)
    assert crop.std() < 3 and crop.mean() == pytest.approx(127.5, abs=2)


def test_transform_never_mirrors_and_refuses_degenerate_landmarks():
    mirrored = POINTS * [-1, 1]
    assert np.linalg.det(similarity_transform(mirrored, 128)[:, :2]) > 0
    for landmarks in (np.zeros((5, 2)), np.full((5, 2), np.nan)):
        with pytest.raises(ValueError, match="finite and further apart"):
            similarity_transform(landmarks, 128)
    with pytest.raises(ValueError, match=r"\[5, 2\], not \(4, 2\)"):
        similarity_transform(np.zeros((4, 2)), 128)


def test_ready_crops():
    image = np.zeros((100, 160, 3), np.uint8)
    image[:, 30:130] = 200
    assert resize_crop(image, 50).shape == (50, 50, 3) and resize_crop(image, 50).min() == 200
    square = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(resize_crop(square, 64), square)
    assert resize_crop(square, 128).shape == (128, 128, 3)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_exif_rotation_is_applied():
    image = Image.new("RGB", (60, 40), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 20, 20))  # red in the stored upper left corner
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: upper left becomes upper right
    upright = decode_image(encoded(image, "JPEG", exif=exif, quality=95), "x.jpg")
    assert upright.shape == (60, 40, 3)
    assert upright[5, 35, 0] > 200 and upright[5, 5, 2] > 200


def test_unusual_pictures_keep_their_colours():
    cmyk = decode_image(encoded(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG", quality=95), "cmyk.jpg")
    assert np.abs(cmyk[10, 10].astype(int) - [254, 0, 0]).max() < 12
    grey16 = Image.fromarray(np.full((20, 20), 32768, np.uint16))
    assert decode_image(encoded(grey16, "PNG"), "16.png")[10, 10].tolist() == [128, 128, 128]
    transparent = decode_image(encoded(Image.new("RGBA", (20, 20), (255, 0, 0, 0)), "PNG"), "rgba.png")
    assert transparent[10, 10].tolist() == [255, 255, 255]
    floats = np.full((20, 20), 77, np.float32)
    assert decode_image(encoded(Image.fromarray(floats), "TIFF"), "f.tif")[10, 10].tolist() == [77] * 3
    assert decode_image(encoded(Image.fromarray(floats / 255), "TIFF"), "f.tif")[10, 10].tolist() == [77] * 3
    palette = Image.new("P", (20, 20), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30] + [0] * 762)
    assert decode_image(encoded(palette, "PNG"), "p.png")[10, 10].tolist() == [10, 200, 30]
    assert decode_image(encoded(Image.new("L", (20, 20), 77), "PNG"), "l.png")[10, 10].tolist() == [77] * 3


def test_unusable_pictures_are_refused_by_name(tmp_path):
    good = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")
    cases = {
        "cut.jpg": (good[: len(good) // 2], "broken"),
        "zero.jpg": (b"", "empty"),
        "text.jpg": (b"hello", "not an image"),
        "dot.png": (encoded(Image.new("RGB", (1, 1)), "PNG"), "too small \\(1 x 1 px"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=f"{name}: .*{message}"):
            load_image(tmp_path / name)
    with pytest.raises(ImageError, match="absent.jpg: there is no such file"):
        load_image(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        load_image(tmp_path)


def test_a_broken_avif_is_refused_like_any_other():
    data = bytearray(encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "AVIF"))
    refused = 0
    for place in range(0, len(data), 7):
        broken = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        try:
            decode_image(bytes(broken), "x.avif")
        except ImageError:
            refused += 1
    assert refused > 5


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="bomb.png: .*too large"):
        decode_image(encoded(Image.new("RGB", (64, 64)), "PNG"), "bomb.png")
