"""Masks of objects from COCO's outlines: polygons and run lengths, whose every number is checked before it is used."""

import math
from typing import Any

import numpy as np

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
    mask = np.zeros((height, width), dtype=np.uint8)
    for polygon in polygons:
        corners = isinstance(polygon, list) and all(type(one) in (int, float) and -1e6 < one < 1e6 for one in polygon)
        if not corners or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon of its segmentation has no three corners within reach")
        # A pixel whose middle has an odd number of sides to its left lies inside.
        crossings = np.zeros((height, width + 1), dtype=np.uint8)
        # COCO's coordinates are of the pixels' edges, those here of their middles.
        points = [(x - 0.5, y - 0.5) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
        for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
            first, last = (min(max(0, math.ceil(y)), height) for y in sorted((y1, y2)))
            rows = np.arange(first, last)
            columns = np.ceil(x1 + (rows - y1) * ((x2 - x1) / (y2 - y1))) if last > first else rows
            crossings[rows, columns.clip(0, width).astype(np.int64)] ^= 1
        mask |= np.bitwise_xor.accumulate(crossings[:, :width], axis=1)
    return mask


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
