"""Turn a data set into a manifest and packed crops that every pipeline reads.

    python scripts/prepare_data.py utkface --source UTKFace.tar --out data/prepared/utkface
    python scripts/prepare_data.py synthetic --count 2000 --out data/prepared/synthetic

Writes manifest.csv, crops.npy, left_out.csv, ages.png and prepared.json. Run it again to go on, or to take over what
changed in the source: every picture is known by its bytes.
"""

import argparse
import errno
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from common.checkpoints import REPOSITORY
from common.errors import DataError, UserError
from common.files import only_writer, write_whole
from common.labels import read_table
from common.manifest import (
    COLUMNS,
    CROPS,
    DIGESTS,
    INDEX,
    OLDEST,
    load_prepared,
    read_manifest,
    write_crops,
    write_index,
)
from common.splits import assign_splits, components, conflicting, duplicate_pairs, equal_pairs
from scripts.data_readers import READERS, SyntheticSource
from scripts.data_readers_source import Entry, Problem, Source
from scripts.prepare_crops import keys_of, pack_crops, read_ids
from scripts.prepare_report import save_histogram, summarise, tell_changes
from scripts.prepare_store import CropStore

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OWN_OPTIONS = {"count": "synthetic", "seed": "synthetic", "label": "appareal"}  # options of one set alone


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(READERS), help="kind of data set")
    parser.add_argument("--source", type=Path, help="folder, .tar or .tar.gz; for csv the CSV file")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--size", type=int, default=128, help="side of a packed crop in pixels (default 128)")
    parser.add_argument("--crops", action="store_true", help="the pictures are aligned crops: do not detect faces")
    parser.add_argument("--column", action="append", default=[], metavar="OUR=THEIRS", help="csv: rename a column")
    parser.add_argument("--split-file", type=Path, help="CSV with columns name,split: a published list to keep")
    parser.add_argument("--label", choices=("real", "apparent"), default="real", help="appareal: which age to learn")
    parser.add_argument("--count", type=int, default=2000, help="synthetic: number of faces")
    parser.add_argument("--seed", type=int, default=0, help="synthetic: seed")
    return parser.parse_args(argv)


def open_source(arguments: argparse.Namespace) -> tuple[Source, list[Entry | Problem]]:
    """The source and what its reader makes of its names; raises DataError if nothing can be read."""
    options = {"crops": arguments.crops, "columns": {}, "csv_name": "", "label": arguments.label}
    if arguments.name == "synthetic":
        source = SyntheticSource(arguments.count, arguments.seed, arguments.size)
    elif arguments.source is None:
        raise DataError(f"{arguments.name} needs --source.")
    elif arguments.name == "csv":
        options["csv_name"] = arguments.source.name
        options["columns"] = _column_names(arguments.column)
        if not arguments.source.is_file():
            raise DataError(f"There is no CSV file at {arguments.source}; --source takes the CSV itself.")
        source = Source(arguments.source.parent)
    else:
        source = Source(arguments.source)
    entries = READERS[arguments.name](source, options)
    if not any(isinstance(entry, Entry) for entry in entries):
        raise DataError(f"{arguments.source} holds no picture with a {arguments.name} label; check --source.")
    return source, entries


def _column_names(pairs: list[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise DataError(f"--column {wrong[0]} must look like age=THEIR_NAME.")
    return dict(pair.split("=", 1) for pair in pairs)


def impossible(entry: Entry) -> str:
    """Why the label of an entry cannot be true ('' if it can)."""
    ages = [age for age in (entry.age, entry.age_min, entry.age_max) if age is not None]
    if not ages:
        return "no age"
    if any(not 0 <= age <= OLDEST for age in ages):
        return f"impossible age {ages[0]:g}: ages run from 0 to {OLDEST:g} years"
    if entry.age_min is not None and entry.age_max is not None and entry.age_min > entry.age_max:
        return f"impossible interval {entry.age_min:g} to {entry.age_max:g}"
    return ""


def build_manifest(entries: list[Entry], packed: pd.DataFrame, store: CropStore, published: dict[str, str]):
    """Manifest of the usable entries, their numbers among all, and the problems of all others."""
    table = pd.DataFrame([vars(entry) for entry in entries])
    table["id"], problem = packed["id"].to_numpy(), packed["problem"].copy()
    repeated = table["id"].duplicated() & (problem == "")
    rows = np.flatnonzero(problem == "")
    manifest = table.iloc[rows].reset_index(drop=True)
    pairs = duplicate_pairs(store.crops(keys_of(packed, rows)))
    group = components(len(rows), np.concatenate([pairs, equal_pairs(manifest["id"])]))
    conflict = pd.Series(False, index=table.index)
    conflict.iloc[rows] = conflicting(manifest, group)
    published = {row.path: row.split for row in manifest.itertuples() if row.split} | published
    manifest["split"] = assign_splits(manifest, pairs, published).to_numpy()
    problem[repeated] = "a copy of a file that is kept"
    problem[conflict] = "shows the same picture as another file whose age differs by more than 2 years"
    left_out = [Problem(entries[row].path, problem[row]) for row in np.flatnonzero(problem != "")]
    keep = (problem == "").to_numpy()[rows]
    further = pd.DataFrame(list(manifest["further"]), index=manifest.index).fillna("")
    manifest = pd.concat([manifest[COLUMNS], further], axis=1)
    return manifest.loc[keep].reset_index(drop=True), rows[keep], left_out


def prepare(arguments: argparse.Namespace) -> None:
    """Run the whole preparation, or take over what changed; raises DataError if it cannot be done."""
    out: Path = arguments.out
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; --out takes a folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with only_writer(out / CROPS):
            _prepare(out, arguments)
    except OSError as error:
        hint = "; is the disk full?" if error.errno in FULL_DISK else ""
        raise DataError(f"{error.filename or out} cannot be read or written ({error.strerror}){hint}.") from None


def _prepare(out: Path, arguments: argparse.Namespace) -> None:
    settings = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in vars(arguments).items()
        if key != "out" and OWN_OPTIONS.get(key, arguments.name) == arguments.name
    }
    done, started = out / "prepared.json", out / "started.json"
    for earlier in (done, started):
        if earlier.is_file() and _settings_of(earlier) != settings:
            raise DataError(f"{out} was prepared with other settings ({earlier}); give another --out or delete it.")
    if not (arguments.name == "synthetic" and sound(out)):  # drawn faces change with their settings alone
        source, entries = open_source(arguments)
        write_whole(started, json.dumps(settings, indent=1))
        finish(out, source, entries, arguments)
        started.replace(done)
    left_out = pd.read_csv(out / "left_out.csv", dtype=str, keep_default_na=False)
    summarise(out, read_manifest(out / "manifest.csv"), left_out)


def _settings_of(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except ValueError:  # cut off by a kill
        return None


def usable(entries: list[Entry | Problem]) -> tuple[list[Entry], list[Problem]]:
    """The entries with a possible label, each path once, and the problems of the others."""
    problems = [entry for entry in entries if isinstance(entry, Problem)]
    good: dict[str, Entry] = {}
    for entry in entries:
        if isinstance(entry, Entry):
            reason = "listed twice; its first label is used" if entry.path in good else impossible(entry)
            if reason:
                problems.append(Problem(entry.path, reason))
            else:
                good[entry.path] = entry
    return list(good.values()), problems


def finish(out: Path, source: Source, entries: list[Entry | Problem], arguments: argparse.Namespace) -> None:
    """Pack the crops and write every file but prepared.json; an unchanged source changes nothing."""
    good, problems = usable(entries)
    problems += source.problems
    published = read_split_file(arguments.split_file)
    ids = read_ids(source, good)
    told = repr((good, problems, list(ids), sorted(published.items())))
    digest = hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()
    if unchanged(out, digest):
        print(f"{out}: nothing changed in the source.")
        return
    store = CropStore(out, arguments.size)
    try:
        packed = pack_crops(source, good, ids, store, arguments.size)
        manifest, rows, left_out = build_manifest(good, packed, store, published)
        if manifest.empty:
            raise DataError(f"Not one of {len(good)} pictures could be used; the first: {left_out[0].reason}")
        tell_changes(out, manifest)
        (out / "prepared.json").unlink(missing_ok=True)  # until all files fit together again
        write_crops(out / CROPS, store.crops(keys_of(packed, rows)), np.arange(len(rows)))
    finally:
        store.close()
    write_whole(out / "manifest.csv", manifest.to_csv(index=False))
    table = pd.DataFrame([vars(problem) for problem in problems + left_out], columns=["path", "reason"])
    write_whole(out / "left_out.csv", table.to_csv(index=False))
    save_histogram(manifest, out / "ages.png")
    write_index(out, manifest["id"], packed["cut"].iloc[rows], digest)
    store.discard()


def unchanged(out: Path, digest: str) -> bool:
    """Whether a folder was prepared from what this is the digest of, and its files are still those."""
    try:
        return json.loads((out / DIGESTS).read_text()).get("source") == digest and sound(out)
    except (OSError, ValueError, AttributeError):
        return False


def sound(out: Path) -> bool:
    """Whether a folder holds a finished set all of whose files fit together."""
    if not all((out / name).is_file() for name in ("prepared.json", "left_out.csv", INDEX)):
        return False
    try:
        return len(load_prepared(out).manifest) > 0
    except (OSError, DataError):
        return False


def read_split_file(path: Path | None) -> dict[str, str]:
    """Split by name from a CSV with the columns name,split; {} for None; raises DataError if it is no such file."""
    if path is None:
        return {}
    try:
        table = read_table(path)
        return dict(zip(table["name"], table["split"].str.strip(), strict=True))
    except (KeyError, DataError) as error:
        raise DataError(f"--split-file {path} must be a CSV with the columns name,split ({error}).") from None


def prepare_synthetic() -> list[str]:
    """Prepare 2,000 drawn faces once, for a training without --data; returns their folder."""
    print("No --data given: training on 2,000 drawn faces (see README to train on photos).")
    folder = REPOSITORY / "data" / "prepared" / "synthetic"
    prepare(parse_arguments(["synthetic", "--count", "2000", "--out", str(folder)]))
    return [str(folder)]


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    try:
        prepare(parse_arguments(argv))
    except UserError as error:
        print(f"prepare_data: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("prepare_data: stopped; run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
