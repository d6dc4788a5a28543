"""Masks of objects from COCO's outlines: polygons and run lengths, whose every number is checked before it is used."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

# So many pixels, over all its objects, may the masks of one image have: a gigabyte.
MOST_PIXELS = 2**30


def mask_of(outline: Any, height: int, width: int) -> np.ndarray:
    """Return the mask (H, W), uint8, of COCO's `segmentation`: a list of polygons, or run lengths in either form.

    Raises:
        ValueError: it is neither, or its runs do not fill the image.
    """
    if isinstance(outline, list):
        return _of_polygons(outline, height, width)
    if not isinstance(outline, dict) or outline.get("size") != [height, width]:
        raise ValueError(f"its segmentation is neither polygons nor run lengths of {height} x {width} pixels")
    counts = outline.get("counts")
    runs = np.array(_runs_of(counts) if isinstance(counts, str) else _numbers(counts), dtype=np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError("its run lengths do not fill the image")
    inside = np.arange(len(runs)) % 2
    return np.repeat(inside, runs).astype(np.uint8).reshape(width, height).T.copy()


def _numbers(counts: Any) -> list[int]:
    if not isinstance(counts, list) or not all(type(one) is int and 0 <= one < 2**40 for one in counts):
        raise ValueError("its run lengths are no list of whole numbers")
    return counts


def _of_polygons(polygons: list[Any], height: int, width: int) -> np.ndarray:
    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        corners = isinstance(polygon, list) and all(type(one) in (int, float) and -1e6 < one < 1e6 for one in polygon)
        if not corners or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon of its segmentation has no three corners within reach")
        # COCO's coordinates are of the pixels' edges, Pillow's of their centres.
        draw.polygon([(x - 0.5, y - 0.5) for x, y in zip(polygon[::2], polygon[1::2], strict=True)], fill=1)
    return np.array(canvas, dtype=np.uint8)


def _runs_of(text: str) -> list[int]:
    """Return the run lengths that COCO's letters stand for: five bits each, from the third run on as differences."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 35:
            raise ValueError("its run lengths are no text of COCO's")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:  # the sign
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its run lengths are cut off")
    return runs
