"""Birth years and photo dates of an album, from the ages of the faces in it, solved together; contradictions named.

    python AlbumPipeline/AlbumPipeline__infer2.py                              # the demo: simulated people
    python AlbumPipeline/AlbumPipeline__infer2.py album/ --out results/        # album/anna/1987/a.jpg
    python AlbumPipeline/AlbumPipeline__infer2.py scans/ --examples people/    # recognised by people/anna.jpg
    python AlbumPipeline/AlbumPipeline__infer2.py --faces faces.csv --people people.csv --explain drawn/

People are named by the innermost folder that is no date (of several faces the largest), by --examples, or numbered by
--cluster: correct the column person of faces.csv and give it to --faces.
The date of a photo is, in this order: --dates (photo, photo_date); the EXIF date of taking, never that of editing or
scanning, which only says "not later"; a date like 1987-06 in its name or its folder's. 1970s, ABT 1931, BET 1920 AND
1925 and before 2004 are understood. Births: --people, a CSV (person, born) or a family tree (.ged, GEDCOM), whose
people are found by their full names, or by given names that one of them alone has. With neither births nor dates
nothing is known.
Nothing is written into photos; embeddings of faces stay in memory.

Exit status: 0 done, 1 some inputs were not used (named on stderr), 2 nothing could be done.
"""

import argparse
import sys
from datetime import date
from pathlib import Path

import pandas as pd

from AlbumPipeline.AlbumPipeline__report import check_folder, solve_table, summary, write_results
from AlbumPipeline.AlbumPipeline__tables import make_album, people_of, read_faces_table, with_dates
from AlbumPipeline.AlbumPipeline__weights import RELEASED, load_errors
from common.data.births import read_births
from common.data.predictions import read_csv
from common.errors import DataError, UserError
from common.files import REPOSITORY
from common.inference.terminal import unless_closed

DEMO = REPOSITORY / "data" / "demo_album.csv"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(
        "age-album", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("inputs", nargs="*", type=Path, metavar="FOLDER", help="folders of photos (none: the demo table)")
    add(
        "--faces", type=Path, metavar="CSV", help="faces estimated already: photo, person, estimate[, photo_date, born]"
    )
    add("--people", type=Path, metavar="FILE", help="births: a CSV (person, born) or a family tree (.ged)")
    add("--dates", type=Path, metavar="CSV", help="dates of photos: photo, photo_date")
    add("--examples", type=Path, metavar="DIR", help="recognise people by DIR/anna.jpg or DIR/anna/1.jpg")
    add("--cluster", action="store_true", help="number the people that nobody named: person 1, person 2, …")
    add("--false-match-rate", type=float, default=0.01, metavar="P", help="of strangers, by --examples (0.01)")
    add("--no-exif", action="store_true", help="do not believe the EXIF date of taking: scanners write theirs there")
    add("--interval", type=float, default=0.9, metavar="P", help="probability with which low to high holds (0.9)")
    add("--out", type=Path, metavar="DIR", help="write dates.csv, people.csv, faces.csv, exiftool.csv, album.json")
    add("--explain", type=Path, metavar="DIR", help="draw a timeline for each person, the evidence of each photo")
    add("--weights", type=Path, default=RELEASED, metavar="DIR", help="what AlbumPipeline__main wrote (the released)")
    add("--base-weights", type=Path, metavar="DIR", help="folder of the base regressor's weights (the released ones)")
    add("--device", default="auto", help="auto, cpu or cuda")
    return parser.parse_args(argv)


def refuse(arguments: argparse.Namespace) -> None:
    """Raise DataError for options that do not go together, and for places that cannot be written."""
    if arguments.faces and arguments.inputs:
        raise DataError("Give folders of photos or --faces, not both.")
    if (arguments.examples or arguments.cluster) and not arguments.inputs:
        raise DataError("--examples and --cluster look at photos; give a folder of them.")
    if not 0 < arguments.interval < 1:
        raise DataError(f"--interval takes a probability between 0 and 1, not {arguments.interval}.")
    if arguments.out:
        check_folder(arguments.out)


def refuse_corrected(path: Path, faces: pd.DataFrame) -> None:
    """Raise DataError if a faces.csv written before names somebody otherwise: a user may have corrected it."""
    if not path.is_file():
        return
    keys = ["photo", "face"]
    before, now = (table[[*keys, "person"]].fillna("").astype(str) for table in (read_csv(path, dtype=str), faces))
    both = before.merge(now, on=keys, suffixes=("", "_now"))
    if (both["person"] != both["person_now"]).any():
        raise DataError(
            f"{path} names people otherwise than this run would: it is kept. Solve it with --faces {path}, or give "
            "another --out."
        )


def run(arguments: argparse.Namespace) -> list[str]:
    """Solve, print and write; returns a sentence for each thing that was not used."""
    refuse(arguments)
    errors, notes = load_errors(arguments.weights)
    if arguments.inputs:
        from AlbumPipeline.AlbumPipeline__photos import faces_of_photos

        faces, births, problems = faces_of_photos(arguments, notes)
        if arguments.out:
            refuse_corrected(arguments.out / "faces.csv", faces)
    else:
        faces, births, problems = read_faces_table(arguments.faces or DEMO)
    if arguments.people:
        stated, remarks, refused = read_births(arguments.people, people_of(faces))
        births |= stated
        problems += refused
        print("".join(f"{remark}\n" for remark in remarks), end="", file=sys.stderr)
    if arguments.dates:
        faces, missing = with_dates(faces, arguments.dates)
        problems += missing
    table, said = make_album(faces, births, errors, date.today())
    solved = solve_table(table, errors)
    unless_closed(lambda: print("\n".join(summary(solved, arguments.interval)), flush=True))
    if arguments.out:
        made_by = {"weights": arguments.weights.name, "base": notes.get("base", "")}
        write_results(solved, arguments.interval, arguments.out, made_by)
        print(f"\nresults: {arguments.out}")
    if arguments.explain:
        from AlbumPipeline.AlbumPipeline__figures import draw_album

        print(f"drawn: {draw_album(solved, arguments.interval, arguments.explain)} images in {arguments.explain}")
    return problems + said


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    arguments = parse_arguments(argv)
    try:
        problems = run(arguments)
    except UserError as error:
        print(f"age-album: {error}", file=sys.stderr)
        return 2
    for problem in problems:
        print(f"not used: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
