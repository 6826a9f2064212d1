"""From the entries of a data set to a prepared folder: manifest, packed crops, splits, what was left out."""

import errno
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.crop_store import CropStore
from common.data.labels import OLDEST, read_table
from common.data.manifest import (
    COLUMNS,
    CROPS,
    DIGESTS,
    INDEX,
    crops_digest,
    load_prepared,
    read_manifest,
    write_crops,
    write_index,
)
from common.data.packing import keys_of, pack_crops, read_ids
from common.data.prepare_report import save_histogram, summarise, tell_changes
from common.data.readers import READERS, SyntheticSource
from common.data.source import Entry, Problem, Source
from common.data.splits import assign_splits, components, conflicting, duplicate_pairs, equal_pairs, shown_by
from common.errors import DataError
from common.files import REPOSITORY, only_writer, write_whole

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OWN_OPTIONS = {"count": "synthetic", "seed": "synthetic", "label": "appareal"}  # options of one set alone
LATER_OPTIONS = ("leave_out", "apart_from")  # noted only where they are given: folders of older versions know none


@dataclass(frozen=True)
class Preparation:
    """What is to be prepared, and how.

    Attributes:
        name: Kind of data set, a key of READERS.
        out: Folder to write.
        source: Folder or archive; for csv the CSV file; None for synthetic.
        size: Side of a packed crop in pixels.
        crops: The images are aligned crops already.
        column: csv: pairs OUR=THEIRS that rename a column.
        split_file: CSV with the columns name,split, a published list to keep; None: data/<name>_splits.csv, if any.
        leave_out: CSV with the columns name,reason of images not to be used; None: data/<name>_dropped.csv, if any.
        apart_from: Prepared folders; an image that one of them shows too is left out.
        label: appareal: real or apparent.
        count: synthetic: number of faces.
        seed: synthetic.
    """

    name: str
    out: Path
    source: Path | None = None
    size: int = 128
    crops: bool = False
    column: Sequence[str] = ()
    split_file: Path | None = None
    leave_out: Path | None = None
    apart_from: Sequence[Path] = ()
    label: str = "real"
    count: int = 2000
    seed: int = 0


def open_source(options: Preparation) -> tuple[Source, list[Entry | Problem]]:
    """The source and what its reader makes of its names; raises DataError if nothing can be read."""
    how: dict = {"crops": options.crops, "columns": {}, "csv_name": "", "label": options.label}
    if options.name == "synthetic":
        source: Source = SyntheticSource(options.count, options.seed, options.size)
    elif options.source is None:
        raise DataError(f"{options.name} needs --source.")
    elif options.name == "csv":
        how["csv_name"] = options.source.name
        how["columns"] = _column_names(options.column)
        if not options.source.is_file():
            raise DataError(f"There is no CSV file at {options.source}; --source takes the CSV itself.")
        source = Source(options.source.parent)
    else:
        source = Source(options.source)
    entries = READERS[options.name](source, how)
    if options.name == "csv":  # what else lies beside the table is none of its business
        named = {entry.path for entry in entries}
        source.problems = [problem for problem in source.problems if problem.path in named]
    if not any(isinstance(entry, Entry) for entry in entries):
        raise DataError(f"{options.source} holds no image with a {options.name} label; check --source.")
    return source, entries


def _column_names(pairs: Sequence[str]) -> dict[str, str]:
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


def build_manifest(
    entries: list[Entry],
    packed: pd.DataFrame,
    store: CropStore,
    published: dict[str, str],
    apart_from: Sequence[Path] = (),
):
    """Manifest of the usable entries, their numbers among all, and the problems of all others.

    An image that is in one of the prepared folders `apart_from` too is a problem here and stays what it is there.
    """
    table = pd.DataFrame([vars(entry) for entry in entries])
    table["id"], problem = packed["id"].to_numpy(), packed["problem"].copy()
    repeated = table["id"].duplicated() & (problem == "")
    rows = np.flatnonzero(problem == "")
    manifest = table.iloc[rows].reset_index(drop=True)
    crops = store.crops(keys_of(packed, rows))
    pairs = duplicate_pairs(crops)
    group = components(len(rows), np.concatenate([pairs, equal_pairs(manifest["id"])]))
    conflict = pd.Series(False, index=table.index)
    conflict.iloc[rows] = conflicting(manifest, group)
    published = {row.path: row.split for row in manifest.itertuples() if row.split} | published
    manifest["split"] = assign_splits(manifest, pairs, published).to_numpy()
    problem[repeated] = "a copy of a file that is kept"
    problem[conflict] = "shows the same image as another file whose age differs by more than 2 years"
    for folder in apart_from:
        problem.iloc[rows[shown_by(crops, load_prepared(folder).crops)]] = (
            f"shows the same image as one of {folder.name}"
        )
    left_out = [Problem(entries[row].path, problem[row]) for row in np.flatnonzero(problem != "")]
    keep = (problem == "").to_numpy()[rows]
    further = pd.DataFrame(list(manifest["further"]), index=manifest.index).fillna("")
    manifest = pd.concat([manifest[COLUMNS], further], axis=1)
    return manifest.loc[keep].reset_index(drop=True), rows[keep], left_out


def prepare(options: Preparation) -> None:
    """Run the whole preparation, or take over what changed; raises DataError if it cannot be done."""
    out: Path = options.out
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; --out takes a folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with only_writer(out / CROPS):
            _prepare(out, options)
    except OSError as error:
        hint = "; is the disk full?" if error.errno in FULL_DISK else ""
        raise DataError(f"{error.filename or out} cannot be read or written ({error.strerror}){hint}.") from None


def _prepare(out: Path, options: Preparation) -> None:
    settings = {
        key: str(value) if isinstance(value, Path) else [*map(str, value)] if isinstance(value, list | tuple) else value
        for key, value in vars(options).items()
        if key != "out" and OWN_OPTIONS.get(key, options.name) == options.name and (value or key not in LATER_OPTIONS)
    }
    done, started = out / "prepared.json", out / "started.json"
    for earlier in (done, started):
        if earlier.is_file() and _settings_of(earlier) != settings:
            raise DataError(f"{out} was prepared with other settings ({earlier}); give another --out or delete it.")
    if not (options.name == "synthetic" and sound(out)):  # synthetic faces change with their settings alone
        source, entries = open_source(options)
        write_whole(started, json.dumps(settings, indent=1))
        finish(out, source, entries, options)
        started.replace(done)
    left_out = pd.read_csv(out / "left_out.csv", dtype=str, keep_default_na=False)
    summarise(out, read_manifest(out / "manifest.csv"), left_out)


def _settings_of(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except ValueError:  # cut off by a kill
        return None


def usable(entries: list[Entry | Problem], dropped: dict[str, str] | None = None) -> tuple[list[Entry], list[Problem]]:
    """The entries with a possible label, each path once, and the problems of the others.

    `dropped` says by path or file name which are not to be used, and why.
    """
    dropped = dropped or {}
    problems = [entry for entry in entries if isinstance(entry, Problem)]
    good: dict[str, Entry] = {}
    for entry in entries:
        if isinstance(entry, Entry):
            reason = "listed twice; its first label is used" if entry.path in good else impossible(entry)
            reason = reason or dropped.get(entry.path, dropped.get(entry.path.rsplit("/", 1)[-1], ""))
            if reason:
                problems.append(Problem(entry.path, reason))
            else:
                good[entry.path] = entry
    return list(good.values()), problems


def finish(out: Path, source: Source, entries: list[Entry | Problem], options: Preparation) -> None:
    """Pack the crops and write every file but prepared.json; an unchanged source changes nothing."""
    good, problems = usable(entries, read_list(options.leave_out or committed(options.name, "dropped"), "reason"))
    problems += source.problems
    published = read_split_file(options.split_file or committed(options.name, "splits"))
    ids = read_ids(source, good)
    told = repr((good, problems, list(ids), sorted(published.items())))
    told += "".join(crops_digest(folder) for folder in map(checked_set, options.apart_from))
    digest = hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()
    if unchanged(out, digest):
        print(f"{out}: nothing changed in the source.")
        return
    store = CropStore(out, options.size)
    try:
        packed = pack_crops(source, good, ids, store, options.size)
        manifest, rows, left_out = build_manifest(good, packed, store, published, options.apart_from)
        if manifest.empty:
            (out / "started.json").unlink(missing_ok=True)  # other settings may be tried
            raise DataError(f"Not one of {len(good)} images could be used; the first: {left_out[0].reason}")
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


def checked_set(folder: Path) -> Path:
    """The folder itself; raises DataError if it holds no prepared set."""
    load_prepared(folder)
    return folder


def committed(name: str, kind: str) -> Path | None:
    """The list data/<name>_<kind>.csv of this repository, None if there is none."""
    path = REPOSITORY / "data" / f"{name}_{kind}.csv"
    return path if path.is_file() else None


def read_list(path: Path | None, column: str) -> dict[str, str]:
    """One column by name from a CSV with the columns name,<column>; {} for None; raises DataError if it is no such."""
    if path is None:
        return {}
    try:
        table = read_table(path)
        return dict(zip(table["name"], table[column].str.strip(), strict=True))
    except (KeyError, DataError) as error:
        raise DataError(f"{path} must be a CSV with the columns name,{column} ({error}).") from None


def read_split_file(path: Path | None) -> dict[str, str]:
    """Split by name from a CSV with the columns name,split; {} for None; raises DataError if it is no such file."""
    try:
        return read_list(path, "split")
    except DataError as error:
        raise DataError(f"--split-file {error}") from None


def prepare_synthetic() -> list[str]:
    """Prepare 2,000 synthetic faces once, for a training without --data; returns their folder."""
    print("No --data given: training on 2,000 synthetic faces (see README to train on photos).")
    folder = REPOSITORY / "data" / "prepared" / "synthetic"
    prepare(Preparation("synthetic", folder))
    return [str(folder)]
