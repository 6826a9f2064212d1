"""How many years lie between two photos, or two groups of photos, in sentences."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.base.regressor import AgePredictBasicPipeline
from common.data.predictions import DOUBTFUL, OK
from common.difference.change import ONE, TWO, ChangeCalibrator, Side, load_change
from common.difference.weights import base_of
from common.errors import DataError, UserError
from common.faces.identity import IdentityEncoder, threshold
from common.inference.estimates import BaseEstimates, Face, FaceAge, estimate_base, with_doubts
from common.inference.inputs import list_inputs, read_faces
from common.inference.options import AUTO, InputOptions
from common.inference.terminal import command, patient_output, printable

STRANGERS = 0.01  # probability that two persons are taken for one
GROUP = 5  # photos of each time, for which the smallest change is said beside that of those given


@dataclass
class Photos:
    """The largest face of each photo of one time: what the base predicts of them, and what is to be said of each."""

    name: str
    estimates: BaseEstimates
    notes: list[str] = field(default_factory=list)
    failed: int = 0

    @property
    def ids(self) -> set[str]:
        """SHA-1 of the photos."""
        return set(self.estimates.faces.id.tolist())

    def side(self, calibrator: ChangeCalibrator) -> Side:
        """Their mean age and its expected error; a photo that is there twice counts once."""
        once = np.unique(self.estimates.faces.id, return_index=True)[1]
        places = self.estimates.place[once]
        spreads = np.array([self.estimates.results[place].spread for place in places])
        return calibrator.side(self.estimates.faces.estimate[once].astype(float), spreads)


def read_photos(name: str, weights: InputOptions, base: AgePredictBasicPipeline) -> Photos:
    """The faces of a photo or of a folder of photos; raises DataError if there is none."""
    options = InputOptions(weights.weights, (name,), device=weights.device)
    others: dict[str, int] = {}
    largest = _largest(read_faces(list_inputs(options), options, base), others)
    estimates, notes = with_doubts(estimate_base(largest, base, options.batch_size, keep_crops=True), base)
    photos = Photos(printable(name), estimates, notes)
    if photos.estimates.stopped:
        raise KeyboardInterrupt
    for result in photos.estimates.results:
        wrong = result.status if result.status != OK else ""
        if wrong and not wrong.startswith(DOUBTFUL):
            photos.failed += 1
        if wrong:
            photos.notes.append(f"{printable(result.photo)}: {wrong}")
    photos.notes += [f"{printable(photo)}: {count + 1} faces; the largest is used" for photo, count in others.items()]
    if not len(photos.estimates.place):
        raise DataError(f"{'; '.join(photos.notes[:3]).removesuffix('.')}; give photos of a face.")
    return photos


def _largest(found: Iterable[Face | FaceAge], others: dict[str, int]) -> Iterator[Face | FaceAge]:
    """The first face of each photo, or why it has none; counts the other ones by the photo's name."""
    for part in found:
        if isinstance(part, Face) and part.known.face:
            others[part.known.photo] = others.get(part.known.photo, 0) + 1
        else:
            yield part


def shown(first: Photos, second: Photos) -> str:
    """Whether they are taken to show ONE person or TWO: by the median distance of their faces."""
    identities = [IdentityEncoder()(photos.estimates.crops) for photos in (first, second)]
    distance = np.linalg.norm(identities[0][:, None] - identities[1][None], axis=2)  # [N, M]
    return ONE if np.median(distance) < threshold(STRANGERS, 1) else TWO


def short(first: str, second: str) -> tuple[str, str]:
    """The names of two files without their folders, where they differ then.

    Examples
    --------
    >>> short("photos/anna.jpg", "photos/berta.jpg"), short("then/a.jpg", "now/a.jpg")
    (('anna.jpg', 'berta.jpg'), ('then/a.jpg', 'now/a.jpg'))
    """
    names = Path(first).name, Path(second).name
    return names if names[0] != names[1] else (first, second)


def sentences(names: tuple[str, str], sides: tuple[Side, Side], half: float, persons: str, probability: float) -> str:
    """By how much the second is older than the first, in years, and its interval."""
    years = sides[1].age - sides[0].age
    ages = ", ".join(
        f"{name} {side.age:.1f} years" + (f" ({side.photos} photos)" if side.photos > 1 else "")
        for name, side in zip(names, sides, strict=True)
    )
    way, size = ("older" if years >= 0 else "younger"), abs(years)
    low, high = size - half, size + half
    other = "younger" if way == "older" else "older"
    span = f"{low:.0f} to {high:.0f}" if low >= 0 else f"{-low:.0f} {other} to {high:.0f} {way}"
    who = "one person" if persons == ONE else "two persons"
    return (
        f"{names[1]} is {size:.1f} years {way} than {names[0]} ({span}; {100 * probability:.3g} %, {who})\n"
        f"estimates: {ages}"
    )


def smallest_change(sides: tuple[Side, Side], calibrator: ChangeCalibrator, probability: float) -> str:
    """From which difference on photos like these of one person show a change at all."""
    half = calibrator.half_width(*sides, ONE, probability)
    said = f"photos like these show a change of one person from {half:.1f} years on"
    if max(side.photos for side in sides) < GROUP:
        first, second = (side._replace(photos=GROUP) for side in sides)
        said += f", {GROUP} photos of each time from {calibrator.half_width(first, second, ONE, probability):.1f}"
    return said


def compare(arguments: argparse.Namespace, name: str) -> int:
    """Answer a command line with two `photos`; `name` is the pipeline's. The exit status: see the command."""
    try:
        with patient_output():
            return _compare(arguments)
    except UserError as error:
        print(f"{command(name)}: {printable(str(error))}", file=sys.stderr)
        return 2


def _compare(arguments: argparse.Namespace) -> int:
    if len(arguments.photos) != 2 or arguments.data:
        raise DataError("Give exactly two photos, or two folders of photos; --data goes without photos.")
    base = AgePredictBasicPipeline.from_weights(base_of(arguments.weights), arguments.device)
    calibrator = load_change(arguments.weights, base.fingerprint)
    calibrator.half_width(Side(0, 1, 1), Side(0, 1, 1), TWO, arguments.interval)  # refuses an impossible probability
    options = InputOptions(arguments.weights, device=arguments.device)
    first, second = (read_photos(name, options, base) for name in arguments.photos)
    for note in (*first.notes, *second.notes):
        print(note, file=sys.stderr)
    failed = int(first.failed + second.failed > 0)
    if first.ids == second.ids:
        print(f"{first.name} and {second.name} are the same photo{'s' if len(first.ids) > 1 else ''}: 0 years older")
        return failed
    if first.ids & second.ids:
        raise DataError("There are photos that are in both groups; they say nothing of a difference: leave them out.")
    persons = shown(first, second) if arguments.people == AUTO else arguments.people
    sides = first.side(calibrator), second.side(calibrator)
    half = calibrator.half_width(*sides, persons, arguments.interval)
    print(sentences(short(first.name, second.name), sides, half, persons, arguments.interval))
    if persons == ONE:
        print(smallest_change(sides, calibrator, arguments.interval))
    elif arguments.people == AUTO:
        print("taken for two persons by their faces; --people one if they are one")
    return failed
