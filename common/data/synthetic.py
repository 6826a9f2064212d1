"""Synthetic faces whose age can be seen: a first training run and the tests need no download.

python -m common.data.synthetic --sheet faces.png    # shows some, prints how well a linear probe reads their age
"""

import argparse
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

FRAME = 400  # pixels of the drawing: the 200-pixel template frame twice enlarged
SKINS = {"a": ((236, 196, 168), (214, 164, 128)), "b": ((156, 108, 76), (96, 62, 44))}  # lightest, darkest RGB
HAIRS = np.array([(40, 30, 26), (90, 58, 34), (176, 132, 70), (120, 50, 24)], float)  # RGB
OLDEST = 90  # years


@dataclass(frozen=True)
class Identity:
    """What stays the same in all images of a drawn person (colours RGB 0..255, lengths in template pixels)."""

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    gender: str
    group: str
    width: float
    jaw: float
    eye: float
    nose: float
    mouth: float
    hair_length: float
    grey_onset: float
    wrinkle_rate: float


def sample_identity(rng: np.random.Generator) -> Identity:
    """Draw a person."""
    group, gender = str(rng.choice(list(SKINS))), str(rng.choice(["male", "female"]))
    light, dark = (np.array(colour, float) for colour in SKINS[group])
    return Identity(
        skin=tuple(light + (dark - light) * rng.random()),
        hair=tuple(HAIRS[rng.integers(len(HAIRS))] * rng.uniform(0.6, 1.1)),
        iris=tuple(rng.uniform(30, 140, 3)),
        gender=gender,
        group=group,
        width=rng.normal(78, 4),
        jaw=rng.normal(0, 5),
        eye=rng.normal(9.5, 0.8),
        nose=rng.normal(8, 1),
        mouth=rng.normal(0, 3),
        hair_length=rng.uniform(20, 60) if gender == "female" else rng.uniform(-5, 10),
        grey_onset=rng.normal(45, 8),
        wrinkle_rate=rng.uniform(0.7, 1.3),
    )


def render_face(person: Identity, age: float, camera: int, rng: np.random.Generator, size: int = 128) -> np.ndarray:
    """Draw a person at an age (years) as seen by camera 0 or 1: crop [size, size, 3] uint8 RGB.

    Eyes, nose and mouth lie near the crop template. Camera 1 is warmer, flatter, softer and noisier.
    """
    background = rng.uniform(60, 210, 3)
    canvas = np.full((FRAME, FRAME, 3), background, np.float32)  # [F, F, 3]
    child = float(np.clip((16 - age) / 16, 0, 1))
    growth = float(np.clip((age - person.grey_onset) / 25, 0, 1))
    hair = np.array(person.hair) * (1 - growth) + 205 * growth
    draw_head(canvas, person, age, child, hair)
    draw_features(canvas, person, child, rng.uniform(-0.5, 1.5))
    draw_wrinkles(canvas, person, age, rng)
    canvas = _jittered(canvas, rng)
    return photograph(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), camera, rng)


def _ellipse(canvas: np.ndarray, centre, axes, colour, angle: float = 0.0) -> None:
    centre, axes = (tuple(int(round(2 * value)) for value in pair) for pair in (centre, axes))
    cv2.ellipse(canvas, centre, axes, angle, 0, 360, [float(value) for value in colour], -1, cv2.LINE_AA)


def _arc(canvas: np.ndarray, centre, axes, span, colour, width: float) -> None:
    centre, axes = (tuple(int(round(2 * value)) for value in pair) for pair in (centre, axes))
    thickness, (start, end) = max(1, int(round(2 * width))), span
    cv2.ellipse(canvas, centre, axes, 0, start, end, [float(value) for value in colour], thickness, cv2.LINE_AA)


def draw_head(canvas: np.ndarray, person: Identity, age: float, child: float, hair: np.ndarray) -> None:
    """Draw neck, hair, ears, head and hairline onto [F, F, 3] float32; children are rounder."""
    skin = np.array(person.skin)
    width, height = person.width + 6 * child, 100 - 8 * child
    thin = np.clip((age - 35) / 50, 0, 1) if person.gender == "male" else 0.0
    _ellipse(canvas, (99, 215), (40 - 8 * child, 60), skin * 0.85)
    _ellipse(canvas, (99, 84 + person.hair_length / 2), (width + 9, 95 + person.hair_length / 2), hair)
    for side in (-1, 1):
        _ellipse(canvas, (99 + side * (width + 1), 92), (9, 17), skin * 0.9)
    _ellipse(canvas, (99, 98 + 4 * child), (width, height), skin)
    _ellipse(canvas, (99, 142), (width - 10 + person.jaw + 8 * child, 52 - 8 * child), skin)
    line = 12 - 18 * thin - 8 * child
    _ellipse(canvas, (99, line - 22), (width - 6, 40), hair)


def draw_features(canvas: np.ndarray, person: Identity, child: float, smile: float) -> None:
    """Draw eyes, brows, nose and mouth onto [F, F, 3] float32 at the template; children's eyes are larger."""
    skin = np.array(person.skin)
    eye = person.eye * (1 + 0.45 * child)
    for x in (60, 138):
        _ellipse(canvas, (x, 58), (eye * 1.35, eye * 0.85), (246, 244, 240))
        _ellipse(canvas, (x, 58), (eye * 0.62, eye * 0.75), person.iris)
        _ellipse(canvas, (x, 58), (eye * 0.3, eye * 0.36), (12, 12, 12))
        brow = np.array(person.hair) * (0.8 + 0.5 * child)
        _arc(canvas, (x, 50 - child * 2), (16, 10), (205, 335), brow, 3.0 - 1.8 * child)
    nose = person.nose * (1 - 0.35 * child)
    _ellipse(canvas, (99, 100), (nose, nose * 0.7), skin * 0.86)
    _arc(canvas, (99, 84), (nose * 0.8, 20), (20, 90), skin * 0.8, 1.2)
    lips = skin * np.array([0.88, 0.62, 0.62]) if person.gender == "female" else skin * np.array([0.85, 0.7, 0.68])
    _arc(canvas, (98, 139 - 8 * smile), (34 + person.mouth, 4 + 10 * abs(smile)), (15, 165), lips, 4.5 - child)


def draw_wrinkles(canvas: np.ndarray, person: Identity, age: float, rng: np.random.Generator) -> None:
    """Draw forehead lines, crow's feet, folds, eye bags and spots that deepen from 25 years on."""
    depth = float(np.clip((age - 25) / 60, 0, 1.1)) * person.wrinkle_rate
    if depth <= 0:
        return
    dark = np.array(person.skin) * (1 - 0.45 * min(depth, 1))
    for line in range(int(round(4 * depth))):
        _arc(canvas, (99, 44 - 7 * line + 20), (40, 22), (235, 305), dark, 0.6 + depth)
    for side, x in ((-1, 60), (1, 138)):
        for line in range(int(round(4 * depth))):
            start = (2 * (x + side * 18), 2 * (54 + 4 * line))
            end = (int(2 * (x + side * (26 + 4 * depth))), 2 * (48 + 7 * line))
            cv2.line(canvas, start, end, dark.tolist(), 2, cv2.LINE_AA)
        _arc(canvas, (x, 66), (15, 7), (20, 160), dark, 0.8 + 1.2 * depth)
        span = (-60, 60) if side > 0 else (120, 240)
        _arc(canvas, (99 + side * 26, 122), (16, 26), span, dark, 0.8 + 1.6 * depth)
    for _ in range(rng.poisson(10 * max(0.0, depth - 0.4))):
        _ellipse(canvas, (rng.uniform(40, 160), rng.uniform(20, 170)), (2, 1.6), dark)


def _jittered(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn by a few degrees and shift by a few pixels, as an alignment does."""
    matrix: np.ndarray = cv2.getRotationMatrix2D((FRAME / 2, FRAME / 2), rng.normal(0, 2.5), rng.normal(1, 0.02))
    matrix[:, 2] += rng.normal(0, 4, 2)
    return cv2.warpAffine(canvas, matrix, (FRAME, FRAME), borderMode=cv2.BORDER_REPLICATE)


def photograph(picture: np.ndarray, camera: int, rng: np.random.Generator) -> np.ndarray:
    """What a camera (0 or 1) makes of an image [S, S, 3] float32 0..255: [S, S, 3] uint8."""
    light = rng.normal(1, 0.08) * (1 + rng.normal(0, 0.12) * np.linspace(-1, 1, picture.shape[1]))[None, :, None]
    picture = picture * light
    noise = 3.0
    if camera == 1:
        picture = 120 + (picture - 110) * 0.7
        picture = cv2.GaussianBlur(picture, (0, 0), picture.shape[0] / 110) * np.array([1.12, 1.0, 0.82])
        noise = 7.0
    return np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)


def generate_faces(
    count: int, seed: int, size: int = 128, photos_per_person: int = 4
) -> tuple[np.ndarray, pd.DataFrame]:
    """Draw `count` faces: crops [count, size, size, 3] uint8 RGB, and a table whose row i describes crop i.

    Columns: name, age (whole years 0-90), person, gender, group, camera (0 or 1). Face i depends on (seed, i)
    alone, so a longer set begins with the shorter one.
    """
    crops = np.empty((count, size, size, 3), np.uint8)
    rows = []
    for number in range(count):
        who = number // photos_per_person
        person = sample_identity(np.random.default_rng([seed, who, 0]))
        rng = np.random.default_rng([seed, number, 1])
        age, camera = int(rng.integers(0, OLDEST + 1)), int(rng.integers(2))
        crops[number] = render_face(person, age, camera, rng, size)
        rows.append((f"synthetic_{number:06d}.png", age, f"p{who:05d}", person.gender, person.group, camera))
    return crops, pd.DataFrame(rows, columns=["name", "age", "person", "gender", "group", "camera"])


def linear_probe_mae(count: int = 600, seed: int = 0) -> tuple[float, float]:
    """MAE in years, on people not trained on, of ridge regression from 32 x 32 pixels, and of the mean age."""
    from sklearn.linear_model import RidgeCV

    crops, table = generate_faces(count, seed, size=32)
    pixels = crops.reshape(count, -1) / 255.0  # [N, 3072]
    people = table["person"].str[1:].astype(int).to_numpy()
    train, age = people % 4 != 0, table["age"].to_numpy(float)
    probe = RidgeCV(alphas=np.logspace(-1, 4, 11)).fit(pixels[train], age[train])
    error = np.abs(probe.predict(pixels[~train]) - age[~train]).mean()
    return float(error), float(np.abs(age[train].mean() - age[~train]).mean())


def contact_sheet(seed: int, people: int = 4) -> np.ndarray:
    """An image [rows * 128, 10 * 128, 3] uint8 of some people at ten ages, each in both cameras."""
    rows = []
    for who in range(people):
        person = sample_identity(np.random.default_rng([seed, who, 0]))
        for camera in (0, 1):
            ages = np.linspace(0, OLDEST, 10)
            faces = [render_face(person, age, camera, np.random.default_rng([seed, who, 2])) for age in ages]
            rows.append(np.concatenate(faces, axis=1))
    return np.concatenate(rows)


def main() -> None:
    """Print the linear probe's error; --sheet writes an image of some faces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=600, help="faces of the probe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", metavar="FILE.png", help="write an image of some faces")
    arguments = parser.parse_args()
    if arguments.sheet:
        cv2.imwrite(arguments.sheet, contact_sheet(arguments.seed)[:, :, ::-1])
    probe, mean = linear_probe_mae(arguments.count, arguments.seed)
    print(f"{arguments.count} faces: linear probe {probe:.2f} years, mean age {mean:.2f} years (MAE, other people)")


if __name__ == "__main__":
    main()
