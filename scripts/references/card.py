"""The calibration card of a reference bank: how the base reads these faces, what looks wrong, and what is missing."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from common.difference.bank import ReferenceBank
from common.evaluation.tables import markdown
from common.faces.identity import threshold
from common.figures import BLUE, ORANGE, new_figure, save_figure
from scripts.references.outliers import departures, notable

NORMAL = 1.96  # standard errors of a 95 % interval
MOST_PEOPLE = 15  # named one by one
FEW = 3  # photos from which on a mean is given an interval
STRANGERS = 0.01  # probability that a stranger is taken for the person named


@dataclass(frozen=True)
class Mean:
    """A mean of n numbers in years: its value, the half-width of its 95 % interval, and the numbers' spread (SD).

    `more`: how many more of their kind would make the interval ±1 year. NaN and 0 below FEW numbers.
    """

    count: int
    value: float
    half: float
    spread: float
    more: int

    @classmethod
    def of(cls, values: np.ndarray, group: np.ndarray | None = None) -> "Mean":
        """The mean of values [n]; those of one `group` [n] (a person) err together."""
        count = len(values)
        if not count:
            return cls(0, np.nan, np.nan, np.nan, 0)
        value, spread = float(values.mean()), float(values.std(ddof=1)) if count > 1 else np.nan
        place = np.arange(count) if group is None else np.unique(group, return_inverse=True)[1]
        sums = np.bincount(place, weights=values - value)
        if len(sums) < FEW:
            return cls(count, value, np.nan, spread, 0)
        half = NORMAL * float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1))) / count
        return cls(count, value, half, spread, max(0, ceil(count * (half**2 - 1) - 1e-9)))

    def cells(self) -> list[str]:
        """Value, interval, spread and how many more, as they stand in a table."""
        words = [f"{self.value:+.1f}", f"±{self.half:.1f}", f"{self.spread:.1f}"]
        words = [word if np.isfinite(number) else "–" for word, number in zip(words, self.numbers, strict=True)]
        return [*words, str(self.more) if np.isfinite(self.half) else "–"]

    @property
    def numbers(self) -> tuple[float, float, float]:
        """Value, half-width and spread."""
        return self.value, self.half, self.spread


@dataclass(frozen=True)
class Card:
    """What a bank says of the base's errors.

    residual [N]: true age minus estimate; group [N]: whom each shows, strangers each another; slope: years that the
    residual grows in 10 years of estimate (median of all pairs' slopes); wrong: sentences of photos to look at, and
    their rows.
    """

    bank: ReferenceBank
    residual: np.ndarray
    group: np.ndarray
    slope: float
    wrong: list[str]
    wrong_rows: np.ndarray

    @property
    def offset(self) -> Mean:
        """The mean residual."""
        return Mean.of(self.residual, self.group)

    @property
    def people(self) -> dict[str, Mean]:
        """The residuals of each named person beside the straight line of all, those with most photos first.

        Of a bank of one person alone that line is the person's own: nobody.
        """
        bank = self.bank
        if len(np.unique(self.group)) < 2:
            return {}
        left = self.residual - self.line(bank.estimates.astype(float))
        found = {name: Mean.of(left[bank.person == name]) for name in bank.people}
        return dict(sorted(found.items(), key=lambda item: -item[1].count))

    def line(self, estimate: np.ndarray) -> np.ndarray:
        """Residuals [n] expected at estimates [n] (years): median slope, median offset."""
        known = self.bank.estimates.astype(float)
        return np.median(self.residual - self.slope / 10 * known) + self.slope / 10 * estimate


def make_card(bank: ReferenceBank) -> Card:
    """The card of a bank whose names have one spelling."""
    estimates = bank.estimates.astype(float)
    residual = bank.ages - estimates
    nobody = np.array([f" {row}" for row in range(len(bank))])
    wrong, rows = suspects(bank)
    return Card(bank, residual, np.where(bank.named, bank.person, nobody), slope_of(estimates, residual), wrong, rows)


def slope_of(estimate: np.ndarray, residual: np.ndarray) -> float:
    """Years of residual in 10 years of estimate: the median slope (Theil, Sen) of 500 faces at most; 0 without."""
    rows = np.random.default_rng(0).permutation(len(estimate))[:500]
    first, second = np.triu_indices(len(rows), 1)
    run = estimate[rows][second] - estimate[rows][first]
    apart = np.abs(run) > 1
    rise = residual[rows][second] - residual[rows][first]
    return 10 * float(np.median(rise[apart] / run[apart])) if apart.any() else 0.0


def suspects(bank: ReferenceBank) -> tuple[list[str], np.ndarray]:
    """A sentence for each photo whose age, or whose face, does not fit the others of the bank; and their rows [n]."""
    departure = departures(bank.ages, bank.estimates.astype(float))
    strange, like = _faces_of_others(bank)
    rows = np.flatnonzero(notable(departure) | strange)
    rows = rows[np.argsort(-np.abs(departure[rows]), kind="stable")]
    sentences = []
    for row in rows:
        told = f"{bank.id[row][:8]} ({bank.person[row] or 'nobody named'}, {bank.ages[row]:.0f} years)"
        if strange[row]:
            told += ": wrong face? it is unlike every other photo of this name"
            told += f", and like {like[row]}" if like[row] else ""
        else:
            told += f": wrong date? it looks like {bank.estimates[row]:.0f}"
            several = bank.named[row] and (bank.person == bank.person[row]).sum() > 1
            told += "" if several and bank.identity is not None else ", or a wrong face"
        sentences.append(told)
    return sentences, rows


def _faces_of_others(bank: ReferenceBank) -> tuple[np.ndarray, list[str]]:
    """Mask [N] of photos whose face is unlike all others of the same name, and whom [N] it is like ('' nobody)."""
    strange, like = np.zeros(len(bank), bool), [""] * len(bank)
    if bank.identity is None:
        return strange, like
    identity, limit = bank.identity.astype(np.float32), threshold(STRANGERS, 1)
    for row in np.flatnonzero(bank.named):
        distance = np.linalg.norm(identity - identity[row], axis=1)  # [N]
        own = (bank.person == bank.person[row]) & (np.arange(len(bank)) != row)
        if own.sum() < 2 or distance[own].min() < limit:
            continue
        strange[row] = True
        others = {name: np.median(distance[bank.person == name]) for name in bank.people if name != bank.person[row]}
        nearest = min(others, key=others.__getitem__, default="")
        like[row] = nearest if nearest and others[nearest] < limit else ""
    return strange, like


def card_lines(card: Card) -> list[str]:
    """The card as Markdown lines: offset, slope, spread; by age; people; photos to look at; what is missing."""
    offset = card.offset
    if not np.isfinite(offset.half):
        lines = [f"true age minus the base's estimate: {offset.value:+.1f} years; too few people or photos to say more"]
    else:
        way = "young" if offset.value > 0 else "old"
        sure = "" if abs(offset.value) > offset.half else ", which may be chance"
        again = "more" if card.slope * offset.value > 0 else "less"
        lines = [
            f"the base reads these faces {abs(offset.value):.1f} years too {way} (±{offset.half:.1f}{sure}); "
            f"{abs(card.slope):.1f} {again} with every 10 years it reads; single faces spread by {offset.spread:.1f}",
            missing(offset, "photos (of people who are not in it)", "the offset of the bank"),
        ]
    starts = np.floor(card.bank.estimates.astype(float) / 10).astype(int) * 10
    heads = ["mean", "95 %", "spread", "more for ±1"]
    rows = []
    for start in np.unique(starts):
        part = starts == start
        rows.append([f"{start}–{start + 9}", part.sum(), *Mean.of(card.residual[part], card.group[part]).cells()])
    lines += ["", "true age minus estimate, by what the base reads (years):"]
    lines += markdown(["read as", "photos", *heads], rows)
    people = card.people
    if people:
        rows = [[name, mean.count, *mean.cells()] for name, mean in list(people.items())[:MOST_PEOPLE]]
        lines += ["", "people, beside the straight line of all (years):", *markdown(["person", "photos", *heads], rows)]
        lines += [f"and {len(people) - MOST_PEOPLE} more people with fewer photos"] if len(people) > MOST_PEOPLE else []
    found = [f"  {sentence}" for sentence in card.wrong[: 2 * MOST_PEOPLE]]
    left = len(card.wrong) - len(found)
    lines += ["", f"photos to look at: {len(card.wrong) or 'none'}", *found]
    return lines + ([f"  and {left} more"] if left else [])


def missing(mean: Mean, what: str, of: str) -> str:
    """How many more are needed to know a mean to a year."""
    if not mean.more:
        return f"{of} is known to ±{mean.half:.1f} years: more photos are not needed for ±1 year"
    return f"{mean.more} more {what} for {of} to ±1 year"


def draw_card(card: Card, correction: Callable[[np.ndarray], np.ndarray], path: Path) -> None:
    """Draw the residuals with the correction of estimates [n] (years), and the people, into an image."""
    figure, axes = new_figure(11 if card.people else 6, 4.8, columns=2 if card.people else 1)
    known, axis = card.bank.estimates.astype(float), axes[0]
    span = np.linspace(known.min(), known.max(), 100)
    axis.scatter(known, card.residual, s=12, color=BLUE, alpha=0.6, label="reference", linewidth=0)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.plot(span, correction(span), color=ORANGE, label="correction of anybody")
    if len(card.wrong_rows):
        rows = card.wrong_rows
        axis.scatter(known[rows], card.residual[rows], s=60, facecolor="none", edgecolor="black", label="to look at")
    axis.set(xlabel="the base's estimate (years)", ylabel="true age - estimate (years)", title=path.stem)
    axis.legend(frameon=False)
    if card.people:
        people = list(card.people.items())[:MOST_PEOPLE]
        place = np.arange(len(people))
        half = [0 if np.isnan(mean.half) else mean.half for _, mean in people]
        axes[1].errorbar([mean.value for _, mean in people], place, xerr=half, fmt="o", color=BLUE, capsize=3)
        axes[1].axvline(0, color="black", linewidth=0.8)
        axes[1].set(yticks=place, yticklabels=[f"{name[:20]} ({mean.count})" for name, mean in people])
        axes[1].invert_yaxis()
        axes[1].set(xlabel="true age - estimate, beside the line of all (years, 95 %)", title="people (photos)")
    save_figure(figure, path)
