"""The dates in a photo's EXIF, from memory."""

import io
import re
import warnings

from PIL import ExifTags, Image


def exif_dates(data: bytes) -> tuple[str, str]:
    """When a photo was taken as its camera wrote it, and a date it is not later than; '' each where it did not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                exif = image.getexif()
            taken = exif.get_ifd(ExifTags.IFD.Exif)
        names = (ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTimeDigitized)
        stated = [str(text).strip("\0 ") for text in (*map(taken.get, names), exif.get(ExifTags.Base.DateTime)) if text]
        count = sum(bool(taken.get(name)) for name in names)
        usable = [bool(re.search("[1-9]", text)) for text in stated]  # "0000:00:00 …" is a camera's unknown
        first = next((text for text, good in zip(stated[:count], usable, strict=False) if good), "")
        return first, next((text for text, good in zip(stated, usable, strict=True) if good), "")
    except Exception:  # whatever a broken or hostile header makes a decoder raise: no date
        return "", ""
