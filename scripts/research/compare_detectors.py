"""Found, missed and false faces of the detector, beside its predecessor MTCNN where mtcnn-runtime is installed.

    python scripts/research/compare_detectors.py --photos ../shared/data/photos --fgnet ../shared/data/FGNET_dev.tar
    python scripts/research/compare_detectors.py --photos ../shared/data/photos --speed
    python scripts/research/compare_detectors.py --fit data/prepared/utkface --limit 1500      # the target points

Portraits (one face each) are put into group photos, turned, darkened, blurred, cropped and covered in memory. Where
their faces lie is taken from the detector itself on the portraits as they are. Ages are those of the released base.
"""

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from PIL import Image

from common.base.regressor import AgePredictBasicPipeline
from common.data.manifest import load_prepared
from common.data.source import Source
from common.errors import DataError, UserError
from common.evaluation.tables import DASH, markdown
from common.faces.alignment import LANDMARK_TARGETS, TEMPLATE, TEMPLATE_SIZE, similarity_transform, warp
from common.faces.detection import CROP, Face, FaceDetector
from common.faces.images import Photo, decode_image

SIDES = (40, 60, 100, 200, 450)  # pixels of the faces of a group photo
NEAR = 0.5  # of a face's longer side: how far from its centre a box may lie that finds it
REPEATS = 5  # timings of each file
ROOM = 2.4  # longer sides of a face that its cut-out takes


class Detector(Protocol):
    """What is compared."""

    def detect(self, image: np.ndarray) -> list[Face]: ...


class Scene(NamedTuple):
    """An image [H, W, 3] uint8 and the true centre and longer side of each of its faces, [K, 3] pixels."""

    image: np.ndarray
    faces: np.ndarray


class Mtcnn:
    """The predecessor as it was used: at 640 pixels, at 1600 if nothing was found, then with a border."""

    def __init__(self):
        from mtcnnruntime import MTCNN

        self.network = MTCNN()

    def detect(self, image: np.ndarray) -> list[Face]:
        """Faces of [H, W, 3] uint8 RGB, the largest first."""
        for side, border in ((640, 0.0), (1600, 0.0), (640, 0.25)):
            if (side == 640 or max(image.shape[:2]) > 640) and (faces := self._search(image, side, border)):
                return sorted(faces, key=lambda face: -np.prod(np.subtract(face.box[2:], face.box[:2])))
        return []

    def _search(self, image: np.ndarray, side: int, border: float) -> list[Face]:
        ratio = max(1.0, max(image.shape[:2]) * (1 + 2 * border) / side)
        size = tuple(max(1, round(length / ratio)) for length in image.shape[1::-1])
        edge = round(border * max(size))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if ratio > 1 else image
        small = cv2.copyMakeBorder(small, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
        try:
            boxes, landmarks = self.network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), 20.0)
        except ValueError:  # it found no candidate
            return []
        points = (np.array(landmarks, np.float32).reshape(-1, 2, 5).transpose(0, 2, 1) - edge) * ratio  # [K, 5, 2]
        found = [(tuple((box[:4] - edge) * ratio), marks, box[4]) for box, marks in zip(boxes, points, strict=True)]
        return [Face(*face) for face in found if face[2] >= 0.9 and np.ptp(face[1], axis=0).min() >= 1]


def place_of(face: Face) -> np.ndarray:
    """Centre and longer side [3] of a box."""
    left, top, right, bottom = face.box
    return np.array([(left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top)])


def count(detector: Detector, scenes: list[Scene]) -> tuple[int, int, int]:
    """Found, missed and false faces; each box finds one face at most."""
    found = missed = false = 0
    for scene in scenes:
        boxes = [place_of(face) for face in detector.detect(scene.image)]
        for x, y, side in scene.faces:
            hits = [box for box in boxes if max(abs(box[0] - x), abs(box[1] - y)) < NEAR * side]
            hits = [box for box in hits if 0.5 < box[2] / side < 2]
            found, missed = found + bool(hits), missed + (not hits)
            boxes = [box for box in boxes if not hits or box is not hits[0]]
        false += len(boxes)
    return found, missed, false


def group_photo(portraits: list[Scene], sides: list[int], width: int, height: int, seed: int) -> Scene:
    """Faces of these sides (pixels) on a blurred noisy wall, in rows, each with the shoulders it came with."""
    random = np.random.default_rng(seed)
    wall = cv2.resize(random.integers(60, 200, (height // 40, width // 40, 3), dtype=np.uint8), (width, height))
    left, top, row, faces = 0, 0, 0, []
    for number, side in enumerate(sides):
        portrait = portraits[random.integers(len(portraits)) if number >= len(portraits) else number]
        x, y, own = portrait.faces[0]
        room = int(ROOM * side)
        if left + room > width:
            left, top, row = 0, top + row, 0
        if top + room > height:
            break
        shift = np.array([x, y]) * -side / own + (room - 1) / 2
        cut = warp(portrait.image, np.hstack([side / own * np.eye(2), shift[:, None]]), room)
        wall[top : top + room, left : left + room] = cut
        faces.append((left + room / 2, top + room / 2, side))
        left, row = left + room, max(row, room)
    return Scene(wall, np.array(faces))


def changed(scene: Scene, change: Callable[[np.ndarray, float], np.ndarray]) -> Scene:
    """A portrait whose pixels were changed, not their places; `change` is told the side of the face."""
    return Scene(change(scene.image, scene.faces[0, 2]), scene.faces)


def lying(scene: Scene, turns: int) -> Scene:
    """A portrait turned counter-clockwise by quarter turns."""
    (x, y, side), (height, width) = scene.faces[0], scene.image.shape[:2]
    x, y = [(x, y), (y, width - x), (width - x, height - y), (height - y, x)][turns]
    return Scene(np.ascontiguousarray(np.rot90(scene.image, turns)), np.array([[x, y, side]]))


def tilted(scene: Scene, degrees: float) -> Scene:
    """A portrait turned about the middle of its face."""
    x, y, side = scene.faces[0]
    matrix = cv2.getRotationMatrix2D((x, y), degrees, 1)
    size = scene.image.shape[1::-1]
    return Scene(cv2.warpAffine(scene.image, matrix, size, borderMode=cv2.BORDER_REPLICATE), scene.faces)


def filling(scene: Scene) -> Scene:
    """The face alone: a portrait cut off at the box."""
    x, y, side = scene.faces[0]
    left, top = (max(0, round(value - 0.55 * side)) for value in (x, y))
    part = scene.image[top : round(y + 0.55 * side), left : round(x + 0.55 * side)]
    return Scene(np.ascontiguousarray(part), np.array([[x - left, y - top, side]]))


def framed(image: np.ndarray, side: float) -> np.ndarray:
    """A portrait [H, W, 3] whose outer tenth is black and white stripes."""
    edge = round(0.1 * min(image.shape[:2]))
    stripes = np.indices(image.shape[:2]).sum(axis=0)[:, :, None] // 8 % 2 * np.full(3, 255)
    inner = np.zeros(image.shape[:2], bool)
    inner[edge:-edge, edge:-edge] = True
    return np.where(inner[:, :, None], image, stripes).astype(np.uint8)


def conditions(portraits: list[Scene]) -> dict[str, list[Scene]]:
    """Every kind of image that is made of the portraits."""
    made = {
        f"group of 12 faces of {side} px": [group_photo(portraits, [side] * 12, 4500, 3400, seed) for seed in (0, 1)]
        for side in SIDES
    }
    mixed = [450, *[60] * 10]
    made["one face of 450 px, ten of 60"] = [group_photo(portraits, mixed, 4000, 3000, seed) for seed in (0, 1)]
    for turns in (1, 2, 3):
        made[f"turned by {90 * turns}°"] = [lying(scene, turns) for scene in portraits]
    for degrees in (30, 45):
        made[f"tilted by {degrees}°"] = [tilted(scene, degrees) for scene in portraits]
    made["dark (5 % of the light)"] = [
        changed(scene, lambda image, _: (image * 0.05).astype(np.uint8)) for scene in portraits
    ]
    made["blurred (8 % of the face)"] = [
        changed(scene, lambda image, side: cv2.GaussianBlur(image, (0, 0), 0.08 * side)) for scene in portraits
    ]
    made["a striped frame"] = [changed(scene, framed) for scene in portraits]
    made["the face fills the photo"] = [filling(scene) for scene in portraits]
    return made


def read_images(path: Path, table: str) -> tuple[list[np.ndarray], np.ndarray]:
    """The images [H, W, 3] of a folder or archive and their ages [N] (years), by its table with path and age."""
    source = Source(path)
    folder, rows = source.table(table)
    names = [folder + name for name in rows["path"]]
    images = {name: decode_image(data, name) for name, data in source.read(set(names))}
    return [images[name] for name in names], rows["age"].astype(float).to_numpy()


def ages_line(
    name: str, images: list[np.ndarray], ages: np.ndarray, detectors: dict[str, Detector]
) -> tuple[list[str], dict[str, tuple[int, int, int]]]:
    """A row of the table of ages, and found, missed and false by detector; every image has one face."""
    base = AgePredictBasicPipeline.from_weights(device="cpu")
    estimates, counts = {}, {}
    for key, detector in detectors.items():
        faces = [detector.detect(image) for image in images]
        targets = TEMPLATE if isinstance(detector, Mtcnn) else LANDMARK_TARGETS
        crops = [
            warp(image, similarity_transform(found[0].landmarks, 128, targets), 128) if found else image
            for image, found in zip(images, faces, strict=True)
        ]
        given = np.array([bool(found) for found in faces])
        estimates[key] = np.full(len(images), np.nan)
        estimates[key][given] = base.predict([crop for crop, there in zip(crops, given, strict=True) if there]).ages
        extra = sum(max(0, len(found) - 1) for found in faces)
        counts[key] = (int(given.sum()), int((~given).sum()), extra)
        if isinstance(detector, FaceDetector):
            doubtful = sum(bool(found and found[0].doubtful) for found in faces)
            turned = sum(bool(found and found[0].turned) for found in faces)
    errors = [f"{np.nanmean(np.abs(estimate - ages)):.2f}" for estimate in estimates.values()]
    values = list(estimates.values())
    moved = f"{np.nanmean(np.abs(values[0] - values[-1])):.2f}" if len(values) > 1 else DASH
    return [name, str(len(images)), *errors, moved, str(turned), str(doubtful)], counts


def fit(folder: Path, limit: int) -> str:
    """The medians of the landmarks over `limit` crops of a prepared set, in the frame of 200 pixels, as a line."""
    crops, detector = load_prepared(folder).crops, FaceDetector()
    rows = np.sort(np.random.default_rng(0).choice(len(crops), min(limit, len(crops)), replace=False))
    faces = [detector.detect(np.array(crops[row])) for row in rows]
    points = np.array([found[0].landmarks for found in faces if found and not found[0].turned])  # [N, 5, 2]
    if not len(points):
        raise DataError(f"{folder}: no face was found in its crops.")
    targets = np.median((points + 0.5) * TEMPLATE_SIZE / crops.shape[1] - 0.5, axis=0).round(1)
    return f"LANDMARK_TARGETS of {len(points)} of {len(rows)} crops: {targets.tolist()}"


def twelve_megapixels(portraits: list[Scene]) -> dict[str, bytes]:
    """JPEG files of 4000 x 3000 pixels: a portrait, and one large face beside ten small ones."""
    large = cv2.copyMakeBorder(
        cv2.resize(portraits[0].image, (3000, 3000)), 0, 0, 500, 500, cv2.BORDER_REPLICATE
    )  # [3000, 4000, 3]
    mixed = group_photo(portraits, [450, *[60] * 10], 4000, 3000, 0).image
    return {name: jpeg(image) for name, image in (("a portrait", large), ("one large face, ten small", mixed))}


def jpeg(image: np.ndarray) -> bytes:
    """The bytes of a JPEG file of [H, W, 3] uint8 RGB."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=90)
    return data.getvalue()


def crops_of(detector: Detector, data: bytes) -> None:
    """What a file costs: decoded, searched, its faces cut out."""
    if isinstance(detector, FaceDetector):
        detector.crops(Photo(data, "photo"), CROP)
        return
    image = decode_image(data, "photo")
    for face in detector.detect(image):
        warp(image, similarity_transform(face.landmarks, CROP, TEMPLATE), CROP)


def speed(detectors: dict[str, Detector], files: dict[str, bytes], repeats: int) -> list[list[str]]:
    """A row for each file: median milliseconds of CPU of each detector, timed in turn, and the ratio of the medians."""
    rows = []
    for name, data in files.items():
        seconds = np.empty((repeats + 1, len(detectors)))
        for row in seconds:
            for place, detector in enumerate(detectors.values()):
                started = time.process_time()
                crops_of(detector, data)
                row[place] = time.process_time() - started
        median = np.median(seconds[1:], axis=0)
        rows.append([name, *(f"{1000 * value:.0f}" for value in median), f"{median[0] / median[-1]:.1f}"])
    return rows


def both() -> dict[str, Detector]:
    """The detectors that there are, the predecessor first."""
    try:
        return {"MTCNN": Mtcnn(), "SCRFD": FaceDetector()}
    except ImportError:
        print("mtcnn-runtime is not installed: the present detector alone is measured.", file=sys.stderr)
        return {"SCRFD": FaceDetector()}


def compare(photos: Path, fgnet: Path) -> list[str]:
    """Markdown tables: faces by condition, then ages."""
    detectors = both()
    images, ages = read_images(photos, "photos.csv")
    portraits = as_scenes(images)
    rows = []
    for name, scenes in conditions(portraits).items():
        total = sum(len(scene.faces) for scene in scenes)
        cells = [" / ".join(map(str, count(detector, scenes))) for detector in detectors.values()]
        rows.append([name, total, *cells])
    age_rows = []
    sets = {f"{len(images)} portraits": (images, ages), "FGNET_dev": read_images(fgnet, "labels.csv")}
    for name, (pictures, truth) in sets.items():
        line, counts = ages_line(name, pictures, truth, detectors)
        rows.append([name, len(pictures), *(" / ".join(map(str, values)) for values in counts.values())])
        age_rows.append(line)
    headers = ["photos", "faces", *(f"{name}: found / missed / false" for name in detectors)]
    age_headers = ["set", "faces", *(f"MAE, {name}" for name in detectors), "mean change", "turned", "doubtful"]
    return [*markdown(headers, rows), "", *markdown(age_headers, age_rows)]


def as_scenes(images: list[np.ndarray]) -> list[Scene]:
    """Portraits [H, W, 3] and where their faces lie."""
    detector = FaceDetector()
    return [Scene(image, place_of(detector.detect(image)[0])[None]) for image in images]


def time_both(photos: Path) -> list[str]:
    """Markdown table of the milliseconds of CPU that files take, from their bytes to the crops."""
    detectors, portraits = both(), as_scenes(read_images(photos, "photos.csv")[0][:12])
    files = {"portrait of 675 px": jpeg(portraits[0].image)}
    files |= {f"12 megapixels, {name}": data for name, data in twelve_megapixels(portraits).items()}
    headers = ["file", *(f"{name}: ms of CPU" for name in detectors), "ratio"]
    return markdown(headers, speed(detectors, files, REPEATS))


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--photos", type=Path, metavar="DIR", help="portraits with photos.csv (path,age)")
    add("--fgnet", type=Path, metavar="TAR", help="faces with labels.csv (path,age)")
    add("--speed", action="store_true", help="time both on files made of the portraits instead")
    add("--fit", type=Path, metavar="DIR", help="prepared crops: print the median landmarks instead")
    add("--limit", type=int, default=1500, metavar="N", help="crops that --fit looks at (1500)")
    options = parser.parse_args(argv)
    try:
        if options.photos and options.speed:
            print("\n".join(time_both(options.photos)))
        elif options.fit:
            print(fit(options.fit, options.limit))
        elif options.photos and options.fgnet:
            print("\n".join(compare(options.photos, options.fgnet)))
        else:
            raise DataError("Give --photos and --fgnet, or --fit.")
    except UserError as error:
        print(f"compare_detectors: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
