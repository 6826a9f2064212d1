"""A face with the user's own references that did most beside it."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.figures import BLUE
from common.inference.estimates import Evidence, FaceAge
from common.inference.own import OwnVote

MARGIN, PAPER, INK, GREY = 16, "white", "black", "#9a9a9a"
LARGE_FACE, FACE, ACROSS = 200, 96, 4  # pixels of the face asked about and of a reference; references in a line
TILE = (118, 148)  # pixels a reference takes
WIDTH = LARGE_FACE + 3 * MARGIN + ACROSS * TILE[0]
TITLE, TEXT, SMALL = 18, 14, 12  # pixels of letters


def draw_own(face: FaceAge, evidence: Evidence) -> Image.Image:
    """The image: the face and its ages at the left, the own references that did most at the right."""
    lines = math.ceil(len(evidence.own) / ACROSS)
    image = Image.new("RGB", (WIDTH, max(LARGE_FACE + 96, 26 + lines * TILE[1]) + 2 * MARGIN), PAPER)
    pen = ImageDraw.Draw(image)
    image.paste(_resized(evidence.crop, LARGE_FACE), (MARGIN, MARGIN))
    y = MARGIN + LARGE_FACE + 8
    for text, size, colour in _told(face, evidence):
        pen.text((MARGIN, y), text, fill=colour, font=ImageFont.load_default(size))
        y += size + 8
    left = LARGE_FACE + 2 * MARGIN
    pen.text(
        (left, MARGIN),
        f"the {len(evidence.own)} references of yours that did most, and the age by each alone",
        fill=INK,
        font=ImageFont.load_default(TEXT),
    )
    for number, vote in enumerate(evidence.own):
        place = (left + number % ACROSS * TILE[0], MARGIN + 26 + number // ACROSS * TILE[1])
        _draw_reference(image, pen, vote, place)
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
