"""Make a bank of your own references: dated faces of your camera, your population, or one person.

    python scripts/build_reference_bank.py --source album/ --births births.csv --out family.npz     # ages from dates
    python scripts/build_reference_bank.py --source passport/ --age-pattern '_(\\d+)y' --out camera.npz
    python scripts/build_reference_bank.py --source people.csv --column age=alter --out mine.npz
    python scripts/build_reference_bank.py --source data/prepared/fgnet_dev --out fgnet.npz
    python scripts/build_reference_bank.py --inspect family.npz

The age of a picture is, in this order: a CSV's column `age`; birth date to photo date (columns `birth_date` and
`photo_date`, or --births and the photo's EXIF date); the number that --age-pattern finds in the file's name. Who is
shown: a CSV's column `person`, or the name of the picture's folder. A bank holds embeddings, ages, ids and names, no
pictures; embeddings of people are personal data all the same. --identities adds face-recognition embeddings, which tell
who is shown: keep such a bank like a fingerprint file.

Exit status: 0 done, 1 some pictures were left out (named on stderr), 2 nothing could be done.
"""

import argparse
import hashlib
import re
import sys
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import ExifTags, Image
from tqdm import tqdm

from common.crops import IMAGE_SUFFIXES, decode_image, read_bytes, resize_crop
from common.embedded import Views, bank_of, embed_split
from common.errors import DataError, ImageError, UserError
from common.identity import IdentityEncoder
from common.manifest import OLDEST, SPLITS, load_prepared, renamed
from common.pipeline import AgePredictBasicPipeline
from common.reference_bank import ReferenceBank, concatenate, load_bank
from DiffPipeline6.DiffPipeline6__model import RELEASED, load_model
from scripts.bank_report import inspect_bank

YEAR = 365.2425  # days


@dataclass(frozen=True)
class Picture:
    """One picture to enter: its file, the name it is reported by, its age in years (or why there is none), person."""

    file: Path
    name: str
    age: float | str
    person: str


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--source", type=Path, help="folder of pictures, CSV file, or prepared folder")
    add("--out", type=Path, metavar="BANK", help="bank to write (.npz)")
    add("--append", action="store_true", help="add to the bank at --out")
    add("--column", action="append", default=[], metavar="OUR=THEIRS", help="CSV: name of a column")
    add("--births", type=Path, metavar="CSV", help="columns person,birth_date (YYYY-MM-DD or YYYY)")
    add("--age-pattern", metavar="REGEX", help="its first group is the age in a file's name")
    add("--crops", action="store_true", help="the pictures are aligned face crops: do not look for faces")
    add("--identities", action="store_true", help="also store who looks like whom, for --person auto")
    add("--inspect", type=Path, metavar="BANK", help="only say what a bank holds and suggests; draws BANK.png")
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="DiffPipeline6 weights the bank is for")
    add("--device", default="auto", help="auto, cpu or cuda")
    return parser.parse_args(argv)


def parse_date(text: str) -> date:
    """A date from YYYY-MM-DD, YYYY:MM:DD (EXIF) or YYYY (its middle); raises ValueError for anything else."""
    match = re.fullmatch(r"(\d{4})(?:[-:](\d\d?)[-:](\d\d?)(?:[ T].*)?)?", text.strip())
    if not match:
        raise ValueError(f"'{text}' is no date like 1987-06-30")
    year, month, day = match.groups()
    return date(int(year), int(month or 7), int(day or 1))


def age_between(birth: str, photo: str) -> float | str:
    """Age in years at the photo, or why it is unknown."""
    if not birth.strip() or not photo.strip():
        return "no age: its " + ("birth date" if not birth.strip() else "photo date") + " is not known"
    try:
        return (parse_date(photo) - parse_date(birth)).days / YEAR
    except ValueError as error:
        return f"no age: {error}"


def exif_date(path: Path) -> str:
    """The date a picture was taken as its camera wrote it, '' if it did not."""
    try:
        with Image.open(path) as image:
            exif = image.getexif()
            taken = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
            return str(taken or exif.get(ExifTags.Base.DateTime) or "")
    except (OSError, ValueError, SyntaxError):
        return ""


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """A CSV as text with its columns renamed to ours; raises DataError if that cannot be done."""
    if any("=" not in pair for pair in columns):
        raise DataError("--column must look like age=THEIR_NAME.")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} cannot be read as a CSV table ({error}).") from None
    return renamed(table, dict(pair.split("=", 1) for pair in columns), str(path))


def pictures_of_table(arguments: argparse.Namespace) -> list[Picture]:
    """Pictures named by a CSV, whose paths are relative to it."""
    table = read_table(arguments.source, arguments.column)
    dated = {"birth_date", "photo_date"} <= set(table.columns)
    if "path" not in table.columns or not ("age" in table.columns or dated):
        raise DataError(
            f"{arguments.source} needs the columns 'path' and 'age' (or birth_date and photo_date); it has "
            f"{', '.join(table.columns)}. Name them with --column age=THEIRS."
        )
    pictures = []
    for row in table.to_dict("records"):
        age = age_between(row["birth_date"], row["photo_date"]) if dated and not row.get("age", "").strip() else ""
        if age == "":
            try:
                age = float(row["age"])
            except ValueError:
                age = f"no age: '{row['age']}' is no number"
        file = arguments.source.parent / row["path"]
        pictures.append(Picture(file, row["path"], age, row.get("person", "").strip()))
    return pictures


def pictures_of_folder(arguments: argparse.Namespace) -> list[Picture]:
    """Pictures of a folder; a picture in a folder within it shows the person of that folder's name."""
    births = {}
    if arguments.births:
        table = read_table(arguments.births, [])
        if not {"person", "birth_date"} <= set(table.columns):
            raise DataError(f"{arguments.births} needs the columns person and birth_date.")
        births = dict(zip(table["person"], table["birth_date"], strict=True))
    elif not arguments.age_pattern:
        raise DataError("A folder needs ages: give --births CSV or --age-pattern REGEX (or a CSV as --source).")
    pictures = []
    for file in sorted(path for path in arguments.source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES):
        name = file.relative_to(arguments.source)
        person = name.parts[0] if len(name.parts) > 1 else ""
        pictures.append(Picture(file, str(name), age_of_file(file, person, births, arguments.age_pattern), person))
    return pictures


def age_of_file(file: Path, person: str, births: dict[str, str], pattern: str | None) -> float | str:
    """Age from birth and EXIF date, else from the file's name, else the reason why there is none."""
    age = age_between(births.get(person, ""), exif_date(file)) if births else "no age: its name does not match"
    if isinstance(age, str) and pattern:
        match = re.search(pattern, file.name)
        if match:
            try:
                return float(match[1])
            except (ValueError, IndexError):
                return "no age: --age-pattern finds no number in it"
    return age


def enter_pictures(
    pictures: list[Picture],
    pipeline: AgePredictBasicPipeline,
    crops_given: bool,
    encoder: IdentityEncoder | None = None,
) -> tuple[ReferenceBank, list[str]]:
    """The bank of all usable pictures, and a line for each one left out; raises DataError if none is left.

    With an encoder the bank holds identities.
    """
    crops, kept, ids, problems, first = [], [], [], [], {}
    for picture in tqdm(pictures, unit="picture", disable=len(pictures) < 20):
        try:
            crop, number = crop_of(picture, pipeline, crops_given)
        except ImageError as error:
            problems.append(str(error) if str(error).startswith(picture.name) else f"{picture.name}: {error}")
            continue
        if number in first:
            problems.append(f"{picture.name}: the same picture as {first[number]}")
            continue
        first[number] = picture.name
        crops.append(crop)
        kept.append(picture)
        ids.append(number)
    if not kept:
        raise DataError(
            f"Not one of {len(pictures)} pictures could be used" + (f"; {problems[0]}" if problems else ".")
        )
    seen = pipeline.predict(np.stack(crops))
    bank = ReferenceBank(
        seen.embeddings.astype(np.float16), np.array([picture.age for picture in kept], np.float32),
        seen.ages.astype(np.float32), np.zeros(len(kept), bool), np.array([picture.person for picture in kept]),
        np.array(ids), pipeline.fingerprint, encoder(crops).astype(np.float16) if encoder else None,
    )  # fmt: skip
    return bank, problems


def crop_of(picture: Picture, pipeline: AgePredictBasicPipeline, crops_given: bool) -> tuple[np.ndarray, str]:
    """Crop [S, S, 3] and id of a picture; raises ImageError if its age or its face cannot be used."""
    if isinstance(picture.age, str):
        raise ImageError(f"{picture.name}: {picture.age}.")
    if not 0 <= picture.age <= OLDEST:
        raise ImageError(f"{picture.name}: impossible age {picture.age:.1f}.")
    data = read_bytes(picture.file, picture.name)
    image, number = decode_image(data, picture.name), hashlib.sha1(data).hexdigest()
    if crops_given:
        return resize_crop(image, pipeline.model.config.crop_size), number
    faces = pipeline.faces(image)
    if not faces:
        raise ImageError(f"{picture.name}: no face found.")
    return faces[0].crop, number


def bank_of_prepared(
    folder: Path, pipeline: AgePredictBasicPipeline, encoder: IdentityEncoder | None = None
) -> ReferenceBank:
    """The bank of all exactly labelled faces of a prepared folder; with an encoder it holds identities."""
    cache = Views(str(folder / "embeddings"))
    parts = [embed_split(pipeline, folder, split, cache) for split in SPLITS]
    bank = bank_of([(part, False) for part in parts], pipeline.fingerprint)
    if encoder is None:
        return bank
    prepared = load_prepared(folder)
    row = pd.Series(np.arange(len(prepared.manifest)), index=prepared.manifest["id"])[bank.id]
    return replace(bank, identity=encoder(prepared.crops[number] for number in row).astype(np.float16))


def refuse_out(arguments: argparse.Namespace) -> None:
    """Raise DataError for an --out that is no name of a bank, or that would replace one."""
    out = arguments.out
    if out.suffix != ".npz":
        raise DataError(f"--out must end in .npz, not {out.name}.")
    if out.exists() and not arguments.append:
        raise DataError(f"{out} is there already; add to it with --append, or give another name or remove it.")


def build(arguments: argparse.Namespace, pipeline: AgePredictBasicPipeline) -> list[str]:
    """Build and write the bank; returns a line for each picture left out."""
    source, problems = arguments.source, []
    if not source.exists():
        raise DataError(f"There is nothing at {source}; give a folder, a CSV file or a prepared folder.")
    refuse_out(arguments)
    encoder = IdentityEncoder() if arguments.identities else None
    if (source / "crops.npy").is_file():
        bank = bank_of_prepared(source, pipeline, encoder)
    else:
        pictures = pictures_of_folder(arguments) if source.is_dir() else pictures_of_table(arguments)
        bank, problems = enter_pictures(pictures, pipeline, arguments.crops, encoder)
    if arguments.append and arguments.out.is_file():
        old = load_bank(arguments.out, pipeline.fingerprint)
        new = ~np.isin(bank.id, old.id)
        if not new.all():
            print(f"in the bank already: {int((~new).sum())} of {len(new)} pictures")
        bank = concatenate([old, bank.rows(new)]) if new.any() else old
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    bank.save(arguments.out)
    people, ages = len(set(bank.person) - {""}), bank.ages
    print(f"{len(bank)} references of {people} named people, ages {ages.min():.0f} to {ages.max():.0f}")
    print(f"bank: {arguments.out}")
    return problems


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    arguments, problems = parse_arguments(argv), []
    try:
        if not arguments.inspect and not (arguments.source and arguments.out):
            raise DataError("Give --source and --out, or --inspect BANK.")
        corrector = load_model(arguments.weights, arguments.device)
        if arguments.inspect:
            inspect_bank(arguments.inspect, corrector)
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
