"""Run an evaluation protocol on a prepared set, fold by fold; a run that was stopped goes on where it was.

    python scripts/run_protocol.py --data data/prepared/fgnet_dev --protocol leave-one-person-out --out out/fgnet_lopo
    python scripts/run_protocol.py --data data/prepared/utkface --split-file train=utk_train.csv test=utk_test.csv \\
        --ages 21 60 --out out/utkface_coral --train --epochs 8
    python scripts/run_protocol.py --data data/prepared/morph2 --protocol subject-80-20 --out out/morph2 --splits-only
    python scripts/run_protocol.py --protocol coral-utkface --source UTKFace.tar.gz --lists MWR/datalist/utk \\
        --out out/coral

coral-utkface prints MAE and CS@5 of the base on the CORAL test list from your UTKFace and your copy of
github.com/nhshin-mcl/MWR; --data DIR may name the prepared UTKFace that --weights were trained on, to leave it out.
Without --train the base stays as it is; the re-calibrations of it (control c) are fitted on the faces that each fold
does not test. With --train (the last option; all words after it go to AgeRegBaseline__main.py) a base is trained for
each fold and re-calibrated on its calib split. Writes splits/FOLD.csv, folds/FOLD.csv, predictions.csv and
metrics.json, which names every split file with its hash; with --train or --splits-only also data/SET_FOLD, prepared
folders for the --data of any pipeline.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from AgeRegBaseline.AgeRegBaseline__main import main as train_base
from common.base.weights import MODEL_FILE, fingerprint, load_bar, trained_on
from common.data.manifest import CROPS, DIGESTS, INDEX, PreparedSet, age_bounds, load_prepared
from common.data.predictions import prediction_table, read_predictions, write_predictions
from common.data.protocols import (
    PROTOCOLS,
    Faces,
    Fold,
    Request,
    make_folds,
    people_on_both_sides,
    read_published,
    split_hash,
    split_table,
)
from common.errors import DataError, UserError
from common.evaluation import coral_utkface
from common.evaluation.controls import control_table, recalibrations
from common.evaluation.metrics import interval_metrics, point_metrics
from common.evaluation.tables import markdown, or_dash
from common.inference.options import AlsoPositional
from common.pipeline import RELEASED, AgePredictBasicPipeline

FEWEST_TO_FIT = 10  # exactly labelled faces that a re-calibration is fitted on at least
BEST = "(c) line"  # the variant that the others are compared with


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", dest="folder", type=Path, metavar="DIR", help="prepared folder (see scripts/prepare_data.py)")
    add("folder", nargs="?", type=Path, action=AlsoPositional, help=argparse.SUPPRESS)
    protocols = [*sorted(set(PROTOCOLS) - {"list"}), coral_utkface.NAME]
    add("--protocol", choices=protocols, help="how the set is divided")
    add("--split-file", nargs="+", default=[], metavar="CSV", help="or a published list: name,split, or PART=LIST.csv")
    add("--source", type=Path, metavar="FILE", help="coral-utkface: folder, .tar or .tar.gz of UTKFace")
    add("--lists", type=Path, metavar="DIR", help="coral-utkface: datalist/utk of github.com/nhshin-mcl/MWR")
    add("--folds", type=int, default=5, help="subject-kfold: number of folds (5)")
    add("--seed", type=int, default=0, help="another draw of folds (0)")
    add("--ages", type=float, nargs=2, metavar=("LOW", "HIGH"), help="only faces of these exact ages, ends included")
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="base weights to evaluate (the released ones)")
    add("--device", default="auto", help="auto, cpu or cuda; for the evaluation")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    add("--splits-only", action="store_true", help="write the splits and the prepared folders, evaluate nothing")
    add("--train", nargs=argparse.REMAINDER, metavar="WORD", help="train a base for each fold, with these words")
    arguments = parser.parse_args(argv)
    if arguments.folder is None and arguments.protocol != coral_utkface.NAME:
        parser.error("give a prepared folder with --data DIR")
    return arguments


def read_request(arguments: argparse.Namespace) -> Request:
    """The protocol that was asked for; raises DataError unless it is exactly one."""
    if arguments.source or arguments.lists:
        raise DataError(f"--source and --lists are for --protocol {coral_utkface.NAME}.")
    if bool(arguments.protocol) == bool(arguments.split_file):
        raise DataError("Give either --protocol or --split-file.")
    ages = tuple(arguments.ages) if arguments.ages else None
    published = read_published(arguments.split_file)
    return Request(arguments.protocol or "list", arguments.folds, arguments.seed, ages, published)


def check_settings(arguments: argparse.Namespace, request: Request) -> None:
    """Keep what this run is made with in <out>/protocol.json; raises DataError if it was made with something else."""
    frozen = arguments.train is None and not arguments.splits_only
    settings = asdict(request) | {
        "set": arguments.folder.resolve().name,
        "manifest": hashlib.sha1((arguments.folder / "manifest.csv").read_bytes()).hexdigest(),
        "published": hashlib.sha1(json.dumps(request.published, sort_keys=True).encode()).hexdigest(),
        "weights": fingerprint(arguments.weights) if frozen else "",
        "train": arguments.train,
    }
    settings = json.loads(json.dumps(settings))
    stored = arguments.out / "protocol.json"
    if stored.is_file() and json.loads(stored.read_text()) != settings:
        raise DataError(f"{arguments.out} holds a run with other settings ({stored}); give another --out or delete it.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(settings, indent=1) + "\n")


def write_splits(prepared: PreparedSet, folds: list[Fold], out: Path) -> None:
    """Write splits/FOLD.csv of every fold."""
    (out / "splits").mkdir(exist_ok=True)
    for fold in folds:
        split_table(prepared.manifest, fold.split).to_csv(out / "splits" / f"{fold.name}.csv", index=False)


def write_data(prepared: PreparedSet, fold: Fold, out: Path) -> Path:
    """Write data/SET_FOLD, a prepared folder with the splits of a fold, and return it.

    Its crops are a link to those of the set; faces left out keep their row with an empty split.
    """
    folder = out / "data" / f"{prepared.folder.resolve().name}_{fold.name}"
    folder.mkdir(parents=True, exist_ok=True)
    prepared.manifest.assign(split=fold.split).to_csv(folder / "manifest.csv", index=False)
    for name in (CROPS, INDEX, DIGESTS):
        link, original = folder / name, (prepared.folder / name).resolve()
        link.unlink(missing_ok=True)
        if original.is_file():
            link.symlink_to(original)
    (folder / "prepared.json").write_text(json.dumps({"protocol_fold": fold.name}) + "\n")
    return folder


def trained_weights(folder: Path, runs: Path, words: list[str]) -> Path:
    """Weights of a base trained on a fold's prepared folder; goes on with a training that was stopped.

    Raises DataError if the training fails (it has said why).
    """
    found = sorted((runs / "AgeRegBaseline").glob("*"))
    finished = [run / "weights" for run in found if (run / "finished").is_file()]
    if finished:
        return finished[-1]
    if found and (found[-1] / "latest_model.ckpt").is_file():
        status = train_base(["--resume", str(found[-1])])
    else:
        status = train_base(["--data", str(folder), "--runs", str(runs), *words])
    if status == 130:
        raise KeyboardInterrupt
    run = max((runs / "AgeRegBaseline").glob("*"), default=None)
    if status or run is None or not (run / "weights" / MODEL_FILE).is_file():
        raise DataError(f"The training for {folder} failed; its message is above.")
    (run / "finished").touch()
    return run / "weights"


def base_estimates(prepared: PreparedSet, weights: Path, rows: np.ndarray, device: str) -> np.ndarray:
    """Ages [N] float64 in years of the faces in `rows` [M] by base weights; NaN for every other face."""
    pipeline = AgePredictBasicPipeline.from_weights(weights, device)
    ages = np.full(len(prepared.manifest), np.nan)
    ages[rows] = pipeline.predict([prepared.crops[row] for row in rows]).ages
    return ages


def fold_predictions(manifest: pd.DataFrame, ages: np.ndarray, fold: Fold, fit_on: np.ndarray) -> pd.DataFrame:
    """Predictions of the test faces of a fold: base, and control (c) fitted on the exact ages of `fit_on` [N] bool."""
    low, high = age_bounds(manifest)
    test, exact = fold.split == "test", fit_on & (low == high)
    variants = {"base": lambda values: values}
    if exact.sum() >= FEWEST_TO_FIT:
        curves = recalibrations(ages[exact], low[exact])
        variants |= {f"(c) {name}": curve for name, curve in curves.items()}
    parts = []
    for name, curve in variants.items():
        table = prediction_table(manifest[test], curve(ages[test])).assign(variant=name, fold=fold.name, seed=0)
        parts.append(table.assign(base_age=ages[test]))
    return pd.concat(parts, ignore_index=True)


def run_folds(prepared: PreparedSet, folds: list[Fold], arguments: argparse.Namespace) -> pd.DataFrame:
    """Predictions of all folds; those that folds/FOLD.csv holds already are not computed again."""
    results, out = arguments.out / "folds", arguments.out
    results.mkdir(exist_ok=True)
    waiting = [fold for fold in folds if not (results / f"{fold.name}.csv").is_file()]
    print(f"{len(folds)} folds, {len(folds) - len(waiting)} of them done before")
    frozen = None
    if waiting and arguments.train is None:
        used = np.any([fold.split != "" for fold in folds], axis=0)
        frozen = base_estimates(prepared, arguments.weights, np.flatnonzero(used), arguments.device)
    for fold in waiting:
        ages, fit_on = frozen, (fold.split != "") & (fold.split != "test")
        if arguments.train is not None:
            folder = write_data(prepared, fold, out)
            weights = trained_weights(folder, out / "runs" / fold.name, arguments.train)
            fit_on = fold.split == "calib"
            rows = np.flatnonzero(fit_on | (fold.split == "test"))
            ages = base_estimates(prepared, weights, rows, arguments.device)
        partial = results / f"{fold.name}.partial"
        write_predictions(fold_predictions(prepared.manifest, ages, fold, fit_on), partial)
        partial.replace(results / f"{fold.name}.csv")
    return pd.concat([read_predictions(results / f"{fold.name}.csv") for fold in folds], ignore_index=True)


def figures(table: pd.DataFrame) -> dict[str, float]:
    """MAE, CS@k … of exactly labelled faces, or where there is none hit rate and distance of interval labels."""
    exact = table[table["true_age_min"] == table["true_age_max"]]
    if len(exact):
        return point_metrics(exact["age"].to_numpy(), exact["true_age_min"].to_numpy())
    return interval_metrics(*(table[name].to_numpy(float) for name in ("age", "true_age_min", "true_age_max")))


def collect_metrics(predictions: pd.DataFrame, prepared: PreparedSet, folds: list[Fold]) -> dict[str, Any]:
    """Figures of every variant over all faces, and their mean and standard deviation over folds; hashes of the splits.

    A variant that some fold has too few faces to fit is left out.
    """
    tables = {fold.name: split_table(prepared.manifest, fold.split) for fold in folds}
    hashes = {name: split_hash(table) for name, table in tables.items()}
    variants = {}
    for name, table in predictions.groupby("variant", sort=False):
        by_fold = {fold: figures(part) for fold, part in table.groupby("fold", sort=False)}
        if len(by_fold) < len(folds):
            continue
        key = "mae" if "mae" in next(iter(by_fold.values())) else "hit_rate"
        values = np.array([part[key] for part in by_fold.values()])
        spread = round(float(values.std(ddof=1)), 3) if len(values) > 1 else None
        over = {"of": key, "mean": round(float(values.mean()), 3), "spread": spread}
        variants[str(name)] = {"all_faces": figures(table), "over_folds": over, "by_fold": by_fold}
    both = [people_on_both_sides(prepared.manifest, fold.split) for fold in folds]
    return {
        "split_files": {name: {"file": f"splits/{name}.csv", "hash": value} for name, value in hashes.items()},
        "hash": hashlib.sha1("\n".join(sorted(hashes.values())).encode()).hexdigest(),
        "people_on_both_sides": None if None in both else max(both),
        "variants": variants,
    }


def summary_lines(metrics: dict[str, Any], title: str) -> list[str]:
    """Markdown table of the variants, and who is on both sides."""
    both = metrics["people_on_both_sides"]
    leak = "unknown: the set names no persons" if both is None else f"{both}" + (": LEAKS IDENTITIES" if both else "")
    count = len(metrics["split_files"])
    lines = [f"{title}: {count} fold{'s' if count > 1 else ''}, hash {metrics['hash'][:12]}"]
    lines += [f"people both trained on and tested on (largest fold): {leak}", ""]
    rows = []
    for name, part in metrics["variants"].items():
        over, whole = part["over_folds"], part["all_faces"]
        values = [or_dash(value, ".2f") for value in (whole[over["of"]], over["mean"], over["spread"])]
        rows.append([name, whole["n"], over["of"], *values, or_dash(whole.get("cs5"), ".1f")])
    return lines + markdown(["variant", "faces", "figure", "all faces", "mean over folds", "spread", "CS@5"], rows)


def run(arguments: argparse.Namespace) -> None:
    """Make the folds, write them, evaluate them, print and write the metrics; raises DataError if that cannot be."""
    request = read_request(arguments)
    prepared = load_prepared(arguments.folder)
    name = arguments.folder.resolve().name
    if arguments.train is None and not arguments.splits_only:
        load_bar(arguments.weights)  # says what is wrong with them before anything is written
        if name in (trained_on(arguments.weights) or []):
            raise DataError(f"{arguments.weights} were trained on {name}; a protocol on it needs --train.")
    folds = make_folds(Faces.of(prepared.manifest, prepared.crops), request)
    check_settings(arguments, request)
    write_splits(prepared, folds, arguments.out)
    if arguments.splits_only:
        for fold in folds:
            write_data(prepared, fold, arguments.out)
        print(f"{len(folds)} folds: split files in {arguments.out / 'splits'}, for --data in {arguments.out / 'data'}")
        return
    predictions = run_folds(prepared, folds, arguments)
    write_predictions(predictions, arguments.out / "predictions.csv")
    settings = json.loads((arguments.out / "protocol.json").read_text())
    metrics = {"protocol": settings} | collect_metrics(predictions, prepared, folds)
    (arguments.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    title = request.protocol + (f", ages {request.ages[0]:g}-{request.ages[1]:g}" if request.ages else "")
    print("\n".join(summary_lines(metrics, f"{name}, {title}")))
    exact = predictions[predictions["true_age"].notna()]
    if BEST in metrics["variants"] and len(exact):
        print("\n".join(["", *control_table(exact, BEST)]))


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done, 130 stopped by Ctrl-C."""
    arguments = parse_arguments(argv)
    try:
        (coral_utkface.run if arguments.protocol == coral_utkface.NAME else run)(arguments)
    except UserError as error:
        print(f"run_protocol: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("run_protocol: stopped; run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
