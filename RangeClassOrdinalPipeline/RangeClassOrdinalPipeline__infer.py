"""The classes alone: how well the classifier predicts how far off, beside simple baselines.

    python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__infer.py  # synthetic faces
    python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__infer.py --data data/prepared/utkface --out out/ranges
    python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__infer.py --data data/prepared/publicfigures \\
        --split calib test --out out/ranges_real                         # real ages, not in its training
    python RangeClassOrdinalPipeline/RangeClassOrdinalPipeline__infer.py --table out/ranges/classes.csv

Baselines: the class prior of the training faces; `base doubt`, a logistic regression on the spread of the base's
distribution over ages alone, fitted on `dar` (target error); the classes of |base estimate - age of the reference|
and of the difference of the two base estimates (target difference). Target error also says how reliable each class
is, and what is left of the error if only the faces it is surest of are kept (risk over coverage; AURC, the mean of that
curve; sure is who has the least expected class). Writes classes.csv (with --gzip classes.csv.gz), confusion.png,
reliability.png, and for target error risk.png.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from common.data.predictions import read_csv, write_table
from common.data.prepare import prepare_synthetic
from common.difference.corrector import Corrector
from common.difference.embedded import concatenate
from common.errors import DataError, UserError
from common.evaluation.selective import area, risk_at, risk_coverage
from common.evaluation.tables import markdown
from common.figures import BLUE, new_figure, save_figure
from common.inference.terminal import until_closed
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__config import RangeClassConfig
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__dataset import (
    PAIR_NUMBERS,
    Samples,
    draw_pairs,
    error_samples,
    pair_samples,
    range_class,
)
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__gate import class_names
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__model import (
    CORRECTOR,
    RELEASED,
    RangeModel,
    load_model,
    predict,
)
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__train import VALIDATION_TURN, exact_faces, ranked_score

BINS = np.linspace(0, 1, 11)
HEAD, DOUBT, ORACLE = "classifier", "base doubt", "oracle: the TRUE error"
KEPT = (1.0, 0.9, 0.8, 0.7, 0.5)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="DIR", help="prepared folders with exact ages (none: synthetic faces)")
    splits = ("dar", "val", "calib", "test")
    add("--split", nargs="+", choices=splits, default=["test"], help="faces to classify (test); dar: of other sets")
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="folder of weights (the released ones)")
    add("--corrector", type=Path, default=CORRECTOR, metavar="DIR", help="DiffPipeline6 weights they belong to")
    add("--limit", type=int, default=0, metavar="N", help="use at most this many faces of each split and set")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--out", type=Path, default=Path("out/ranges"), metavar="DIR", help="folder to write (out/ranges)")
    add("--gzip", action="store_true", help="write classes.csv.gz in place of classes.csv")
    add("--table", type=Path, metavar="CSV", help="only print the table of stored classes")
    return parser.parse_args(argv)


def samples_of(
    config: RangeClassConfig, folders: list[str], splits: list[str], corrector: Corrector
) -> tuple[Samples, np.ndarray]:
    """Samples of splits for the target of the config, each face in one view; and the ids [M] of their faces."""
    faces = concatenate([exact_faces(replace(config, views=0), folders, split, corrector) for split in splits])
    if config.target == "error":
        samples, _ = error_samples(corrector, faces, config)
    else:
        pairs = draw_pairs(faces, corrector.bank, config, VALIDATION_TURN)
        samples = pair_samples(corrector.pipeline.model, faces, corrector.bank, pairs, config)
    return samples, faces.id[samples.face]


def baselines(model: RangeModel, samples: Samples, fitted_on: Samples) -> dict[str, np.ndarray]:
    """Class probabilities [M, L + 1] of the baselines."""
    config = model.head.config
    classes = len(config.edges) + 1
    found = {"class prior": np.tile(model.prior, (len(samples.value), 1))}
    if config.target == "difference":
        first = 1 + len(config.edges)  # number of the first of PAIR_NUMBERS
        said = {
            "base estimate - age of the reference": "apart",
            "difference of the two base estimates": "estimates apart",
        }
        for name, number in said.items():
            apart = np.abs(samples.numbers[:, first + PAIR_NUMBERS.index(number)])
            found[name] = np.eye(classes)[range_class(apart, config.edges)]
        return found
    label = range_class(fitted_on.value, config.edges)
    regression = LogisticRegression().fit(fitted_on.numbers[:, :1], label)
    doubt = np.zeros((len(samples.value), classes))
    doubt[:, regression.classes_] = regression.predict_proba(samples.numbers[:, :1])
    return found | {DOUBT: doubt}


def calibration_error(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Expected calibration error (%): |accuracy - confidence| of the likeliest class, in ten bins of confidence.

    Reference: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == label
    place = np.digitize(confidence, BINS[1:-1])
    gaps = [abs(right[place == bin].sum() - confidence[place == bin].sum()) for bin in np.unique(place)]
    return 100 * float(sum(gaps)) / len(label)


def table_lines(stored: pd.DataFrame) -> list[str]:
    """Markdown table of stored classes (columns method, label, p0, p1, …)."""
    headers = ["method", "accuracy (%)", "MAE (classes)", "macro-F1", "ranked score", "calibration error (%)"]
    rows = []
    columns = chances_in(stored)
    for name, part in stored.groupby("method", sort=False):
        probabilities, label = part[columns].to_numpy(float), part["label"].to_numpy(int)
        said = probabilities.argmax(axis=1)
        row = [
            name, f"{100 * (said == label).mean():.1f}", f"{np.abs(said - label).mean():.3f}",
            f"{f1_score(label, said, average='macro', zero_division=0):.3f}",
            f"{ranked_score(probabilities, label):.4f}", f"{calibration_error(probabilities, label):.1f}",
        ]  # fmt: skip
        rows.append(row)
    return markdown(headers, rows)


def draw_classes(probabilities: np.ndarray, label: np.ndarray, names: list[str], folder: Path) -> None:
    """Draw confusion.png (which true class is taken for which) and reliability.png into a folder."""
    count = len(names)
    shares = np.histogram2d(label, probabilities.argmax(axis=1), bins=(np.arange(count + 1) - 0.5,) * 2)[0]
    shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)
    figure, (axis,) = new_figure(5.0, 4.2)
    image = axis.imshow(shares.T, origin="lower", cmap="cividis", vmin=0, vmax=1)
    axis.set(xticks=range(count), yticks=range(count), xticklabels=names, yticklabels=names)
    axis.set(xlabel="true class (years)", ylabel="said class (years)")
    for true in range(count):
        for said in range(count):
            dark = shares[true, said] < 0.5
            axis.text(true, said, f"{100 * shares[true, said]:.0f} %", ha="center", va="center", color="wk"[not dark])
    figure.colorbar(image, ax=axis, label="share of the true class")
    save_figure(figure, folder / "confusion.png")
    beyond = 1 - probabilities.cumsum(axis=1)[:, :-1]  # [M, L]
    figure, (axis,) = new_figure(4.6, 4.2)
    axis.plot((0, 1), (0, 1), color="grey", linewidth=1, linestyle=":")
    for edge, marker in zip(range(count - 1), "os^Dv<>p", strict=False):
        place = np.digitize(beyond[:, edge], BINS[1:-1])
        bins = [bin for bin in np.unique(place) if (place == bin).sum() >= 10]
        said = [beyond[place == bin, edge].mean() for bin in bins]
        true = [(label[place == bin] > edge).mean() for bin in bins]
        axis.plot(
            said, true, marker=marker, color=BLUE, alpha=1 - 0.25 * edge, label=f"beyond {names[edge].split('-')[1]}"
        )
    axis.set(xlabel="said probability", ylabel="observed share", xlim=(0, 1), ylim=(0, 1))
    axis.legend(frameon=False, title="years")
    save_figure(figure, folder / "reliability.png")


def risk_lines(stored: pd.DataFrame) -> list[str]:
    """Markdown tables of stored classes of errors: the classifier's classes one by one, then risk over coverage."""
    columns = chances_in(stored)
    own = stored[stored["method"] == HEAD]
    chances, label, error = own[columns].to_numpy(float), own["label"].to_numpy(), own["value"].to_numpy(float)
    said, rows = chances.argmax(axis=1), []
    for number in np.unique(said):
        part = said == number
        right, sure = 100 * (label[part] == number).mean(), 100 * chances[part, number].mean()
        rows.append([number, part.sum(), f"{sure:.0f}", f"{right:.0f}", f"{error[part].mean():.2f}"])
    lines = markdown(["class said", "faces", "said to be right (%)", "right (%)", "MAE of the base"], rows)
    rows = []
    curves = {name: risk_coverage(part["value"], doubt_of(part[columns])) for name, part in stored.groupby("method")}
    for name, risk in sorted((curves | {ORACLE: risk_coverage(error, error)}).items(), key=lambda one: area(one[1])):
        rows.append([name, f"{area(risk):.3f}", *(f"{risk_at(risk, part):.2f}" for part in KEPT)])
    headers = ["surest by", "AURC (years)", *(f"MAE of {100 * part:.0f} %" for part in KEPT)]
    kept = f"keep the 80 % it is surest of: MAE {risk_at(curves[HEAD], 0.8):.2f} (all: {error.mean():.2f})"
    return [*lines, "", *markdown(headers, rows), "", kept]


def doubt_of(chances: np.ndarray | pd.DataFrame) -> np.ndarray:
    """Expected class [M] of class probabilities [M, L + 1]."""
    return np.asarray(chances, float) @ np.arange(np.shape(chances)[1])


def chances_in(stored: pd.DataFrame) -> list[str]:
    """Names of the columns of class probabilities of stored classes."""
    return [name for name in stored.columns if name.startswith("p") and name[1:].isdigit()]


def draw_risk(error: np.ndarray, methods: dict[str, np.ndarray], path: Path) -> None:
    """Draw the base's mean error [M] (years) over the part of the faces that is kept, the surest first."""
    figure, (axis,) = new_figure(5.0, 4.0)
    kept = np.arange(1, len(error) + 1) / len(error)
    for (name, chances), style in zip(methods.items(), ("-", ":", "--"), strict=False):
        colour = BLUE if name == HEAD else "black"
        axis.plot(kept, risk_coverage(error, doubt_of(chances)), style, color=colour, label=name)
    axis.set(xlabel="part of the faces that is kept", ylabel="mean absolute error (years)", xlim=(0, 1), ylim=(0, None))
    axis.legend(frameon=False, title="surest by")
    save_figure(figure, path)


def classify(arguments: argparse.Namespace) -> Path:
    """Classify the faces or pairs by everything, draw, and write classes.csv (or .gz); returns its path."""
    model = load_model(arguments.weights, arguments.device, arguments.corrector)
    config = RangeClassConfig(
        target=model.head.config.target, edges=model.head.config.edges, limit=arguments.limit, device=arguments.device
    )
    folders = arguments.data or prepare_synthetic()
    samples, ids = samples_of(config, folders, arguments.split, model.corrector)
    if not len(samples.value):
        raise DataError(f"There is nothing to classify in {' and '.join(arguments.split)} of {', '.join(folders)}.")
    fitted_on = samples_of(config, folders, ["dar"], model.corrector)[0] if config.target == "error" else samples
    label = range_class(samples.value, config.edges)
    methods = {HEAD: predict(model.head, samples)} | baselines(model, samples, fitted_on)
    parts = [
        pd.DataFrame(chances, columns=[f"p{number}" for number in range(chances.shape[1])]).assign(
            method=name, id=ids, value=samples.value, label=label
        )
        for name, chances in methods.items()
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw_classes(methods[HEAD], label, class_names(config.edges), arguments.out)
    if config.target == "error":
        draw_risk(samples.value, methods, arguments.out / "risk.png")
    stored = arguments.out / ("classes.csv.gz" if arguments.gzip else "classes.csv")
    write_table(pd.concat(parts), stored, 4)
    print(f"classes and images: {arguments.out}")
    return stored


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    arguments = parse_arguments(argv)
    try:
        stored = read_csv(arguments.table or classify(arguments))
        print("\n".join(table_lines(stored)))
        if DOUBT in set(stored["method"]):  # classes of errors, not of differences
            print("\n".join(["", *risk_lines(stored)]))
    except (UserError, FileNotFoundError) as error:
        print(f"RangeClassOrdinalPipeline: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(until_closed(main))
