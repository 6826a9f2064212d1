"""What the analysis scripts share: their command line, and how predictions become a report."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from common.base.weights import git_commit
from common.data.manifest import SPLITS, load_prepared
from common.data.predictions import check_out, write_predictions
from common.errors import DataError, UserError
from common.evaluation.metrics import estimated, not_finite_words, summarise, without_age
from common.faces.photo_files import IMAGE_SUFFIXES
from common.pipeline import RELEASED
from scripts.report.compare import comparison, entry, read_entries
from scripts.report.html import analysis_sections, write_page
from scripts.report.numbers import checked, exact_rows, worst_faces
from scripts.report_metrics import table_lines


def report_parser(description: str) -> argparse.ArgumentParser:
    """The command line of an analysis; each script adds what is its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--manifest", type=Path, metavar="CSV", help="manifest of labelled faces; its crops show the worst")
    add("--split", choices=SPLITS, help="estimate only this split of the manifest")
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="folder of weights (the released ones)")
    add("--batch-size", type=int, default=64, metavar="N", help="crops estimated at once (64)")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--interval", type=float, metavar="P", help="probability the prediction intervals aim at (weights: make them)")
    add("--compare", nargs="+", default=[], metavar="NAME=CSV", help="predictions to compare (or any CSV of id,age)")
    add("--save", type=Path, metavar="CSV", help="also write the predictions here")
    add("--out", type=Path, default=Path("out/report.html"), metavar="HTML", help="the report (out/report.html)")
    return parser


def check_words(arguments: argparse.Namespace) -> None:
    """Raise DataError for words that do not fit together or are out of range."""
    if arguments.batch_size < 1:
        raise DataError(f"--batch-size must be 1 or more, not {arguments.batch_size}.")
    if arguments.interval is not None and not 0 < arguments.interval < 1:
        raise DataError(f"--interval takes a probability between 0 and 1, not {arguments.interval}.")
    if arguments.save:
        check_out(arguments.save)
    if arguments.out.suffix.lower() in IMAGE_SUFFIXES:
        raise DataError(f"{arguments.out} has the name of an image; give --out a name like report.html.")
    if arguments.split and not arguments.manifest:
        raise DataError("--split needs --manifest.")


def source_name(arguments: argparse.Namespace) -> str:
    """How predictions made from a manifest are called: its folder, and the split."""
    folder = arguments.manifest.resolve().parent.name
    return f"{folder} {arguments.split}" if arguments.split else folder


def crops_by_id(manifest: Path | None, ids: list[str]) -> dict[str, np.ndarray]:
    """Packed crops [S, S, 3] uint8 of faces by id; none where the manifest has no crops.npy beside it."""
    if manifest is None or not (manifest.parent / "crops.npy").is_file():
        return {}
    prepared = load_prepared(manifest.parent)
    rows = {number: row for row, number in enumerate(prepared.manifest["id"]) if number}
    return {number: np.array(prepared.crops[rows[number]]) for number in ids if number in rows}


def deliver(arguments: argparse.Namespace, table: pd.DataFrame | None, source: str) -> None:
    """Write the report of predictions (None: only the comparison) and print its short form; raises DataError."""
    entries = read_entries(arguments.compare)
    sections, lines = [], []
    if table is not None:
        table = checked(table, source)
        crops = crops_by_id(arguments.manifest, worst_faces(exact_rows(table))["id"].tolist())
        sections += analysis_sections(table, crops, arguments.interval)
        lines += table_lines({source: summarise(table)})
        if entries:
            if source in entries:
                raise DataError(f"The name '{source}' is that of the analysed predictions; use another in --compare.")
            entries = {source: entry(table, source)} | entries
    if entries:
        section, more = comparison(entries)
        sections.append(section)
        lines += ["", *more] if lines else more
    if arguments.save and table is not None:
        write_predictions(table, arguments.save)
    title = "Age estimates: " + (source if table is not None else " / ".join(entries))
    write_page(arguments.out, title, _subtitle(table), sections)
    print("\n".join(lines).strip())
    print(f"\nreport: {arguments.out}")


def _subtitle(table: pd.DataFrame | None) -> str:
    commit = git_commit()
    made = f"Made by commit {commit}. " if commit else ""
    if table is None:
        return f"{made}Errors are estimate − true age, in years."
    good, unsaid = int(estimated(table).sum()), int(without_age(table).sum())
    words = f" ({not_finite_words(unsaid, good + unsaid)})" if unsaid else ""
    return f"{good} faces estimated, {len(table) - good} not{words}. {made}Errors are estimate − true age, in years."


def run_command(name: str, work: Callable[[], int]) -> int:
    """The exit status of `work`; 2 with one sentence on stderr for whatever the user can cause."""
    try:
        return work()
    except UserError as error:
        sentence = " ".join(str(error).split())
        print(f"{name}: {sentence}", file=sys.stderr)
        return 2
