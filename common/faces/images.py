"""From the bytes of an image to RGB uint8, upright, in bounded memory."""

import io
import sys
import threading
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from pillow_heif import register_heif_opener

from common.errors import ImageError
from common.faces.photo_files import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from common.faces.photo_files import is_drawing, read_bytes

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "HEIF", "JPEG2000", "PPM")
MOST_MEMORY = 520_000_000  # bytes that an image may take while it is decoded
PIXEL_BYTES = {"WEBP": 22, "AVIF": 12, "HEIF": 12, "JPEG2000": 19}  # that decoding takes for a pixel, buffers included
PLAIN_BYTES, PROGRESSIVE_BYTES = 7, 6  # of any other format: Pillow's image and ours; more for a progressive JPEG
MOST_PIXELS = 89_478_485  # of an image; Pillow warns above it and refuses twice as many
STRIP = 1_000_000  # pixels turned into RGB at once
SMALLEST_SIDE = 16  # pixels; below it there is no face to look at
DRAFT_SIDE = 960  # pixels that the longer side of a draft has at least


def load_image(path: str | Path) -> np.ndarray:
    """Read an image file as [H, W, 3] uint8 RGB, upright; raises ImageError if it cannot be used."""
    return decode_image(read_bytes(path, str(path)), str(path))


class Photo:
    """A photo of which a draft is decoded at once, and the whole only where it is asked for.

    draft: [h, w, 3] uint8 RGB, upright; a large JPEG is decoded at half, a quarter or an eighth of its size (960
    pixels of the longer side or more), in a fraction of the time. size: (width, height) of the whole, in pixels.
    Raises ImageError naming `name`; `whole` too.
    """

    def __init__(self, data: bytes, name: str):
        self.data, self.name = data, name
        self.draft, self.size = _decode(data, name, DRAFT_SIDE)
        self._whole = self.draft if self.draft.shape[1::-1] == self.size else None
        self._lock = threading.Lock()

    @property
    def whole(self) -> np.ndarray:
        """The photo [H, W, 3] uint8 RGB, upright."""
        with self._lock:
            if self._whole is None:
                self._whole = decode_image(self.data, self.name)
            return self._whole


def open_photo(path: str | Path) -> Photo:
    """Read an image file as a Photo; raises ImageError if it cannot be used."""
    return Photo(read_bytes(path, str(path)), str(path))


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of an image into [H, W, 3] uint8 RGB, upright; raises ImageError naming `name`."""
    return _decode(data, name)[0]


def _decode(data: bytes, name: str, draft: int = 0) -> tuple[np.ndarray, tuple[int, int]]:
    """An image and its (width, height); with `draft` a JPEG is decoded smaller than that, its longer side at least so.

    Raises ImageError.
    """
    if not data:
        raise ImageError(f"{name}: the file is empty.")
    if is_drawing(data):
        raise ImageError(f"{name}: this is a drawing of age-by-difference itself, not a photo.")
    try:
        register_heif_opener()
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ImageError("the image is too large; shrink it below 89 megapixels.")
            size = _fit_memory(picture, draft)
            _say_if_several(picture, name)
            image, orientation = _to_rgb(picture), _orientation(picture)
        image, size = _upright(image, orientation), size[::-1] if orientation in (5, 6, 7, 8) else size
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: the image is too large; shrink it below 89 megapixels.") from None
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: this is not an image in a known format (JPEG, PNG, WebP, …).") from None
    except MemoryError:
        raise ImageError(f"{name}: the image needs more memory than there is.") from None
    except Exception as error:  # decoders raise whatever their parsers do
        why = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: the image is broken ({why}).") from None
    if min(size) < SMALLEST_SIDE:
        sides = f"{size[0]} x {size[1]}"
        raise ImageError(f"{name}: the image is too small ({sides} px, at least {SMALLEST_SIDE} needed).")
    return image, size


def _fit_memory(picture: Image.Image, draft: int) -> tuple[int, int]:
    """Have a JPEG decoded at half its size where it would take too much memory; raises ImageError if that is too much.

    The image is opened, but not decoded yet. Returns its (width, height) so far; with `draft` it is then decoded at
    the smallest size whose longer side has so many pixels.
    """
    pixels = picture.width * picture.height
    each: float = PIXEL_BYTES.get(picture.format or "", PLAIN_BYTES)
    progressive = PROGRESSIVE_BYTES if picture.info.get("progressive") else 0
    jpeg = picture.format in ("JPEG", "MPO")
    half = 2 if jpeg and pixels * (each + progressive) > MOST_MEMORY else 1
    if pixels * (each / half**2 + progressive) > MOST_MEMORY:
        most = int(MOST_MEMORY / (each / half**2 + progressive) / 10**6)
        raise ImageError(f"the image is too large for its kind; shrink it below {most} megapixels.")
    width, height = -(-picture.width // half), -(-picture.height // half)
    part = next((part for part in (8, 4, 2) if draft and max(width, height) >= draft * part), 1)
    if jpeg and half * part > 1:
        picture.draft("RGB", (picture.width // (half * part), picture.height // (half * part)))
    return width, height


def _say_if_several(picture: Image.Image, name: str) -> None:
    if picture.format in ("TIFF", "GIF", "WEBP") and getattr(picture, "is_animated", False):
        print(f"{name}: only the first of its pages or frames is looked at.", file=sys.stderr)


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation 1 to 8; 1 if it is not said or the EXIF data is broken."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # whatever it holds, EXIF never costs the image
        return 1


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    turned = {
        2: lambda: image[:, ::-1],
        3: lambda: image[::-1, ::-1],
        4: lambda: image[::-1],
        5: lambda: image.swapaxes(0, 1),
        6: lambda: image[::-1].swapaxes(0, 1),
        7: lambda: image[::-1, ::-1].swapaxes(0, 1),
        8: lambda: image[:, ::-1].swapaxes(0, 1),
    }
    return np.ascontiguousarray(turned[orientation]()) if orientation in turned else image


def _to_rgb(picture: Image.Image) -> np.ndarray:
    """An image as [H, W, 3] uint8 RGB, strip by strip, so that it is in memory twice at most."""
    picture.load()
    image = np.empty((picture.height, picture.width, 3), np.uint8)
    step = max(1, STRIP // picture.width)
    boxes = [(0, top, picture.width, min(picture.height, top + step)) for top in range(0, picture.height, step)]
    deep = picture.mode in ("I", "F") or picture.mode.startswith("I;16")
    brightest = max(_numbers(picture.crop(box)).max() for box in boxes) if deep and picture.mode == "F" else 65535.0
    for box in boxes:
        part = picture.crop(box)
        image[box[1] : box[3]] = _deep_to_rgb(_numbers(part), brightest) if deep else _strip_to_rgb(part)
    return image


def _numbers(picture: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(picture, np.float64))  # [H, W] 16-bit grey, or floats in 0..1 or 0..255


def _deep_to_rgb(values: np.ndarray, brightest: float) -> np.ndarray:
    nominal = 65535.0 if brightest > 255 else 255.0 if brightest > 1 else 1.0
    scale = 255.0 / nominal
    grey = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _strip_to_rgb(picture: Image.Image) -> np.ndarray:
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
