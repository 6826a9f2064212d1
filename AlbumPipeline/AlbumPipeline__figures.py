"""Images of a solved album: a timeline for each person, the evidence of each photo."""

import re
from pathlib import Path

import numpy as np

from AlbumPipeline.AlbumPipeline__model import implied_age
from AlbumPipeline.AlbumPipeline__report import Solved, dates_table, people_table
from common.figures import BLUE, ORANGE, new_figure, save_figure

MOST_DRAWN = 50  # people, and photos
GREY = "#888888"
FRAME = 1.0  # years left free around what is drawn


def draw_album(solved: Solved, probability: float, folder: Path) -> int:
    """Draw the people of known or found birth seen most, and photos whose date was not stated; returns how many."""
    count = np.bincount(solved.table.album.person, minlength=len(solved.table.person))
    placed = np.flatnonzero(people_table(solved, probability)["status"] != "unknown")
    people = placed[np.argsort(-count[placed], kind="stable")][:MOST_DRAWN]
    for number in people:
        name = f"{number:03d}_{_file_name(solved.table.person[number])}_timeline.png"
        draw_timelines(solved, probability, [int(number)], folder / name)
    status = dates_table(solved, probability)["status"].to_numpy()
    with_faces = np.isin(np.arange(len(status)), solved.table.album.photo)
    wrong = np.isin(np.arange(len(status)), solved.table.album.photo[solved.alarm])
    asked = np.flatnonzero(with_faces & ((status != "stated") | wrong))[:MOST_DRAWN]
    for number in asked:
        name = f"{number:03d}_{_file_name(Path(solved.table.photo[number]).stem)}_evidence.png"
        draw_evidence(solved, probability, int(number), folder / name)
    return len(people) + len(asked)


def draw_timelines(solved: Solved, probability: float, people: list[int], path: Path) -> None:
    """Age against date of these people's faces, each alone with its bar, and the line that the album gives."""
    figure, axes = new_figure(5.2 * len(people), 3.6, len(people))
    for place, (axis, number) in enumerate(zip(axes, people, strict=True)):
        _timeline(axis, solved, probability, number)
        if place == 0:
            axis.set_ylabel("age (years)")
            axis.legend(loc="upper left", frameon=False, fontsize=8)
    save_figure(figure, path)


def _timeline(axis, solved: Solved, probability: float, number: int) -> None:
    ages, album = solved.ages, solved.table.album
    rows = np.flatnonzero(album.person == number)
    date, alone = ages.taken[album.photo[rows]], implied_age(album, solved.errors)[rows]  # [n]
    half = solved.half_width(alone_sd(solved)[rows], probability)
    high = solved.half_width(ages.taken_sd, probability)[album.photo[rows]]
    good = ~solved.alarm[rows]
    stated = np.isfinite(album.taken.sd[album.photo[rows]])
    for chosen, colour, mark, label in (
        (good & stated, BLUE, "o", "a face alone, photo dated"),
        (good & ~stated, GREY, "s", "a face alone, date estimated"),
        (~good, ORANGE, "X", "contradiction"),
    ):
        if chosen.any():
            bars = {
                "yerr": [np.minimum(half, alone)[chosen], half[chosen]],
                "xerr": None if mark == "o" else high[chosen],
            }
            axis.errorbar(
                date[chosen], alone[chosen], **bars, fmt=mark, color=colour, ecolor=colour, elinewidth=0.7,
                markersize=5 if mark != "X" else 8, alpha=0.8, label=label,
            )  # fmt: skip
    person = people_table(solved, probability).iloc[number]
    if person["status"] != "unknown":
        ends = np.array([max(date.min() - FRAME, person["birth_year"]), date.max() + FRAME])
        axis.plot(ends, ends - person["birth_year"], color="black", linewidth=1.2, label="the album")
        axis.fill_between(ends, np.maximum(ends - person["high"], 0), ends - person["low"], color="black", alpha=0.12)
    span = _span(person["low"], person["high"])
    axis.set_title(f"{person['person']}, born {span}, {person['status']}", fontsize=10)
    axis.set_ylim(0, None)
    axis.set_xlabel("year")
    axis.spines[["top", "right"]].set_visible(False)


def draw_evidence(solved: Solved, probability: float, photo: int, path: Path) -> None:
    """One photo: the year that each face implies by its age alone and its person's birth, and the year of the album."""
    ages, album, table = solved.ages, solved.table.album, solved.table
    rows = np.flatnonzero(album.photo == photo)
    alone = implied_age(album, solved.errors)[rows]
    born = ages.born[album.person[rows]]
    sd = np.hypot(alone_sd(solved)[rows], np.minimum(ages.born_sd[album.person[rows]], 99))
    half = solved.half_width(sd, probability)
    figure, (axis,) = new_figure(6.4, 1.5 + 0.45 * len(rows))
    for place, row in enumerate(rows):
        colour = ORANGE if solved.alarm[row] else BLUE
        year = born[place] + alone[place]
        axis.errorbar(year, place, xerr=half[place], fmt="X" if solved.alarm[row] else "o", color=colour)
    names = [
        f"{table.person[album.person[row]]}, born {int(born[place])}, looks {alone[place]:.0f}"
        for place, row in enumerate(rows)
    ]
    date = dates_table(solved, probability).iloc[photo]
    if date["status"] != "unknown":
        axis.axvspan(date["low"], date["high"], color="black", alpha=0.12)
        axis.axvline(date["date"], color="black", linewidth=1.2)
    axis.set_yticks(range(len(rows)), names, fontsize=9)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    span = _span(date["low"], date["high"])
    axis.set_title(f"{Path(table.photo[photo]).name}: taken {span}, {date['status']}", fontsize=10)
    axis.set_xlabel("year that each face implies alone; the band is the album's")
    axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def alone_sd(solved: Solved) -> np.ndarray:
    """Standard deviation [F] (years) of the age that each face implies alone, by all of its effects."""
    errors, alone = solved.errors, implied_age(solved.table.album, solved.errors)
    spread = np.sqrt(errors.noise**2 + errors.person**2 + errors.photo**2)
    return spread * (alone + errors.knee) / errors.slope


def _span(low: float, high: float) -> str:
    if np.isnan(low):
        return "unknown"
    first, last = int(low), int(max(high - 1e-6, low))
    return f"{first}" if first == last else f"{first}–{last}"


def _file_name(text: str) -> str:
    return re.sub(r"[^\w-]+", "_", text)[:60]
