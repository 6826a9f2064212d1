"""A face with the user's own references that did most beside it, and small below what the training bank says."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.figures import BLUE, ORANGE
from common.inference.estimates import Evidence, FaceAge
from common.inference.own import OwnVote

MARGIN, PAPER, INK, GREY = 16, "white", "black", "#9a9a9a"
LARGE_FACE, FACE, ACROSS = 200, 96, 4  # pixels of the face asked about and of a reference; references in a line
TILE = (118, 148)  # pixels a reference takes
WIDTH = LARGE_FACE + 3 * MARGIN + ACROSS * TILE[0]
TITLE, TEXT, SMALL = 18, 14, 12  # pixels of letters
CHART_TITLE = "references of the training bank (not in this age):"
ROW, CHART_HEAD = 4, 40  # pixels of a reference in the chart; of what stands above the dots


def draw_own(face: FaceAge, evidence: Evidence) -> Image.Image:
    """The image: the face and its ages at the left, own references at the right, the training bank's votes below."""
    lines = math.ceil(len(evidence.own) / ACROSS)
    upper = max(LARGE_FACE + 96, 26 + lines * TILE[1])
    chart = CHART_HEAD + ROW * len(evidence.votes) + 28 if len(evidence.votes) else 0
    image = Image.new("RGB", (WIDTH, upper + chart + 2 * MARGIN), PAPER)
    pen = ImageDraw.Draw(image)
    image.paste(_resized(evidence.crop, LARGE_FACE), (MARGIN, MARGIN))
    y = MARGIN + LARGE_FACE + 8
    for text, size, colour in _told(face, evidence):
        pen.text((MARGIN, y), text, fill=colour, font=ImageFont.load_default(size))
        y += size + 8
    left = LARGE_FACE + 2 * MARGIN
    pen.text(
        (left, MARGIN),
        "your references, most similar first, and the age by each alone",
        fill=INK,
        font=ImageFont.load_default(TEXT),
    )
    for number, vote in enumerate(evidence.own):
        place = (left + number % ACROSS * TILE[0], MARGIN + 26 + number // ACROSS * TILE[1])
        _draw_reference(image, pen, vote, place)
    if len(evidence.votes):
        _draw_chart(pen, face, evidence, MARGIN + upper)
    return image


def _told(face: FaceAge, evidence: Evidence) -> list[tuple[str, int, str]]:
    span = "" if math.isnan(face.low) else f" ({face.low:.0f} to {face.high:.0f})"
    return [
        (f"{face.age:.1f} years{span}", TITLE, INK),
        (f"base estimate {face.base_age:.1f}", TEXT, INK),
        (f"without your references {evidence.corrected:.1f}", TEXT, INK),
    ]


def _draw_reference(image: Image.Image, pen: ImageDraw.ImageDraw, vote: OwnVote, place: tuple[int, int]) -> None:
    x, y = place
    if vote.face is None:
        pen.rectangle((x, y, x + FACE, y + FACE), outline=GREY)
        pen.text(
            (x + FACE / 2, y + FACE / 2), "no face\nkept", fill=GREY, font=_font(SMALL), anchor="mm", align="center"
        )
    else:
        image.paste(_resized(vote.face, FACE), (x, y))
    name = _fitting(
        f"{vote.person} " if vote.person else "", pen, TILE[0] - 12 - pen.textlength("at 100", _font(SMALL))
    )
    pen.text((x, y + FACE + 4), f"{name}at {vote.age:.0f}", fill=INK, font=_font(SMALL))
    pen.text((x, y + FACE + 20), f"alone: {vote.vote:.1f}", fill=BLUE, font=_font(TEXT))


def _draw_chart(pen: ImageDraw.ImageDraw, face: FaceAge, evidence: Evidence, top: int) -> None:
    """Dots of the training bank's references: their ages in black, the ages they give alone in blue."""
    pen.text((MARGIN, top), CHART_TITLE, fill=INK, font=_font(SMALL))
    shown = [*evidence.reference_ages, *evidence.votes, face.base_age, face.age]
    low, high = 5 * math.floor(min(shown) / 5), 5 * math.ceil(max(shown) / 5 + 1e-9)
    legend = (("their age", INK), ("the age each gives alone", BLUE), (f"in the end {face.age:.1f}", ORANGE))
    x = MARGIN + pen.textlength(CHART_TITLE, _font(SMALL)) + 12
    for text, colour in legend:
        pen.ellipse((x, top + 4, x + 6, top + 10), fill=colour)
        pen.text((x + 10, top), text, fill=INK, font=_font(SMALL))
        x += 26 + pen.textlength(text, _font(SMALL))

    def across(age: float) -> float:
        return 2 * MARGIN + (age - low) / (high - low) * (WIDTH - 4 * MARGIN)

    first, last = top + CHART_HEAD - 12, top + CHART_HEAD + ROW * len(evidence.votes)
    step = 5 if high - low <= 50 else 10
    for age in range(step * math.ceil(low / step), high + 1, step):
        pen.line((across(age), first, across(age), last), fill="#e4e4e4")
        pen.text(
            (across(age), last + 12),
            f"{age}" if age < high else f"{age} years",
            fill=INK,
            font=_font(SMALL),
            anchor="mm",
        )
    pen.line((across(face.age), first, across(face.age), last), fill=ORANGE, width=2)
    for number, (age, vote) in enumerate(zip(evidence.reference_ages, evidence.votes, strict=True)):
        y = first + 8 + ROW * number
        _dot(pen, across(float(age)), y, INK)
        _dot(pen, across(float(vote)), y, BLUE)


def _dot(pen: ImageDraw.ImageDraw, x: float, y: float, colour: str) -> None:
    pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)


def _fitting(text: str, pen: ImageDraw.ImageDraw, width: float) -> str:
    """The text, its end left out where it is wider than so many pixels."""
    if pen.textlength(text, _font(SMALL)) <= width:
        return text
    while text and pen.textlength(text + "… ", _font(SMALL)) > width:
        text = text[:-1]
    return text + "… "


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _resized(pixels: np.ndarray, side: int) -> Image.Image:
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
