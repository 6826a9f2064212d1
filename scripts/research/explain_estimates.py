"""What the base looks at: how much its estimate change when a part of the crop is blurred away, and whom it thinks of.

    python scripts/research/explain_estimates.py --data data/prepared/utkface --split val --limit 250 --out moves.csv
    python scripts/research/explain_estimates.py --manifest photos.csv --out saliency_photos.csv
    python scripts/research/explain_estimates.py --table saliency_photos.csv

Each of 8 x 8 cells of a crop is replaced by a strongly blurred copy of itself, one at a time. The nearest faces are
those of a bank of training faces whose embeddings are most similar. Writes a CSV with a row per face (from which
--table prints the table again) and, beside it, the map as PNG.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from common.data.predictions import check_out, read_csv, write_table
from common.difference.bank import load_bank
from common.errors import UserError
from common.evaluation.tables import markdown
from common.figures import new_figure, save_figure
from common.files import WEIGHTS, plain_name
from common.pipeline import AgePredictBasicPipeline
from scripts.research.evaluate_robustness import face_mask, faces_parser, read_faces

CELLS = 8  # to a side
NEAREST = 20
AREAS = ("inside of the face", "its edge", "around it")


def without_cells(crop: np.ndarray) -> np.ndarray:
    """Copies [CELLS², S, S, 3] uint8 of a crop [S, S, 3], in each of which one cell is blurred away, edges soft."""
    size = len(crop)
    blurred = cv2.GaussianBlur(crop, (0, 0), size / 6)
    masks = np.zeros((CELLS**2, size, size, 1), np.float32)
    for number, mask in enumerate(masks):
        row, column = divmod(number, CELLS)
        edges = [round(place * size / CELLS) for place in (row, row + 1, column, column + 1)]
        mask[edges[0] : edges[1], edges[2] : edges[3]] = 1
        mask[:, :, 0] = cv2.GaussianBlur(mask[:, :, 0], (0, 0), size / CELLS / 6)
    return (crop + masks * (blurred.astype(np.float32) - crop)).round().astype(np.uint8)


def area_of_cells() -> np.ndarray:
    """[CELLS²] int: place in AREAS of each cell, by the middle of the cell and the ellipse around an aligned face."""
    inside = cv2.resize(face_mask(200)[:, :, 0], (CELLS, CELLS), interpolation=cv2.INTER_AREA).ravel()  # part of a cell
    return np.where(inside > 0.95, 0, np.where(inside > 0.05, 1, 2))


def explain(arguments: argparse.Namespace) -> pd.DataFrame:
    """One row per face: id, person, true_age, age, nearest (mean age of the nearest training faces), cell_0 … in years.

    A cell's number is what blurring it away adds to the estimate. Raises UserError.
    """
    pipeline = AgePredictBasicPipeline.from_weights(arguments.weights, arguments.device)
    bank = load_bank(arguments.bank, pipeline.fingerprint)
    faces, crops = read_faces(arguments, pipeline)
    plain = pipeline.predict(np.stack(crops))
    unit = plain.embeddings / np.linalg.norm(plain.embeddings, axis=1, keepdims=True)  # [N, E]
    nearest = np.argsort(-(unit @ bank.unit.T), axis=1)[:, :NEAREST]  # [N, NEAREST]
    moved = np.stack([pipeline.predict(without_cells(crop)).ages for crop in crops]) - plain.ages[:, None]
    table = faces[["id", "person", "true_age"]].assign(age=plain.ages, nearest=bank.ages[nearest].mean(axis=1))
    cells = pd.DataFrame(moved, columns=[f"cell_{number}" for number in range(CELLS**2)], index=table.index)
    return pd.concat([table, cells], axis=1)


def cells_of(table: pd.DataFrame) -> np.ndarray:
    """The moves [N, CELLS²] (years) of a stored table."""
    return table[[f"cell_{number}" for number in range(CELLS**2)]].to_numpy()


def table_lines(table: pd.DataFrame) -> list[str]:
    """Markdown: how far one cell of each area moves an estimate, and how the nearest training faces agree."""
    moved, area = cells_of(table), area_of_cells()
    total = np.abs(moved).mean(axis=0).sum()
    rows = []
    for place, name in enumerate(AREAS):
        part = moved[:, area == place]
        share = 100 * np.abs(part).mean(axis=0).sum() / total
        rows.append([name, part.shape[1], f"{np.abs(part).mean():.2f}", f"{part.mean():+.2f}", f"{share:.0f} %"])
    near, age, truth = (table[name].to_numpy(float) for name in ("nearest", "age", "true_age"))
    headers = [f"area ({len(table)} faces)", "cells", "moves per cell", "shift per cell", "part of all moves"]
    return [
        *markdown(headers, rows),
        "",
        f"The {NEAREST} nearest training faces are {np.abs(near - age).mean():.1f} years from the estimate on average "
        f"and {np.abs(near - truth).mean():.1f} from the true age ({np.mean(near - truth):+.1f}); the estimate is "
        f"{np.abs(age - truth).mean():.1f} from it ({np.mean(age - truth):+.1f}).",
    ]


def draw_map(table: pd.DataFrame, path: Path) -> None:
    """Draw the mean absolute and the mean signed move of every cell, with the outline of an aligned face."""
    moved = cells_of(table)
    figure, axes = new_figure(9, 4.2, columns=2)
    size = np.abs(moved).mean(axis=0)
    shift = moved.mean(axis=0)
    limit = np.abs(shift).max()
    for axis, values, title, look in (
        (axes[0], size, "moves (mean, years)", {"cmap": "cividis", "vmin": 0}),
        (axes[1], shift, "shift (mean, years)", {"cmap": "PuOr", "vmin": -limit, "vmax": limit}),
    ):
        image = axis.imshow(values.reshape(CELLS, CELLS), extent=(0, 200, 200, 0), **look)
        axis.contour(face_mask(200)[:, :, 0], levels=[0.5], colors="white", linewidths=3)
        axis.contour(face_mask(200)[:, :, 0], levels=[0.5], colors="black", linewidths=1)
        axis.set(title=title, xticks=[], yticks=[])
        figure.colorbar(image, ax=axis, label="years")
    figure.suptitle(f"A cell blurred away, {len(table)} faces; the line: an aligned face")
    save_figure(figure, path)


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = faces_parser(__doc__)
    add = parser.add_argument
    add("--bank", type=Path, default=WEIGHTS / "DiffPipeline6" / "bank.npz", help="training faces of these weights")
    add("--out", type=Path, default=Path("saliency.csv"), metavar="CSV", help="write the moves here, the map beside it")
    add("--table", type=Path, metavar="CSV", help="only print the table of stored moves")
    arguments = parser.parse_args(argv)
    try:
        if not arguments.table:
            check_out(arguments.out, ("true_age", "nearest", "cell_0"))
            write_table(explain(arguments), arguments.out, 2)
            drawn = plain_name(arguments.out).with_suffix(".png")
            draw_map(read_csv(arguments.out), drawn)
            print(f"moves: {arguments.out}, map: {drawn}")
        print("\n".join(table_lines(read_csv(arguments.table or arguments.out))))
    except (UserError, FileNotFoundError) as error:
        print(f"explain_estimates: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
