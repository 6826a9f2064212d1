"""From a picture file to an aligned face crop; RGB uint8 throughout."""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from skimage.transform import SimilarityTransform

from common.errors import ImageError

TEMPLATE_SIZE = 200
# Left eye, right eye, nose, left and right mouth corner (x, y) in the template frame.
TEMPLATE = ((60.0, 58.0), (138.0, 58.0), (98.0, 104.0), (63.0, 139.0), (132.0, 139.0))
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
SMALLEST_SIDE = 16  # pixels; below it there is no face to look at


def load_image(path: str | Path) -> np.ndarray:
    """Read a picture file as [H, W, 3] uint8 RGB, upright; raises ImageError if it cannot be used."""
    return decode_image(read_bytes(path, str(path)), str(path))


def read_bytes(path: str | Path, name: str) -> bytes:
    """The bytes of a picture file; raises ImageError naming `name` if there is none."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file.") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: cannot be read: a folder without pictures.") from None
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror}).") from None
    except ValueError:  # a null byte in the name
        raise ImageError(f"{name}: this is not a usable file name.") from None


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of a picture into [H, W, 3] uint8 RGB, upright; raises ImageError naming `name`."""
    if not data:
        raise ImageError(f"{name}: the file is empty.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as picture:
                if picture.format == "EPS":  # a program in PostScript, which Pillow would have another program run
                    raise UnidentifiedImageError
                upright = ImageOps.exif_transpose(picture)
                image = _to_rgb(upright)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{name}: the picture is too large; shrink it below 89 megapixels.") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: this is not a picture in a known format (JPEG, PNG, WebP, …).") from None
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, RuntimeError) as error:
        raise ImageError(f"{name}: the picture is broken ({error}).") from None
    if min(image.shape[:2]) < SMALLEST_SIDE:
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise ImageError(f"{name}: the picture is too small ({size} px, at least {SMALLEST_SIDE} needed).")
    return image


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.nan_to_num(np.asarray(picture, np.float64))  # [H, W] 16-bit grey, or floats in 0..1 or 0..255
        nominal = 65535.0 if picture.mode != "F" or values.max() > 255 else 255.0 if values.max() > 1 else 1.0
        scale = 255.0 / nominal
        grey = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


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
