"""What a preparation says: counts of the set, what was left out, and what changed since the last time."""

from pathlib import Path

import numpy as np
import pandas as pd

from common.data.labels import OLDEST
from common.data.manifest import SPLITS, age_bounds, read_manifest
from common.errors import DataError
from common.figures import BLUE, new_figure, save_figure


def save_histogram(manifest: pd.DataFrame, path: Path) -> None:
    """Draw how many faces there are of each age (interval labels: of the middle of the interval)."""
    low, high = age_bounds(manifest)
    figure, (axis,) = new_figure(8, 4)
    axis.hist((low + high) / 2, bins=np.arange(0, OLDEST + 3, 2), color=BLUE)
    axis.set(xlabel="age (years)", ylabel="faces", title=f"{len(manifest)} faces", xlim=(0, OLDEST))
    save_figure(figure, path)


def summarise(out: Path, manifest: pd.DataFrame, left_out: pd.DataFrame) -> None:
    """Print counts, ages, splits and the files left out."""
    low, high = age_bounds(manifest)
    exact = int((low == high).sum())
    print(f"{out}: {len(manifest)} faces ({exact} with an exact age), ages {low.min():g} to {high.max():g} years")
    counts = manifest["split"].value_counts()
    print("  split: " + ", ".join(f"{name} {counts.get(name, 0)}" for name in SPLITS))
    empty = [name for name in SPLITS if name not in counts]
    if empty:
        print(
            f"  no face in {', '.join(empty)}: too few faces or people to train or to measure on; prepare more of them"
        )
    people = manifest["person"].replace("", np.nan).nunique()
    print(f"  people: {people}" if people else "  people: unknown, so results on this set are not subject-exclusive")
    print(f"  left out: {len(left_out)} files" + (f" (list: {out / 'left_out.csv'})" if len(left_out) else ""))
    for reason, count in left_out["reason"].str.replace(r"^[^:]*: ", "", regex=True).value_counts().head(8).items():
        print(f"    {count:6d}  {reason}")


def tell_changes(out: Path, manifest: pd.DataFrame) -> None:
    """Say what changed since the folder was prepared, if it was: "3 labels changed, 2 images added, 1 gone"."""
    try:
        before = read_manifest(out / "manifest.csv").drop_duplicates("path").set_index("path")
    except DataError:
        return
    now = manifest.set_index("path")
    both = now.index.intersection(before.index)
    other = (before.loc[both, "id"] != now.loc[both, "id"]).to_numpy()
    ages, ages_now = (np.stack(age_bounds(table.loc[both])).astype(float) for table in (before, now))  # [2, N] years
    texts = ["person", "gender", "group"]
    same = (before.loc[both, texts] == now.loc[both, texts]).all(axis=1).to_numpy() & (ages == ages_now).all(axis=0)
    moved = before.loc[both, "split"] != now.loc[both, "split"]
    counts = {
        "labels changed": int((~same & ~other).sum()), "images exchanged": int(other.sum()),
        "images added": len(now.index.difference(before.index)), "gone": len(before.index.difference(now.index)),
        "in another split": int(moved.sum()),
    }  # fmt: skip
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    print(f"{out}: {said or 'the same pictures and labels'}.")
