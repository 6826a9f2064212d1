"""Make a bank of your own references: dated faces of your camera, your population, or one person.

    python scripts/build_reference_bank.py --source album/ --births births.csv --out family.npz     # ages from dates
    python scripts/build_reference_bank.py --source passport/ --age-pattern '_(\\d+)y' --out camera.npz
    python scripts/build_reference_bank.py --source people.csv --column age=alter --out mine.npz
    python scripts/build_reference_bank.py --source data/prepared/fgnet_dev --out fgnet.npz
    python scripts/build_reference_bank.py --inspect family.npz

The age of an image is, in this order: a CSV's column `age`; birth date (--births, or a column `birth_date`) to photo
date; the number that --age-pattern finds in the file's name. The photo date is, in this order: a column `photo_date`;
the EXIF date of taking (that of editing only with --trust-edit-date); the year that --year-pattern finds in the file's
name; a date like 1987-06 or 19870630 in its name or a folder's, or a folder named as a year. Of a year or a month its
middle counts. Who is shown: a CSV's column `person`, or the name of the image's folder; of several faces the one that
looks like this person's other images. Ages that contradict the base by more than 25 years are left out.

A bank holds embeddings, ages, ids, names, and of your own photos each face at 64 x 64 pixels, which --explain shows
again (--no-faces leaves them out; prepared folders enter without). It is personal data, with faces or without.
--identities adds face-recognition embeddings, which tell who is shown: keep such a bank like a fingerprint file.

Exit status: 0 done, 1 some images were left out (named on stderr), 2 nothing could be done.
"""

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.dates import age_between as age_between
from common.data.dates import exif_date as exif_date
from common.data.manifest import SPLITS, age_bounds, load_prepared
from common.difference.bank import ReferenceBank, load_bank
from common.difference.embedded import Views, bank_of, embed_split
from common.errors import DataError, ImageError, UserError
from common.faces.identity import IdentityEncoder
from common.faces.photo_files import read_bytes
from common.files import only_writer
from common.pipeline import AgePredictBasicPipeline
from DiffPipeline6.DiffPipeline6__model import RELEASED, load_model
from scripts.references.entries import Entered, enter
from scripts.references.entries import enter_pictures as enter_pictures
from scripts.references.inspect import inspect_bank
from scripts.references.merging import merge, without_outliers
from scripts.references.sources import Picture, expression, list_sources

SHOWN = 20  # photos named one by one that are only to be looked at


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--source", type=Path, help="folder of images, CSV file, or prepared folder")
    add("--out", type=Path, metavar="BANK", help="bank to write (.npz)")
    add("--append", action="store_true", help="add to the bank at --out, and correct ages and names in it")
    add("--column", action="append", default=[], metavar="OUR=THEIRS", help="CSV: name of a column")
    add("--births", type=Path, metavar="FILE", help="CSV (person,birth_date: 1940-06-30, 30.6.1940, 1940) or .ged")
    add("--age-pattern", type=expression, metavar="REGEX", help="its one group is the age in a file's name")
    add("--year-pattern", type=expression, metavar="REGEX", help="its one group is the year in a file's name")
    add("--trust-edit-date", action="store_true", help="EXIF: take the date of editing where that of taking is missing")
    add("--keep-outliers", action="store_true", help="keep ages that contradict the base by more than 25 years")
    add("--crops", action="store_true", help="the images are aligned face crops: do not look for faces")
    add("--identities", action="store_true", help="also store who looks like whom, for --person auto")
    add("--no-faces", action="store_true", help="do not keep small faces for --explain to show")
    add("--inspect", type=Path, metavar="BANK", help="only say what a bank holds and suggests; draws BANK.png")
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="DiffPipeline6 weights the bank is for")
    add("--device", default="auto", help="auto, cpu or cuda")
    return parser.parse_args(argv)


def bank_of_prepared(
    folder: Path, pipeline: AgePredictBasicPipeline, encoder: IdentityEncoder | None = None
) -> ReferenceBank:
    """The bank of all exactly labelled faces of a prepared folder; with an encoder it holds identities."""
    cache = Views(str(folder / "embeddings"))
    parts = [embed_split(pipeline, folder, split, cache) for split in SPLITS]
    if not any(part.exact.any() for part in parts):
        raise DataError(f"{folder} holds no exact age, and a bank needs exact ones.")
    bank = bank_of([(part, False) for part in parts], pipeline.fingerprint)
    if encoder is None:
        return bank
    prepared = load_prepared(folder)
    row = pd.Series(np.arange(len(prepared.manifest)), index=prepared.manifest["id"])
    row = row[~row.index.duplicated()][bank.id]
    return replace(bank, identity=encoder(prepared.crops[number] for number in row).astype(np.float16))


def enter_prepared(folder: Path, pipeline: AgePredictBasicPipeline, encoder: IdentityEncoder | None) -> Entered:
    """`bank_of_prepared` with the paths of its images; how many have no exact age is its one problem."""
    bank, manifest = bank_of_prepared(folder, pipeline, encoder), load_prepared(folder).manifest
    pictures = {
        record.id: Picture(folder, record.path, record.age, record.person)
        for record in manifest.itertuples()
    }  # fmt: skip
    low, high = age_bounds(manifest)
    inexact, problems = int((low != high).sum()), []
    if inexact:
        told = f"{inexact} of {len(manifest)} images, whose age is an interval or unknown; a bank needs exact ages."
        problems.append((Picture(folder, str(folder), told, ""), told))
    return Entered(bank, pictures, problems)


def refuse_out(arguments: argparse.Namespace) -> None:
    """Raise DataError for an --out that is no name of a bank, or that would replace one."""
    out = arguments.out
    if out.suffix != ".npz":
        raise DataError(f"--out must end in .npz, not {out.name}.")
    if out.is_symlink() and not out.exists():
        raise DataError(f"{out} is a link to nothing; remove it or give another name.")
    if out.exists() and not out.is_file():
        raise DataError(f"{out} is no file; give another name.")
    if out.exists() and not arguments.append:
        raise DataError(f"{out} is there already; add to it with --append, or give another name or remove it.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"The folder {out.parent} of the bank cannot be made ({error.strerror}).") from None


def build(arguments: argparse.Namespace, pipeline: AgePredictBasicPipeline) -> list[str]:
    """Build and write the bank; returns a line for each image left out."""
    if not arguments.source.exists():
        raise DataError(f"There is nothing at {arguments.source}; give a folder, a CSV file or a prepared folder.")
    refuse_out(arguments)
    with only_writer(arguments.out):
        refuse_out(arguments)
        old = load_bank(arguments.out, pipeline.fingerprint) if arguments.out.exists() else None
        if old is not None and old.identity is None and arguments.identities:
            raise DataError(f"{arguments.out} holds no identities, so none can be added to it; build it again.")
        entered = enter_source(arguments, pipeline, old is not None and old.identity is not None)
        entered = without_outliers(entered, old, arguments.keep_outliers)
        bank, said = merge(old, entered.bank)
        bank.save(arguments.out)
    for _, remark in entered.remarks[:SHOWN]:
        print(f"look at: {remark}")
    if len(entered.remarks) > SHOWN:
        print(f"look at: {len(entered.remarks) - SHOWN} others like these (kept)")
    for line in said:
        print(line)
    ages = bank.ages
    print(f"{len(bank)} references of {len(bank.people)} named people, ages {ages.min():.0f} to {ages.max():.0f}")
    print(f"bank: {arguments.out}")
    return [sentence + still_there(picture, old) for picture, sentence in entered.problems]


def enter_source(arguments: argparse.Namespace, pipeline: AgePredictBasicPipeline, needed: bool) -> Entered:
    """What --source holds, with identities if they were asked for or the bank so far has them (`needed`)."""
    encoder, identities = IdentityEncoder(), arguments.identities or needed
    if (arguments.source / "crops.npy").is_file():
        return enter_prepared(arguments.source, pipeline, encoder if identities else None)
    return enter(list_sources(arguments), pipeline, arguments.crops, encoder, identities, not arguments.no_faces)


def still_there(picture: Picture, old: ReferenceBank | None) -> str:
    """What to add where an image that is left out now is in the bank from before, with which age."""
    if old is None:
        return ""
    try:
        number = hashlib.sha1(read_bytes(picture.file, picture.name)).hexdigest()
    except ImageError:
        return ""
    kept = old.ages[old.id == number]
    return f" (the bank keeps it from before, as {kept[0]:.1f} years)" if len(kept) else ""


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    arguments, problems = parse_arguments(argv), []
    try:
        if not arguments.inspect and not (arguments.source and arguments.out):
            raise DataError("Give --source and --out, or --inspect BANK.")
        corrector = load_model(arguments.weights, arguments.device)
        if arguments.inspect:
            inspect_bank(arguments.inspect, corrector.pipeline)
        else:
            problems = build(arguments, corrector.pipeline)
    except UserError as error:
        print(f"build_reference_bank: {error}", file=sys.stderr)
        return 2
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
