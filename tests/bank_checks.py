"""What tests of banks share: a pipeline that takes a face's brightness for its age, and albums drawn for it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import ExifTags, Image

from common.faces.detection import Face, FaceCrop
from common.pipeline import AgePrediction
from scripts.build_reference_bank import parse_arguments

SIDE = 32


class Brightness:
    """Stands for a base pipeline: a crop of colour (r, g, b) looks r years old; an image is a row of square faces."""

    fingerprint = "abc"
    model = SimpleNamespace(config=SimpleNamespace(crop_size=SIDE))

    def faces(self, image: np.ndarray) -> list[FaceCrop]:
        """Every square of a row [S, n·S, 3] but black ones; a face as bright as 200 in green is ten times smaller."""
        height, width = image.shape[:2]
        squares = [image[:, left : left + height] for left in range(0, width - height + 1, height)]
        sides = [height / 10 if square[0, 0, 1] == 200 else float(height) for square in squares]
        boxes = [(0.0, 0.0, side, side) for side in sides]
        faces = [
            FaceCrop(Face(box, np.zeros((5, 2), np.float32), 1.0), square[:SIDE, :SIDE])
            for box, square in zip(boxes, squares, strict=True)
        ]
        return [face for face in faces if face.crop.any()]

    def predict(self, crops: np.ndarray) -> AgePrediction:
        colours = np.asarray(crops, np.float32).mean(axis=(1, 2))  # [N, 3]
        ages = np.where(colours[:, 0] == 255, np.nan, colours[:, 0])
        return AgePrediction(ages.astype(np.float32), np.zeros((len(ages), 1), np.float32), colours + 1)


class Colours:
    """Stands for the network that recognises people: green and blue say who is shown."""

    def __call__(self, crops) -> np.ndarray:
        return np.array([np.asarray(crop)[..., 1:].mean(axis=(0, 1)) / 100 for crop in crops], np.float32)


def draw(path: Path, *colours: tuple[int, int, int], taken: str = "") -> Path:
    """An image of faces of these colours, taken on this EXIF date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.concatenate([np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in colours], axis=1)
    exif = Image.Exif()
    if taken:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
    Image.fromarray(image).save(path, exif=exif.tobytes() if taken else b"")
    return path


def words(source: Path, out: Path, *more: str):
    """The arguments of scripts/build_reference_bank.py."""
    return parse_arguments(["--source", str(source), "--out", str(out), *more])
