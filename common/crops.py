"""From a picture file to an aligned face crop; RGB uint8 throughout."""

import io
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from pillow_heif import register_heif_opener
from skimage.transform import SimilarityTransform

from common.errors import ImageError
from common.photo_files import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from common.photo_files import is_drawing, read_bytes

TEMPLATE_SIZE = 200
# Left eye, right eye, nose, left and right mouth corner (x, y) in the template frame.
TEMPLATE = ((60.0, 58.0), (138.0, 58.0), (98.0, 104.0), (63.0, 139.0), (132.0, 139.0))
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "HEIF", "JPEG2000", "PPM")
MOST_MEMORY = 520_000_000  # bytes that a picture may take while it is decoded
PIXEL_BYTES = {"WEBP": 22, "AVIF": 12, "HEIF": 12, "JPEG2000": 19}  # that decoding takes for a pixel, buffers included
PLAIN_BYTES, PROGRESSIVE_BYTES = 7, 6  # of any other format: Pillow's picture and ours; more for a progressive JPEG
STRIP = 1_000_000  # pixels turned into RGB at once
SMALLEST_SIDE = 16  # pixels; below it there is no face to look at


def load_image(path: str | Path) -> np.ndarray:
    """Read a picture file as [H, W, 3] uint8 RGB, upright; raises ImageError if it cannot be used."""
    return decode_image(read_bytes(path, str(path)), str(path))


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of a picture into [H, W, 3] uint8 RGB, upright; raises ImageError naming `name`."""
    if not data:
        raise ImageError(f"{name}: the file is empty.")
    if is_drawing(data):
        raise ImageError(f"{name}: this is a drawing of age-by-difference itself, not a photo.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken EXIF
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            register_heif_opener()
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                _fit_memory(picture)
                _say_if_several(picture, name)
                image, orientation = _to_rgb(picture), _orientation(picture)
            image = _upright(image, orientation)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{name}: the picture is too large; shrink it below 89 megapixels.") from None
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: this is not a picture in a known format (JPEG, PNG, WebP, …).") from None
    except MemoryError:
        raise ImageError(f"{name}: the picture needs more memory than there is.") from None
    except Exception as error:  # decoders raise whatever their parsers do
        why = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: the picture is broken ({why}).") from None
    if min(image.shape[:2]) < SMALLEST_SIDE:
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise ImageError(f"{name}: the picture is too small ({size} px, at least {SMALLEST_SIDE} needed).")
    return image


def _fit_memory(picture: Image.Image) -> None:
    """Have a JPEG decoded at half its size where it would take too much memory; raises ImageError if that is too much.

    The picture is opened, but not decoded yet.
    """
    pixels, each = picture.width * picture.height, PIXEL_BYTES.get(picture.format, PLAIN_BYTES)
    progressive = PROGRESSIVE_BYTES if picture.info.get("progressive") else 0
    if picture.format in ("JPEG", "MPO") and pixels * (each + progressive) > MOST_MEMORY:
        picture.draft("RGB", (picture.width // 2, picture.height // 2))
        each = each / 4
    if pixels * (each + progressive) > MOST_MEMORY:
        most = int(MOST_MEMORY / (each + progressive) / 10**6)
        raise ImageError(f"the picture is too large for its kind; shrink it below {most} megapixels.")


def _say_if_several(picture: Image.Image, name: str) -> None:
    if picture.format in ("TIFF", "GIF", "WEBP") and getattr(picture, "is_animated", False):
        print(f"{name}: only the first of its pages or frames is looked at.", file=sys.stderr)


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation 1 to 8; 1 if it is not said or the EXIF data is broken."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # whatever it holds, EXIF never costs the picture
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
    """A picture as [H, W, 3] uint8 RGB, strip by strip, so that it is in memory twice at most."""
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
    return np.asarray(picture.convert("RGB"))


def similarity_transform(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Least-squares similarity [2, 3] float64 from picture pixels to a crop of `size` pixels.

    `landmarks` [5, 2] are x, y of left eye, right eye, nose, left and right mouth corner. A pixel's coordinate
    is that of its centre. Raises ValueError if the landmarks are not finite or fall together.
    """
    landmarks = np.asarray(landmarks, float)
    if landmarks.shape != (5, 2):
        raise ValueError(f"landmarks must be [5, 2], not {landmarks.shape}.")
    if not np.isfinite(landmarks).all() or np.ptp(landmarks, axis=0).max() < 1:
        raise ValueError("landmarks must be finite and further apart than a pixel.")
    scale = size / TEMPLATE_SIZE
    target = (np.array(TEMPLATE) + 0.5) * scale - 0.5  # [5, 2] pixel centres of the smaller frame
    return SimilarityTransform.from_estimate(landmarks, target).params[:2]


def align_face(image: np.ndarray, landmarks: np.ndarray, size: int = 128) -> np.ndarray:
    """Turn, scale and cut a face out of [H, W, 3] uint8 so that its landmarks lie on the template.

    Returns [size, size, 3] uint8; beyond the picture its edge is repeated. Raises ValueError for degenerate
    landmarks.
    """
    matrix = similarity_transform(landmarks, size)
    shrink = 1 / np.hypot(matrix[0, 0], matrix[1, 0])  # picture pixels in a pixel of the crop
    if shrink > 1:
        # Warping samples single points, so a large face is first averaged down to the crop's resolution.
        height, width = (max(1, round(side / shrink)) for side in image.shape[:2])
        ratio = np.array([image.shape[1] / width, image.shape[0] / height])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        matrix = similarity_transform((np.asarray(landmarks, float) + 0.5) / ratio - 0.5, size)
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def resize_crop(crop: np.ndarray, size: int) -> np.ndarray:
    """Bring a ready crop [H, W, 3] uint8 to [size, size, 3]; the centre square if it is not square."""
    side = min(crop.shape[:2])
    top, left = (crop.shape[0] - side) // 2, (crop.shape[1] - side) // 2
    square = np.ascontiguousarray(crop[top : top + side, left : left + side])
    method = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return square if side == size else cv2.resize(square, (size, size), interpolation=method)
