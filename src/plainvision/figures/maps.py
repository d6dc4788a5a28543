"""Maps over their images: rows of classes (arXiv:2112.13692, Figure 2) or of networks (Figure 1).

Each map is drawn from zero to its own maximum, over the image in grey. Patches are squares, because a map has no finer
detail; ``smooth`` blends neighbours.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from plainvision.figures.style import FONT, INK, inches
from plainvision.showing import shown

if TYPE_CHECKING:
    from plainvision.explain.explanation import Explanation

# Inches. Pictures have one width in every figure, so that figures go together.
_TILE = 1.6
_GAP = 0.07
_MARGIN = 0.05
_LINE = 0.14
_FAINT, _EDGE = "#6b6b6b", "#c8c8c8"
_COLOURS = matplotlib.colormaps["inferno"]  # perceptually uniform, and zero is black
_METHODS = {"attention": "attention", "gradcam": "Grad-CAM"}


def class_maps(
    explanations: "Sequence[Explanation]", *, titles: Sequence[str] = (), label: str = "", smooth: bool = False
) -> Figure:
    """Return a figure with a row per image: the picture, then its maps with classes and confidences.

    Args:
        explanations: one per row, all of one network.
        titles: what the images are called, written beneath them.
        label: the network's name, written at the bottom.
        smooth: blend neighbouring patches instead of drawing squares.

    Raises:
        ValueError: there is nothing to show, or the titles are not as many as the images.
    """
    named = _titles(titles, explanations)
    captions = [[title, *_captions(one)] for title, one in zip(named, explanations, strict=True)]
    sheet = _Sheet(
        columns=1 + max(len(one.maps) for one in explanations),
        heights=[_height(one) for one in explanations],
        lines=[max(len(lines) for lines in row) for row in captions],
        foot=" ".join(filter(None, (_METHODS[explanations[0].method], label and f"of {label}"))),
    )
    for row, (one, texts) in enumerate(zip(explanations, captions, strict=True)):
        sheet.picture(row, 0, one)
        sheet.caption(row, 0, texts[0], _FAINT)
        for column, (values, lines) in enumerate(zip(one.maps, texts[1:], strict=True), start=1):
            sheet.map(row, column, one, values, smooth)
            sheet.caption(row, column, lines, INK)
    return sheet.figure


def compare(
    networks: "Mapping[str, Sequence[Explanation]]", *, titles: Sequence[str] = (), smooth: bool = False
) -> Figure:
    """Return a figure with a column per image and a row per network: the first map of each, and its class.

    The pictures in the top row are as the first network saw them; beneath a map is what its own network saw.

    Args:
        networks: of each network, by the name that is written beside its row, one explanation per image.
        titles: what the images are called, written above them.
        smooth: blend neighbouring patches instead of drawing squares.

    Raises:
        ValueError: there is nothing to show, or not every network explains every image.
    """
    rows = list(networks.values())
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        counts = ", ".join(f"{name} {len(row)}" for name, row in networks.items())
        raise ValueError(f"each network needs one explanation of each image, and there are {counts or 'no networks'}.")
    named = _titles(titles, rows[0])
    captions = [[_folded(_answer(one)[0]) for one in row] for row in rows]
    heights = [max(map(_height, row)) for row in rows]
    labels = [
        [*_folded(name, height), _METHODS[row[0].method]]
        for (name, row), height in zip(networks.items(), heights, strict=True)
    ]
    sheet = _Sheet(
        columns=len(rows[0]),
        heights=[heights[0], *heights],
        lines=[0, *(max(len(lines) for lines in row) for row in captions)],
        labels=[[], *labels],
        head=max(len(lines) for lines in named),
    )
    for column, (one, title) in enumerate(zip(rows[0], named, strict=True)):
        sheet.picture(0, column, one)
        sheet.title(column, title)
    for row, (explanations, texts) in enumerate(zip(rows, captions, strict=True), start=1):
        for column, (one, lines) in enumerate(zip(explanations, texts, strict=True)):
            sheet.map(row, column, one, one.maps[0], smooth)
            sheet.caption(row, column, lines, INK)
    return sheet.figure


class _Sheet:
    """A figure of tiles, from top to bottom: a head, rows of tiles with captions, the colours' scale and a foot."""

    def __init__(
        self,
        *,
        columns: int,
        heights: Sequence[float],
        lines: Sequence[int],
        labels: Sequence[list[str]] = (),
        head: int = 0,
        foot: str = "",
    ) -> None:
        self._left = _MARGIN + (_LINE * max(map(len, labels)) + _GAP if labels else 0)
        self._width = self._left + columns * (_TILE + _GAP) - _GAP + _MARGIN
        self._heights = heights
        self._tops: list[float] = []
        end = _MARGIN + _LINE * head
        for height, below in zip(heights, lines, strict=True):
            self._tops.append(end)
            end += height + _LINE * below + (2 * _GAP if below else _GAP)
        feet = _folded(foot, self._width - 2 * _MARGIN) if foot else []
        self._height = end + _LINE * (1.4 + 1.2 * len(feet)) + _MARGIN
        self.figure = Figure(figsize=(self._width, self._height))
        self._scale(end + _LINE * 0.7)
        for number, line in enumerate(feet):
            self._text(self._width / 2, end + _LINE * (number + 2), line, _FAINT)
        for row, label in enumerate(labels):
            y = self._tops[row] + heights[row] / 2
            for number, line in enumerate(label):  # the last one is the method
                x = self._left - _GAP - _LINE * (len(label) - number - 0.5)
                self._text(x, y, line, _FAINT if number == len(label) - 1 else INK, upright=True)

    def picture(self, row: int, column: int, one: "Explanation") -> None:
        """Show the image itself."""
        self._tile(row, column, one).imshow(_rgb(one.picture))

    def map(self, row: int, column: int, one: "Explanation", values: Tensor, smooth: bool) -> None:
        """Show a map over its image."""
        tile = self._tile(row, column, one)
        tile.imshow(_overlay(one.picture, values, smooth))
        if not values.any():
            tile.text(0.5, 0.5, "zero everywhere", color="white", size=FONT, ha="center", transform=tile.transAxes)

    def caption(self, row: int, column: int, lines: list[str], colour: str) -> None:
        """Write beneath a tile."""
        for number, line in enumerate(lines):
            self._text(
                self._middle(column), self._tops[row] + self._heights[row] + _LINE * (number + 0.7), line, colour
            )

    def title(self, column: int, lines: list[str]) -> None:
        """Write above a column."""
        for number, line in enumerate(reversed(lines)):
            self._text(self._middle(column), self._tops[0] - _LINE * (number + 0.5), line, _FAINT)

    def _tile(self, row: int, column: int, one: "Explanation") -> Axes:
        """Return axes at a place, in the shape of the image; a low one stands at the bottom, by its caption."""
        height = _height(one)
        top = self._tops[row] + self._heights[row] - height
        return self._axes(self._middle(column) - _TILE / 2, top, _TILE, height)

    def _scale(self, y: float) -> None:
        """Draw the colours from 0 to the largest, centred at ``y`` inches from the top."""
        width, height = 0.7, 0.09
        begin = self._width / 2 - 0.8
        ramp = _COLOURS(np.linspace(0, 1, 256))[None]
        self._axes(begin, y - height / 2, width, height).imshow(ramp, aspect="auto")
        self._text(begin - 0.09, y, "0", _FAINT)
        self._text(begin + width + 0.53, y, "largest in its map", _FAINT)

    def _middle(self, column: int) -> float:
        return self._left + column * (_TILE + _GAP) + _TILE / 2

    def _axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Return bare axes, measured in inches from the top left corner."""
        bottom = 1 - (y + height) / self._height
        axes = self.figure.add_axes((x / self._width, bottom, width / self._width, height / self._height))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=_EDGE, linewidth=0.4)  # a white background ends somewhere too
        return axes

    def _text(self, x: float, y: float, text: str, colour: str, *, upright: bool = False) -> None:
        """Write one line, centred at inches from the top left corner."""
        self.figure.text(
            x / self._width,
            1 - y / self._height,
            text,
            color=colour,
            size=FONT,
            ha="center",
            va="center",
            rotation=90 if upright else 0,
            rotation_mode="anchor",
            parse_math=False,  # a name may hold dollars
        )


def _titles(titles: Sequence[str], explanations: "Sequence[Explanation]") -> list[list[str]]:
    """Return each image's title in lines, none where there are no titles."""
    if not explanations or (titles and len(titles) != len(explanations)):
        raise ValueError(
            f"there are {len(explanations)} explanations and {len(titles)} titles. Give one explanation or more, and "
            "a title for each or none."
        )
    return [_folded(title) for title in titles] or [[] for _ in explanations]


def _answer(one: "Explanation") -> list[str]:
    return [f"{name} ({value:.1%})" for name, value in zip(one.classes, one.confidences, strict=True)]


def _captions(one: "Explanation") -> list[list[str]]:
    """Return the lines beneath each map: its class, or all classes beneath a map that serves them all."""
    each = [_folded(text) for text in _answer(one)]
    return each if len(one.maps) == len(each) else [[line for lines in each for line in lines]]


def _folded(text: str, width: float = _TILE) -> list[str]:
    """Return ``text`` in lines of ``width`` inches, broken behind what separates words in names and paths."""
    lines = [""]
    for word in re.findall(r"[^\s_/.,-]+[\s_/.,-]*|[\s_/.,-]+", shown(text)):
        if lines[-1] and inches(lines[-1] + word) > width:
            lines.append("")
        for letter in word if inches(word) > width else [word]:
            if lines[-1] and inches(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return [line.strip() for line in lines]


def _height(one: "Explanation") -> float:
    """Return how high a tile is, in inches."""
    return _TILE * one.picture.shape[1] / one.picture.shape[2]


def _rgb(picture: Tensor) -> np.ndarray:
    """Return a picture (C, H, W) as (H, W, 3)."""
    return picture.float().clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()


def _overlay(picture: Tensor, values: Tensor, smooth: bool) -> np.ndarray:
    """Return a map (h, w) in colour over the grey picture, (H, W, 3)."""
    size = tuple(picture.shape[1:])
    shares = values.float()[None, None] / values.max().clamp(min=1e-30)
    shares = (
        F.interpolate(shares, size, mode="bilinear") if smooth else F.interpolate(shares, size, mode="nearest-exact")
    )
    colours = _COLOURS(shares[0, 0].numpy())[..., :3]
    grey = _rgb(picture) @ np.array([0.299, 0.587, 0.114])
    return 0.25 * grey[..., None] + 0.75 * colours
