"""Results as HTML: a photo beside the cards of its faces, names escaped, readable in light and dark, on a phone too."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from common.data.dates import parse_period
from common.data.predictions import DOUBTFUL, OK
from common.inference.estimates import Evidence, FaceAge
from common.inference.terminal import printable
from scripts.page.photos import PROBABILITY, Found

SCALE = 100  # years that a line of ages is long
WIDEST = 70  # years from low to high; wider is said
SHOWN = 24  # own references that are shown as faces

STYLE = """<style>
.block-container {max-width: 1120px; padding-top: 3.2rem}
.age-row {display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); gap: 1.2rem; padding: 1rem 0;
  border-top: 1px solid rgba(128,128,128,.35)}
.age-row figure {margin: 0}
.age-row figure img {width: 100%; max-height: 19rem; object-fit: contain; object-position: left top}
.age-row figcaption, .age-small {font-size: .85rem; opacity: .8; overflow-wrap: anywhere}
.age-cards {display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: .8rem;
  align-content: start}
.age-card {display: grid; grid-template-columns: 64px minmax(0, 1fr); gap: .2rem .9rem; padding: .8rem;
  border: 1px solid rgba(128,128,128,.35); border-radius: .6rem}
.age-card > img {width: 64px; height: 64px; border-radius: .4rem}
.age-card p {margin: .2rem 0}
.age-years {font-size: 2rem; font-weight: 700; line-height: 1.1}
.age-years small {font-size: 1rem; font-weight: 400}
.age-wide {grid-column: 1 / -1}
.age-line {position: relative; height: 10px; margin: .5rem 0 .1rem; border-radius: 5px;
  background: rgba(128,128,128,.25)}
.age-line i {position: absolute; top: 0; height: 100%; border-radius: 5px; background: #ee7733; opacity: .75}
.age-line b {position: absolute; top: -3px; width: 3px; height: 16px; margin-left: -1px; background: currentColor}
.age-line u {position: absolute; top: 1px; width: 8px; height: 8px; margin-left: -4px; border-radius: 4px;
  background: #4477aa; opacity: .6}
.age-ends {display: flex; justify-content: space-between; font-size: .8rem; opacity: .8}
.age-note {padding: .5rem .8rem; margin: .3rem 0; border-left: 4px solid #4477aa; background: rgba(128,128,128,.12);
  overflow-wrap: anywhere}
.age-note.bad {border-color: #cc3311}
.st-key-references .age-note {font-size: .8rem; padding: .3rem .5rem}
.age-card summary, .age-note summary {cursor: pointer}
.age-faces {display: flex; flex-wrap: wrap; gap: .5rem}
.age-faces figure {width: 72px; margin: 0; font-size: .75rem; text-align: center; line-height: 1.25;
  overflow-wrap: anywhere}
.age-scroll {overflow-x: auto} .age-scroll .age-table td, .age-scroll .age-table th {overflow-wrap: normal}
.age-scroll .age-table td:first-child {overflow-wrap: anywhere; min-width: 6rem}
.age-table {border-collapse: collapse; font-size: .9rem} .age-table td, .age-table th {padding: .2rem .8rem .2rem 0;
  text-align: left; border-bottom: 1px solid rgba(128,128,128,.3); overflow-wrap: anywhere}
.age-thumbnail {margin: 0; font-size: .8rem; line-height: 1.25; overflow-wrap: anywhere}
.age-thumbnail img {width: 100%; height: 128px; object-fit: cover; border-radius: .3rem}
.age-faces img {width: 72px; height: 72px; border-radius: .3rem; object-fit: cover}
@media (max-width: 700px) {.age-row {grid-template-columns: minmax(0, 1fr); gap: .6rem}
  .age-row figure img {max-height: 13rem}
  .block-container {padding-left: 1rem; padding-right: 1rem}}
</style>"""


@dataclass(frozen=True)
class OwnFace:
    """A reference of the visitor's own: its face as JPEG, its age and the base's estimate of it (years)."""

    portrait: bytes
    age: float
    estimate: float


def text_of(text: str) -> str:
    """A text of anybody's (a file's name) as HTML: nothing in it is markup, control characters are shown."""
    return escape(printable(text))


def image_of(jpeg: bytes, described: str) -> str:
    """A JPEG as an image within the page, with what is said of it to those who do not see it."""
    return f'<img src="{data_of(jpeg)}" alt="{text_of(described)}">'


def folded(title: str, texts: Sequence[str]) -> str:
    """Sentences of what is wrong, each a line, that unfold under a title."""
    lines = "<br>".join(text_of(text) for text in texts)
    return f'<details class="age-note bad" role="alert"><summary>{text_of(title)}</summary>{lines}</details>'


def data_of(jpeg: bytes) -> str:
    """A JPEG as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def note(*texts: str, bad: bool = False) -> str:
    """Sentences, each a line; `bad` if something was wrong."""
    lines = "<br>".join(text_of(text) for text in texts)
    return f'<div class="age-note{" bad" if bad else ""}" role="{"alert" if bad else "status"}">{lines}</div>'


def complaint(text: str) -> str:
    """What is wrong with a date that was typed; '' if nothing is."""
    try:
        parse_period(text)
    except ValueError as error:
        return f"{error} or 1970s; it is left out."
    return ""


def photo_row(
    name: str, found: Found, alone: Sequence[FaceAge], own: Sequence[FaceAge] = (), references: Sequence[OwnFace] = ()
) -> str:
    """A photo beside its faces: `alone` without own references, `own` with them (none: there are none)."""
    faces = [face for face in alone if face.face is not None]
    with_own = {face.face: face for face in own}
    cards = [
        card(number, face, with_own.get(face.face), found.portraits[number], references)
        for number, face in enumerate(faces)
    ]
    cards += [note(face.status, bad=True) for face in alone if face.face is None]
    count = f"{len(faces)} face{'' if len(faces) == 1 else 's'} in numbered boxes" if faces else "no face"
    picture = image_of(found.picture, f"{name}: {count}") if found.picture else ""
    caption = f"<figcaption>{text_of(name)}</figcaption>"
    return (
        f'<section class="age-row" aria-label="{text_of(name)}"><figure>{picture}{caption}</figure>'
        f'<div class="age-cards">{"".join(cards)}</div></section>'
    )


def card(number: int, alone: FaceAge, own: FaceAge | None, portrait: bytes, references: Sequence[OwnFace] = ()) -> str:
    """One face: how old, how sure, what is doubtful, and why."""
    face = alone if own is None or not np.isfinite(own.age) else own
    if not np.isfinite(face.age):
        return note(f"face {number + 1}: {face.status}", bad=True)
    years = f'<div class="age-years">{face.age:.0f} <small>years, face {number + 1}</small></div>'
    parts = [f"<div>{years}{interval(face, alone)}"]
    if own is not None:
        changed = f"with your photos {alone.age:.0f} → {own.age:.0f}{_whose(own)}"
        parts.append(f"<p>{changed if own.references else 'not recognised: your photos change nothing here'}</p>")
    if face.high - face.low > WIDEST:
        parts.append('<p class="age-small">? the face hardly shows an age: nearly any is possible</p>')
    if face.status.startswith(DOUBTFUL):
        parts.append(f'<p class="age-small">? {text_of(face.status)}</p>')
    elif face.status != OK:
        parts.append(f'<p class="age-small">{text_of(face.status)}</p>')
    if face.turned:
        parts.append(f'<p class="age-small">the photo lies on its side: looked at turned by {face.turned}°</p>')
    parts.append("</div>" + why(alone, own, references))
    label = f"face {number + 1}: {face.age:.0f} years"
    picture = image_of(portrait, f"face {number + 1}")
    return f'<article class="age-card" aria-label="{label}">{picture}{"".join(parts)}</article>'


def _whose(own: FaceAge) -> str:
    return f", as {text_of(own.person)}" if own.person else ", nobody recognised"


def interval(face: FaceAge, alone: FaceAge) -> str:
    """The interval of an age as a bar on a line of SCALE years; where own references give none, that without them."""
    shown, more = (alone, " without your photos") if np.isnan(face.low) else (face, "")
    mark = f'<b style="left:{_at(face.age)}%"></b>'
    if np.isnan(shown.low):
        return f'<div class="age-line">{mark}</div><div class="age-ends"><span>0</span><span>{SCALE}</span></div>'
    said = f"{shown.low:.0f} to {shown.high:.0f}"
    bar = f'<i style="left:{_at(shown.low)}%;width:{_at(shown.high) - _at(shown.low):.1f}%"></i>'
    described = f"{said} years with {PROBABILITY:.0%} probability{more}"
    ends = f"<span>0</span><span>{said}{more}</span><span>{SCALE}</span>"
    return (
        f'<div class="age-line" role="img" aria-label="{described}" title="{described}">{bar}{mark}</div>'
        f'<div class="age-ends">{ends}</div>'
    )


def _at(age: float) -> float:
    return round(100 * min(max(age, 0.0), SCALE) / SCALE, 1)


def why(alone: FaceAge, own: FaceAge | None, references: Sequence[OwnFace] = ()) -> str:
    """What unfolds under a face: the base's estimate, what the training bank's references vote, own ones as faces."""
    told = [f"<p>One look at the face: {alone.base_age:.1f} years.</p>"]
    if alone.evidence is not None and len(alone.evidence.votes):
        told.append(dots(alone.evidence))
    if own is not None and references:
        shown = references[:SHOWN]
        faces = "".join(own_face(one) for one in shown)
        more = f" ({len(references) - SHOWN} more are not shown)" if len(references) > SHOWN else ""
        told.append(f"<p>Your references{more}, and how far the estimate of each is off:</p>")
        told.append(f'<div class="age-faces">{faces}</div>')
    return f'<details class="age-wide"><summary>Why?</summary>{"".join(told)}</details>'


def own_face(reference: OwnFace) -> str:
    """An own reference: its face, its age, and what it says of an estimate."""
    picture = image_of(reference.portrait, f"your reference of {reference.age:.0f} years")
    return (
        f"<figure>{picture}<figcaption>is {reference.age:.0f}, looks {reference.estimate:.0f}: "
        f"{reference.age - reference.estimate:+.0f}</figcaption></figure>"
    )


def dots(evidence: Evidence) -> str:
    """The votes of a training bank's references as dots on a line of SCALE years, and the age that they give."""
    marks = "".join(f'<u style="left:{_at(vote)}%"></u>' for vote in evidence.votes.tolist())
    least, most = float(evidence.votes.min()), float(evidence.votes.max())
    said = f"{len(evidence.votes)} references of similar faces vote for {least:.0f} to {most:.0f}"
    return (
        f'<p>{said}, together {evidence.corrected:.1f} years:</p><div class="age-line" role="img" aria-label="{said}">'
        f'{marks}<b style="left:{_at(evidence.corrected)}%"></b></div>'
        f'<div class="age-ends"><span>0</span><span>{SCALE}</span></div>'
    )
