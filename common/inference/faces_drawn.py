"""A photo with a box around every face and a short label beside it, at the photo's own size."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from common.figures import ORANGE

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK = "black"  # of labels; white on orange is hard to read
FONT_SHARE = 0.2  # height of the letters in widths of the face
SMALLEST_FONT, LARGEST_FONT = 12.0, 1 / 16  # pixels; of the photo's shorter side
READABLE = 1 / 60  # of the photo's longer side: letters are not smaller, where there is room
STEPS = 14  # distances at which room for a label is looked for, each a label's height further away


class Label(NamedTuple):
    """Where a label lies, what it says, in which font."""

    place: Box
    text: str
    font: Font


def draw_faces(image: Image.Image, faces: Sequence[tuple[Box, str]]) -> Image.Image:
    """A copy of an RGB image with a box and a label for each face.

    Labels lie inside the image, and neither on a face nor on each other where there is room: letters shrink first, then
    what stands in brackets is left out, then the label moves away, on a line to its face. If there is no room at all it
    lies where it covers least.
    """
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    boxes = [box for box, _ in faces]
    for box in boxes:
        width = line_width(box)
        pen.rectangle(box, outline=INK, width=width + 2)
        pen.rectangle(box, outline=ORANGE, width=width)
    taken: list[Box] = []
    for box, label in faces:
        place, text, font = place_label(label, box, [*boxes, *taken], drawn.size)
        taken.append(place)
        if apart(place, box) > 2 * line_width(box) + 2:
            pen.line(joining(place, box), fill=ORANGE, width=line_width(box))
        pen.rectangle(place, fill=ORANGE)
        pen.text(middle(place), text, fill=INK, font=font, anchor="mm")
    return drawn


def line_width(box: Box) -> int:
    """Pixels of the line around a face."""
    return max(1, round((box[2] - box[0]) / 60))


def font_sizes(box: Box, size: tuple[int, int]) -> list[float]:
    """Heights of letters to try, in pixels, the largest first."""
    largest = max(SMALLEST_FONT, LARGEST_FONT * min(size))
    first = min(largest, max(FONT_SHARE * (box[2] - box[0]), READABLE * max(size), SMALLEST_FONT))
    return [max(SMALLEST_FONT, first * part) for part in (1.0, 0.8, 0.64)]


def place_label(label: str, box: Box, obstacles: Sequence[Box], size: tuple[int, int]) -> Label:
    """Where the label of a face goes in an image of this size (width, height), its text and its font."""
    fonts = [ImageFont.load_default(points) for points in font_sizes(box, size)]
    brief = label.partition(" (")[0]
    tries = [(label, 0, font) for font in fonts] + [(brief, 0, fonts[-1])]
    tries += [(brief, reach, fonts[-1]) for reach in range(1, STEPS)]
    best, least = None, float("inf")
    for text, reach, font in tries:
        for place in places(box, label_size(text, font), reach, size):
            hidden = sum(common_area(place, other) for other in obstacles)
            if best is None or hidden < least:
                best, least = Label(place, text, font), hidden
            if hidden == 0:
                return best
    assert best is not None  # there are always places
    return best


def label_size(label: str, font: Font) -> tuple[float, float]:
    """Width and height of a label with its margin, in pixels."""
    left, top, right, bottom = font.getbbox(label, anchor="mm") if label else (0, 0, 0, 0)
    height = font.getbbox("0123456789()", anchor="mm")
    margin = 0.35 * (height[3] - height[1])
    return right - left + 2 * margin, max(bottom - top, height[3] - height[1]) + 2 * margin


def places(box: Box, label: tuple[float, float], reach: int, size: tuple[int, int]) -> Iterator[Box]:
    """Places for a label around a box, `reach` label heights away from it, moved into the image; the best first."""
    wide, high = label
    gap = line_width(box) + 1 + reach * high
    left, top, right, bottom = box
    across = ((left + right - wide) / 2, left - wide * reach / 4, right - wide + wide * reach / 4)
    along = ((top + bottom - high) / 2, top - reach * high / 2, bottom - high + reach * high / 2)
    spots = [(x, top - gap - high) for x in across] + [(x, bottom + gap) for x in across]
    spots += [(right + gap, y) for y in along] + [(left - gap - wide, y) for y in along]
    for x, y in spots:
        x, y = (max(0.0, min(at, end - 1 - length)) for at, end, length in zip((x, y), size, label, strict=True))
        yield round(x), round(y), round(x + wide), round(y + high)


def common_area(one: Box, other: Box) -> float:
    """Pixels that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def apart(one: Box, other: Box) -> float:
    """Pixels between two boxes, 0 if they touch."""
    return max(one[0] - other[2], other[0] - one[2], one[1] - other[3], other[1] - one[3], 0.0)


def middle(box: Box) -> tuple[float, float]:
    """The centre of a box."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def joining(label: Box, face: Box) -> list[tuple[float, float]]:
    """The two ends of the line from a label to the nearest point of a face's box."""
    x, y = middle(label)
    return [(x, y), (max(face[0], min(x, face[2])), max(face[1], min(y, face[3])))]
