"""Before -> now: what new weights changed, on every test set, by group, gender and decade of true age.

    python scripts/release/compare_releases.py --before e5684ef --sources ARCHIVES    # every folder of weights/
    python scripts/release/compare_releases.py --table weights/AgeRegBaseline/compared.csv

Reads the predictions stored at the commit --before; a test set that was not estimated there is estimated now, by the
code and the weights of that commit (kept in runs/release/before). Writes compared.csv beside the weights, from which
--table prints, for each set, errors with the paired bootstrap's 95 % interval, and then by group x gender x decade.
Errors are of exact ages; of labels that are intervals, apart, the distance to them.
Exit status: 0 done, 2 nothing was done.
"""

import argparse
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.predictions import read_csv, write_table
from common.errors import DataError, UserError
from common.evaluation.metrics import distance_to_interval, estimated, paired_bootstrap
from common.evaluation.tables import DASH, markdown, or_dash, signed_gain
from common.files import REPOSITORY, WEIGHTS
from scripts.release.stages import LARGE, RELEASES, RUNS, test_sets
from scripts.report.numbers import load_predictions

BY = ("group", "gender", "decade")
FEWEST = 20  # faces of a group x gender x decade that is reported
HEADERS = ["set", "faces of", "faces", "MAE before", "now", "bias before", "now", "gain (95 % interval)"]


def common_faces(before: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """Faces that both predictions estimate, by id: was, is (errors in years), person, group, gender, decade.

    The labels are those of `now`. The errors of interval labels are distances. Raises DataError if there are none.
    """
    old = before[estimated(before)].drop_duplicates("id").set_index("id")["age"].rename("before")
    faces = now[estimated(now) & now["true_age_min"].notna().to_numpy()].drop_duplicates("id").join(old, "id", "inner")
    if faces.empty:
        raise DataError("The predictions have no labelled face in common (they are joined by id).")
    low, high = (faces[name].to_numpy(float) for name in ("true_age_min", "true_age_max"))
    errors = {
        name: np.where(low == high, ages - low, distance_to_interval(ages, low, high))
        for name, ages in (("was", faces["before"].to_numpy(float)), ("is", faces["age"].to_numpy(float)))
    }
    decade = (low // 10 * 10).astype(int)
    return faces.assign(**errors, decade=[f"{start}-{start + 9}" for start in decade], exact=low == high)


def parts_of(faces: pd.DataFrame) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """All faces, those of each gender, group and decade, and of every group x gender x decade, with what they are."""
    parts: list[tuple[dict[str, str], pd.DataFrame]] = [({}, faces)]
    for column in BY:
        parts += [({column: str(name)}, part) for name, part in faces.groupby(column) if name]
    for names, part in faces.groupby(list(BY)):
        if all(names) and len(part) >= FEWEST:
            parts.append((dict(zip(BY, map(str, names), strict=True)), part))
    return parts


def compare(name: str, before: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """One row for each part: set, BY, faces, mae_before, mae, bias_before, bias, gain, low, high (years).

    Faces with interval labels are a set of their own, without a bias; only group x gender x decade goes without the
    bootstrap.
    """
    faces = common_faces(before, now)
    kinds = {name: faces[faces["exact"]], f"{name}, distance to the interval": faces[~faces["exact"]]}
    columns = ["set", *BY, "faces", "mae_before", "mae", "bias_before", "bias", "gain", "low", "high"]
    rows = [row for kind, part in kinds.items() if len(part) for row in compared_parts(kind, part)]
    return pd.DataFrame(rows, columns=columns)


def compared_parts(name: str, faces: pd.DataFrame) -> list[dict[str, object]]:
    """The rows of `compare` of faces of one kind."""
    rows: list[dict[str, object]] = []
    for what, part in parts_of(faces):
        was, now_is, person = part["was"].to_numpy(), part["is"].to_numpy(), part["person"].to_numpy(str)
        row: dict[str, object] = {"set": name, **dict.fromkeys(BY, ""), **what, "faces": len(part)}
        row |= {"mae_before": np.abs(was).mean(), "mae": np.abs(now_is).mean()}
        row |= {"bias_before": was.mean(), "bias": now_is.mean()} if part["exact"].all() else {}
        rows.append(row | (dict(paired_bootstrap(was, now_is, person)) if len(what) < len(BY) else {}))
    return rows


def decade_order(name: str) -> int:
    """First year of a decade, to sort by; -1 of none."""
    return int(name.split("-")[0]) if name else -1


def table_lines(table: pd.DataFrame) -> list[str]:
    """Markdown tables of a comparison: by set and part with intervals, then by group x gender x decade of each set."""
    table = table.fillna({name: "" for name in BY}).sort_values(
        "decade", key=lambda c: c.map(decade_order), kind="stable"
    )
    crossed = (table[list(BY)] != "").all(axis=1)
    rows = []
    for name, part in table[~crossed].groupby("set", sort=False):
        for row in sorted(part.itertuples(), key=lambda row: [bool(getattr(row, column)) for column in BY[::-1]]):
            what = row.group or row.gender or row.decade or "all"
            biases = [or_dash(value, "+.2f") for value in (row.bias_before, row.bias)]
            gain = signed_gain(row.gain, row.low, row.high, 2)
            rows.append([name, what, row.faces, f"{row.mae_before:.2f}", f"{row.mae:.2f}", *biases, gain])
    lines = markdown(HEADERS, rows)
    for name, part in table[crossed].groupby("set", sort=False):
        cells = {(row.group, row.gender, row.decade): row for row in part.itertuples()}
        decades = sorted(part["decade"].unique(), key=decade_order)
        body = [
            [f"{group}, {gender}", *(_cell(cells.get((group, gender, decade))) for decade in decades)]
            for group, gender in sorted({key[:2] for key in cells})
        ]
        lines += ["", *markdown([f"{name}: MAE before → now (faces)", *decades], body)]
    return lines


def _cell(row) -> str:
    return DASH if row is None else f"{row.mae_before:.1f} → {row.mae:.1f} ({row.faces})"


def git(*words: str) -> bytes:
    """What a git command prints; raises DataError if it fails."""
    done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, check=False)
    if done.returncode:
        raise DataError(f"'git {' '.join(words)}' failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def old_tree(commit: str) -> Path:
    """The files of a commit, in runs/release/before."""
    tree = REPOSITORY / RUNS / "before" / commit
    if not tree.is_dir():
        partial = tree.with_name(f"{commit}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        archive = partial / "tree.tar"
        git("archive", "--format=tar", f"--output={archive}", commit)
        with tarfile.open(archive) as files:
            files.extractall(partial, filter="data")
        archive.unlink()
        partial.rename(tree)
    return tree


def predictions_before(weights: str, name: str, words: list[str], commit: str) -> Path:
    """Predictions of a test set by the weights of a commit: those stored there, or made now by its code."""
    tree = old_tree(commit)
    out = tree / "weights" / weights / "predictions" / f"{name}.csv.gz"
    if not out.is_file():
        pipeline = weights.removesuffix(LARGE)
        chosen = [] if weights == pipeline else ["--weights", f"weights/{weights}"]
        inputs = [str(REPOSITORY / word) if "/" in word else word for word in words]
        command = [sys.executable, f"{pipeline}/{pipeline}__infer2.py", *inputs, *chosen, "--out", str(out)]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        if subprocess.run(command, cwd=tree, env=environment, check=False).returncode not in (0, 1):
            raise DataError(f"The weights {weights} of {commit} could not estimate {name}.")
    return out


def compare_all(commit: str, sources: Path) -> None:
    """Write compared.csv into every folder of released weights; raises DataError."""
    commit = git("rev-parse", "--short", f"{commit}^{{commit}}").decode().strip()
    for weights in RELEASES:
        parts = []
        for name, words in test_sets(sources).items():
            now = WEIGHTS / weights / "predictions" / f"{name}.csv.gz"
            before = predictions_before(weights, name, words, commit)
            parts.append(compare(name, load_predictions(before), load_predictions(now)))
        write_table(pd.concat(parts, ignore_index=True), WEIGHTS / weights / "compared.csv", 3)
        print(f"weights/{weights}/compared.csv", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, metavar="CSV", help="only print the tables of a comparison")
    parser.add_argument("--before", metavar="COMMIT", help="compare with the weights of this commit")
    parser.add_argument("--sources", type=Path, metavar="DIR", help="folder of the archives")
    arguments = parser.parse_args(argv)
    try:
        if arguments.table:
            print("\n".join(table_lines(read_csv(arguments.table))))
        elif arguments.before and arguments.sources:
            compare_all(arguments.before, arguments.sources.resolve())
        else:
            raise DataError("Give --before COMMIT and --sources DIR, or --table CSV.")
    except UserError as error:
        print(f"compare_releases: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
