"""How much an estimate change when the image changes and the face does not: colour, detail, proportions, background.

    python scripts/research/evaluate_robustness.py --data data/prepared/utkface --split val --limit 500 --out val.csv
    python scripts/research/evaluate_robustness.py --manifest photos.csv --out robustness_photos.csv
    python scripts/research/evaluate_robustness.py --table robustness_val.csv

Every face is estimated as it is and in each variant. `moves` is the mean absolute difference from the estimate of the
face as it is; the last line compares the three composites of one face on a grey, a white and a cluttered background.
Writes the predictions, from which --table prints the table again.
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from common.data.manifest import SPLITS, age_bounds, drawn, load_prepared, read_manifest
from common.data.predictions import check_out, read_csv, write_table
from common.errors import DataError, UserError
from common.evaluation.metrics import paired_bootstrap
from common.evaluation.tables import DASH, markdown, signed_gain
from common.faces.images import ImageError
from common.inference.options import AlsoPositional
from common.pipeline import RELEASED, AgePredictBasicPipeline
from scripts.evaluate_references import SIMULATIONS

PLAIN = "as it is"
BACKGROUNDS = ("grey wall", "white wall", "clutter")


def jpeg(crop: np.ndarray, quality: int) -> np.ndarray:
    """The crop [S, S, 3] uint8 after saving as JPEG."""
    stored = cv2.imencode(".jpg", crop[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(stored, cv2.IMREAD_COLOR)[:, :, ::-1]


def stretched(crop: np.ndarray, factor: float) -> np.ndarray:
    """The crop [S, S, 3] with its face `factor` times as high for its width, the area kept, edges repeated."""
    size, high = len(crop), factor**0.5
    middle = (size - 1) / 2
    matrix = np.array([[1 / high, 0, middle - middle / high], [0, high, middle - middle * high]])
    return cv2.warpAffine(crop, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)


def face_mask(size: int) -> np.ndarray:
    """[S, S, 1] float 0..1: an ellipse around the aligned face (forehead to chin), soft at its edge."""
    y, x = np.mgrid[:size, :size] * 200 / size
    distance = np.hypot(
        (x - 99) / 68, (y - 95) / 86
    )  # 1 at the edge; places as in common/faces/alignment.py, 200-px frame
    return (1 / (1 + np.exp(25 * (distance - 1))))[:, :, None]


def clutter(size: int, seed: int) -> np.ndarray:
    """A background [S, S, 3] float of coloured blocks of 4, 8, 16 and 32 to a side."""
    random = np.random.default_rng(seed)
    layers = [
        cv2.resize(random.uniform(0, 255, (count, count, 3)), (size, size), interpolation=cv2.INTER_NEAREST)
        for count in (4, 8, 16, 32)
    ]
    return np.mean(layers, axis=0)


def on_background(crop: np.ndarray, behind: np.ndarray | float) -> np.ndarray:
    """The face of a crop [S, S, 3] uint8 before a background (an image, or one grey level)."""
    mask = face_mask(len(crop))
    return (mask * crop + (1 - mask) * behind).round().astype(np.uint8)


VARIANTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    PLAIN: lambda crop: crop,
    **SIMULATIONS,
    "JPEG quality 15": lambda crop: jpeg(crop, 15),
    "8 % longer": lambda crop: stretched(crop, 1.08),
    "8 % shorter": lambda crop: stretched(crop, 1 / 1.08),
    "grey wall": lambda crop: on_background(crop, 128),
    "white wall": lambda crop: on_background(crop, 250),
    "clutter": lambda crop: on_background(crop, clutter(len(crop), int(crop.sum()) % 1000)),
}


def read_faces(
    arguments: argparse.Namespace, pipeline: AgePredictBasicPipeline
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Manifest rows with an exact age, and their crops [S, S, 3]; raises DataError if there is none."""
    if arguments.manifest:
        manifest = read_manifest(arguments.manifest)
        crops = [_largest_face(pipeline, arguments.manifest.parent / path) for path in manifest["path"]]
    elif arguments.folder:
        prepared = load_prepared(arguments.folder)
        manifest, crops = prepared.manifest, prepared.crops
    else:
        raise DataError("Give a prepared folder, photos with --manifest, or stored predictions with --table.")
    low, high = age_bounds(manifest)
    rows = [row for row in range(len(manifest)) if low[row] == high[row] and crops[row] is not None]
    if arguments.split:
        rows = [row for row in rows if manifest["split"].iloc[row] == arguments.split]
    rows = drawn(np.array(rows, int), arguments.limit, 0).tolist()
    if not rows:
        raise DataError("There is no face of exact age; check the folder, --split and the ages of the manifest.")
    return manifest.iloc[rows].assign(face=rows, true_age=low[rows]), [crops[row] for row in rows]


def _largest_face(pipeline: AgePredictBasicPipeline, path: Path) -> np.ndarray | None:
    try:
        found = pipeline.faces(path)
    except ImageError as error:
        print(f"left out: {error}", file=sys.stderr)
        return None
    return found[0].crop if found else None


def predict_variants(arguments: argparse.Namespace) -> pd.DataFrame:
    """One row per face and variant: face (row of the manifest), id, person, true_age, variant, age (years)."""
    pipeline = AgePredictBasicPipeline.from_weights(arguments.weights, arguments.device)
    faces, crops = read_faces(arguments, pipeline)
    parts = []
    for name, change in VARIANTS.items():
        ages = pipeline.predict(np.stack([change(crop) for crop in crops])).ages
        parts.append(faces[["face", "id", "person", "true_age"]].assign(variant=name, age=ages))
    return pd.concat(parts, ignore_index=True)


def table_lines(predictions: pd.DataFrame) -> list[str]:
    """Markdown table of the variants beside the faces as they are, with the paired bootstrap of the lost accuracy."""
    ages = predictions.pivot_table(index="face", columns="variant", values="age", sort=False)  # [N, variants]
    faces = predictions.drop_duplicates("face").set_index("face").loc[ages.index]
    truth, person = faces["true_age"], faces["person"].fillna("").to_numpy(str)
    plain = (ages[PLAIN] - truth).abs()
    rows = []
    for name in ages.columns:
        error, moved = ages[name] - truth, ages[name] - ages[PLAIN]
        cells = [f"{error.abs().mean():.2f}", f"{error.mean():+.2f}"]
        if name == PLAIN:
            cells += [DASH] * 3
        else:
            lost = paired_bootstrap(error.abs().to_numpy(), plain.to_numpy(), person)
            cells += [f"{moved.abs().mean():.2f}", f"{moved.mean():+.2f}", signed_gain(**lost, digits=2)]
        rows.append([name, *cells])
    between = np.mean([(ages[one] - ages[other]).abs().mean() for one, other in itertools.combinations(BACKGROUNDS, 2)])
    lines = markdown([f"variant of {len(ages)} faces", "MAE", "bias", "moves", "shift", "MAE lost (95 %)"], rows)
    return [*lines, "", f"Between two of the three backgrounds the estimate of a face differs by {between:.2f} years."]


def faces_parser(description: str | None) -> argparse.ArgumentParser:
    """The part of a command line that names faces and a base."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", dest="folder", type=Path, metavar="DIR", help="prepared folder (see scripts/prepare_data.py)")
    add("folder", nargs="?", type=Path, action=AlsoPositional, help=argparse.SUPPRESS)
    add("--manifest", type=Path, metavar="CSV", help="photos with ages instead: path,age,…")
    add("--split", choices=SPLITS, help="only this split (all)")
    add("--limit", type=int, default=0, metavar="N", help="only N faces, drawn at random")
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="base weights (the released ones)")
    add("--device", default="auto", help="auto, cpu or cuda")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = faces_parser(__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=Path("robustness.csv"), metavar="CSV", help="write the predictions here")
    add("--table", type=Path, metavar="CSV", help="only print the table of stored predictions")
    arguments = parser.parse_args(argv)
    try:
        if not arguments.table:
            check_out(arguments.out, ("true_age", "variant", "age"))
            write_table(predict_variants(arguments), arguments.out, 2)
            print(f"predictions: {arguments.out}")
        stored = read_csv(arguments.table or arguments.out, dtype={"id": str, "person": str})
        print("\n".join(table_lines(stored)))
    except (UserError, FileNotFoundError) as error:
        print(f"evaluate_robustness: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
