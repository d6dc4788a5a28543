"""What was found, drawn over the photograph, with a legend below it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from plainvision.showing import shown
from plainvision.tasks.finding import Areas, Objects

# Told apart in any order, by those too who see fewer colours (Okabe and Ito 2008), then lighter ones.
_COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)),
    *((153, 102, 255), (102, 204, 102), (255, 153, 153), (153, 204, 204), (204, 153, 102)),
)
_COVER = 0.5  # of a mask or a class over the photograph
_LEAST, _MOST = 480, 1600  # width of the drawing in pixels: small photographs are enlarged, so that words fit
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


def colour_of(number: int) -> tuple[int, int, int]:
    """Return the colour of a class, by its number from 0."""
    return _COLOURS[number % len(_COLOURS)]


def draw_objects(found: Objects, classes: Sequence[str]) -> Image.Image:
    """Return the photograph with a box, and a mask if there is one, around each object; the legend counts them."""
    picture, factor = _sized(found.picture)
    labels = [label - 1 for label in found.labels.tolist()]
    if found.masks is not None and len(labels):
        covered = np.asarray(picture, dtype=np.float64)
        for mask, label in zip(found.masks[:, 0], labels, strict=True):
            small = Image.fromarray((mask.numpy() >= 0.5).astype(np.uint8) * 255)
            inside = np.asarray(small.resize(picture.size)) > 127
            covered[inside] = (1 - _COVER) * covered[inside] + _COVER * np.array(colour_of(label))
        picture = Image.fromarray(covered.round().astype(np.uint8))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    boxes = [[side * factor for side in box] for box in found.boxes.tolist()]
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour_of(label), width=2)
    # The words last, so that no other box runs through them; the surest on top.
    for (x1, y1, _, _), label, score in reversed(list(zip(boxes, labels, found.scores.tolist(), strict=True))):
        text = f"{score:.2f}"
        _, _, width, height = draw.textbbox((0, 0), text, font=font)
        left = min(max(0, x1), picture.width - width - 4)
        top = y1 - height - 4 if y1 >= height + 4 else y1
        draw.rectangle((left, top, left + width + 4, top + height + 4), fill=colour_of(label))
        draw.text((left + 2, top + 1), text, fill=_INK, font=font)
    counts = {number: labels.count(number) for number in sorted(set(labels))}
    rows = [(colour_of(number), f"{classes[number]}: {count}") for number, count in counts.items()]
    return _with_legend(picture, rows or [(_PAPER, "nothing found")])


def draw_areas(found: Areas, classes: Sequence[str]) -> Image.Image:
    """Return the photograph under the colours of its classes; the legend has the share of each."""
    numbers, counts = np.unique(found.labels, return_counts=True)
    colours = np.array([colour_of(number) for number in range(len(classes))], dtype=np.float64)
    covered = (1 - _COVER) * np.asarray(found.picture.convert("RGB"), dtype=np.float64) + _COVER * colours[found.labels]
    picture, _ = _sized(Image.fromarray(covered.round().astype(np.uint8)))
    order = np.argsort(-counts, kind="stable")
    rows = [
        (colour_of(int(numbers[i])), f"{classes[int(numbers[i])]}: {100 * counts[i] / found.labels.size:.1f} %")
        for i in order
    ]
    return _with_legend(picture, rows)


def _sized(picture: Image.Image) -> tuple[Image.Image, float]:
    """Return a photograph in colours and of a width to draw on, and by what it was enlarged."""
    width = min(max(picture.width, _LEAST), _MOST)
    factor = width / picture.width
    return picture.convert("RGB").resize((width, max(1, round(picture.height * factor)))), factor


def _with_legend(picture: Image.Image, rows: Sequence[tuple[tuple[int, int, int], str]]) -> Image.Image:
    """Return a picture with rows of coloured squares and words below it, as many beside each other as fit."""
    font, line, gap = ImageFont.load_default(15), 24, 18
    room = picture.width - gap - line
    words = [(colour, _fitting(shown(text), font, room)) for colour, text in rows]
    places, x, y = [], 10, 8
    for _, text in words:
        width = line + round(font.getlength(text)) + gap
        if x > 10 and x + width > picture.width:
            x, y = 10, y + line
        places.append((x, y))
        x += width
    whole = Image.new("RGB", (picture.width, picture.height + y + line + 6), _PAPER)
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for (x, y), (colour, text) in zip(places, words, strict=True):
        top = picture.height + y
        draw.rectangle((x, top + 2, x + 14, top + 16), fill=colour, outline=None if colour == _PAPER else _INK)
        draw.text((x + line, top), text, fill=_INK, font=font)
    return whole


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float) -> str:
    """Return a text, its end cut where it is wider than the room."""
    while len(text) > 1 and font.getlength(text) > room:
        text = text[:-2].rstrip() + "…"
    return text
