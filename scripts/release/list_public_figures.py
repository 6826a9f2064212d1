"""Which split each person of PublicFigures photographed over years belongs to: makes data/public_figures_splits.csv.

    python scripts/release/list_public_figures.py --source PublicFigures.tar --out data/public_figures_splits.csv

Lists every photo of the people whose photos are of years at least 2 apart, so that none of them is in `base`: albums
and own references are studied on their photos. People with exact ages at least 5 years apart are divided between `dar`
and `test` in the order of a hash of their names, the others go to `dar`. Everybody else is left to the usual hash.
Exit status: 0 done, 2 nothing could be done.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import pandas as pd

from common.data.source import Source
from common.errors import DataError, UserError
from common.files import write_whole

YEARS_APART = 2  # calendar years between photos that make an album
AGES_APART = 5  # years between exact ages that make an album worth testing on


def album_splits(labels: pd.DataFrame) -> pd.DataFrame:
    """Columns name, split of every photo of an album, from rows [N] with path, age, person, photo_date.

    `age` is in years, '' where it is not exact; `photo_date` is an ISO day. Raises DataError for other dates.
    """
    try:
        year = pd.to_datetime(labels["photo_date"], format="%Y-%m-%d").dt.year
    except ValueError as error:
        raise DataError(f"A photo_date is no ISO day ({error}).") from None
    year, age = (each.groupby(labels["person"]) for each in (year, pd.to_numeric(labels["age"])))
    albums = (year.max() - year.min()) >= YEARS_APART
    long = (age.max() - age.min() >= AGES_APART) & albums  # NaN, of a person without exact ages, is not
    people = sorted(long.index[long], key=lambda name: hashlib.sha1(name.encode()).hexdigest())
    split = pd.Series("dar", index=albums.index[albums])
    split[people[::2]] = "test"
    photos = labels[labels["person"].isin(split.index)]
    return pd.DataFrame({"name": photos["path"].str.rsplit("/", n=1).str[-1], "split": photos["person"].map(split)})


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 done, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder or archive of PublicFigures")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="list to write")
    arguments = parser.parse_args(argv)
    try:
        table = album_splits(Source(arguments.source).table("labels.csv")[1]).sort_values("name")
        write_whole(arguments.out, table.to_csv(index=False))
    except UserError as error:
        print(f"list_public_figures: {error}", file=sys.stderr)
        return 2
    print(
        f"{arguments.out}: "
        + ", ".join(f"{name} {count} photos" for name, count in table["split"].value_counts().items())
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
