"""The demo: the age of a real portrait beside its true age, and a simulated album dated; what each line means.

    python scripts/demo.py
    python scripts/demo.py --out out/demo       # also draw both: out/demo/demo.jpg

Exit status: 0 done, 2 nothing could be done.
"""

import argparse
import sys
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from AlbumPipeline.AlbumPipeline__infer2 import DEMO
from AlbumPipeline.AlbumPipeline__report import (
    Solved,
    contradictions,
    dates_table,
    people_table,
    solve_table,
    years_between,
)
from AlbumPipeline.AlbumPipeline__tables import make_album, read_faces_table
from AlbumPipeline.AlbumPipeline__weights import RELEASED, load_errors
from common.errors import UserError
from common.inference.drawings import save_drawing
from common.inference.estimates import FaceAge
from common.inference.inputs import demo_photo
from common.inference.terminal import unless_closed

TRUE_AGE = 42  # years: Eileen Collins was born in November 1956, NASA took the portrait in 1999
INTERVAL = 0.9
SHOWN = 5  # photos whose years are printed
DRAWN, HEIGHT = "Clara", 380  # whose timeline stands beside the portrait; pixels


def portrait_lines(face: FaceAge) -> list[str]:
    """What is said of the portrait."""
    inside = "inside" if (face.low or 0) <= TRUE_AGE <= (face.high or 0) else "outside"
    return [
        "A portrait: Eileen Collins, NASA, 1999",
        f"  estimated age   {face.age:5.1f}   one face alone, corrected by faces of the training",
        f"  90 % interval   {face.low:.0f} to {face.high:.0f}  holds nine of ten ages of photos like the training's",
        f"  true age        {TRUE_AGE:5d}   {abs(face.age - TRUE_AGE):.0f} years off, {inside} the interval: "
        "one photo says little",
    ]


def album_lines(solved: Solved) -> list[str]:
    """What is said of the album."""
    people, dates = people_table(solved, INTERVAL), dates_table(solved, INTERVAL)
    lines = [
        "",
        f"An album (data/demo_album.csv): {len(people)} simulated people in {len(dates)} photos, half without a date",
        "  Birth years follow from the dated photos, the years of the other photos from the births:",
    ]
    for row in people.itertuples():
        known = "birth date given" if row.status == "stated" else f"90 %: {years_between(row.low, row.high)}, estimated"
        lines.append(f"  {row.person:8} born {int(row.birth_year)}   {known}")
    asked = dates[dates["status"].isin(["estimated", "narrowed"])]
    for row in asked.head(SHOWN).itertuples():
        lines.append(
            f"  {row.photo}  taken {int(row.date)}   90 %: {years_between(row.low, row.high)}, "
            f"from {row.people} {'face' if row.people == 1 else 'faces'} in it"
        )
    lines.append(f"  … and {len(asked) - SHOWN} more photos dated. Contradictions, named and not believed:")
    return lines + [f"  {sentence}" for sentence in contradictions(solved)[:2]]


def draw(face: FaceAge, solved: Solved, path: Path) -> None:
    """Draw the portrait with its interval beside the timeline of DRAWN; raises DataError if it cannot be written."""
    from PIL import Image

    from AlbumPipeline.AlbumPipeline__figures import draw_timelines
    from common.faces.images import load_image
    from common.inference.faces_drawn import draw_faces

    assert face.box is not None
    label = f"{face.age:.0f} ({face.low:.0f}-{face.high:.0f}), true {TRUE_AGE}"
    portrait = draw_faces(Image.fromarray(load_image(demo_photo())), [(face.box, label)])
    with TemporaryDirectory() as folder:
        timeline = Path(folder) / "timeline.png"
        draw_timelines(solved, INTERVAL, [solved.table.person.index(DRAWN)], timeline)
        album = Image.open(timeline).convert("RGB")
    left = portrait.resize((HEIGHT, HEIGHT))
    right = album.resize((round(album.width * HEIGHT / album.height), HEIGHT))
    drawn = Image.new("RGB", (left.width + right.width, HEIGHT), "white")
    drawn.paste(left, (0, 0))
    drawn.paste(right, (left.width, 0))
    save_drawing(drawn, path)
    print(f"drawn: {path}")


def run(out: Path | None) -> None:
    """Estimate, solve, print and draw; raises UserError."""
    from common.pipeline import AgePipeline

    face = AgePipeline.from_weights().estimate(demo_photo(), interval=INTERVAL)[0]
    print("\n".join(portrait_lines(face)), flush=True)
    errors, _ = load_errors(RELEASED)
    faces, births, _ = read_faces_table(DEMO)
    solved = solve_table(make_album(faces, births, errors, date.today())[0], errors)
    print("\n".join(album_lines(solved)), flush=True)
    if out:
        print()
        draw(face, solved, out / "demo.jpg")
    your = "Your photos: source .venv/bin/activate, then age-photos PHOTO … and age-album FOLDER (README.md)"
    print(f"\n{your}", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="DIR", help="draw the portrait and a timeline here")
    try:
        out = parser.parse_args(argv).out
        unless_closed(lambda: run(out))
    except UserError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
