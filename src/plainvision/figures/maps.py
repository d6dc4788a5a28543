"""Maps over their images: rows of classes (arXiv:2112.13692, Figure 2) or of networks (Figure 1).

Each map is drawn from zero to its own maximum, over the image in grey; attention that is nearly uniform stays dark.
Patches are squares, because a map has no finer detail; ``smooth`` blends neighbours.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import matplotlib
import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from plainvision.figures.deletion import draw_deletion, legend_of, words_of
from plainvision.figures.style import FONT, INK, folded

if TYPE_CHECKING:
    from plainvision.explain.deletion import Deletion
    from plainvision.explain.explanation import Explanation

# Inches. Pictures have one width in every figure, so that figures go together.
_TILE = 1.6
_GAP = 0.07
_MARGIN = 0.05
_LINE = 0.14
_FAINT, _EDGE = "#6b6b6b", "#c8c8c8"
_COLOURS = matplotlib.colormaps["inferno"]  # perceptually uniform, and zero is black
_METHODS = {"attention": "attention", "gradcam": "Grad-CAM"}
_CURVE = 0.4
# Attention that is nearly uniform stays dark: the scale ends at so many times the mean weight at least.
_BRIGHT = 4


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
    rows = [
        [_Tile(_rgb(one.picture), title, _FAINT), *_maps(one, _captions(one), smooth)]
        for one, title in zip(explanations, named, strict=True)
    ]
    one = explanations[0]
    method = _METHODS[one.method] + (f" at {one.layer}" if one.layer else "")
    foot = " ".join(filter(None, (method, label and f"of {label}")))
    return _sheet(rows, foot=[foot, *_legend(explanations)])


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
    tiles = [[_Tile(_rgb(one.picture), []) for one in rows[0]]]
    tiles += [[_maps(one, [folded(_answer(one)[0], _TILE)], smooth)[0] for one in row] for row in rows]
    labels = [("", ""), *((name, _METHODS[row[0].method]) for name, row in networks.items())]
    return _sheet(
        tiles, titles=_titles(titles, rows[0]), labels=labels, foot=_legend([one for row in rows for one in row])
    )


class _Tile(NamedTuple):
    """A picture (H, W, 3), with a curve and lines beneath it and a word on it."""

    image: np.ndarray
    lines: list[str]
    colour: str = INK
    word: str = ""
    curve: "Deletion | None" = None

    @property
    def height(self) -> float:
        return _TILE * self.image.shape[0] / self.image.shape[1]


class _Canvas:
    """A figure that is drawn on in inches from the top left corner."""

    def __init__(self, width: float, height: float) -> None:
        self._size = width, height
        self.figure = Figure(figsize=self._size)

    def panel(self, x: float, y: float, width: float, height: float) -> Axes:
        """Return a panel, a box whose top left corner is given."""
        across, down = self._size
        return self.figure.add_axes((x / across, 1 - (y + height) / down, width / across, height / down))

    def image(self, image: np.ndarray, x: float, y: float, width: float, height: float) -> None:
        """Draw an image, stretched over a box whose top left corner is given."""
        axes = self.panel(x, y, width, height)
        axes.imshow(image, aspect="auto")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=_EDGE, linewidth=0.4)  # a white background ends somewhere too

    def text(self, x: float, y: float, text: str, colour: str, rotation: float = 0) -> None:
        """Write one line, centred at a point."""
        at = x / self._size[0], 1 - y / self._size[1]
        written = self.figure.text(*at, text, color=colour, size=FONT, ha="center", va="center", rotation=rotation)
        written.set(rotation_mode="anchor", parse_math=False)  # a name may hold dollars

    def lines(self, x: float, y: float, lines: Sequence[str], colour: str) -> None:
        """Write lines downwards from ``y``, centred at ``x``."""
        for number, line in enumerate(lines):
            self.text(x, y + _LINE * (number + 0.5), line, colour)


def _sheet(
    rows: Sequence[Sequence[_Tile]],
    *,
    titles: Sequence[list[str]] = (),
    labels: Sequence[tuple[str, str]] = (),
    foot: Sequence[str] = (),
) -> Figure:
    """Return a figure of rows of tiles, the scale of the colours beneath.

    Low tiles stand at the bottom of their row, by their caption. Above each column are the lines of its title, beside
    each row, upright, its label, a name and a method.
    """
    heights = [max(tile.height for tile in row) for row in rows]
    sides = [
        [*folded(name, height), method] if name else [] for (name, method), height in zip(labels, heights, strict=False)
    ]
    left = _MARGIN + (_LINE * max(map(len, sides)) + _GAP if sides else 0)
    middles = [left + number * (_TILE + _GAP) + _TILE / 2 for number in range(max(map(len, rows)))]
    width = middles[-1] + _TILE / 2 + _MARGIN
    tops, end = [], _MARGIN + _LINE * max(map(len, titles), default=0)
    for row, height in zip(rows, heights, strict=True):
        tops.append(end)
        below = max(len(tile.lines) for tile in row)
        end += height + _LINE * below + (2 * _GAP if below else _GAP) + _curve_height(row)
    feet = [line for text in foot if text for line in folded(text, width - 2 * _MARGIN)]
    canvas = _Canvas(width, end + _LINE * (1.4 + 1.2 * len(feet)) + _MARGIN)
    for middle, title in zip(middles, titles, strict=False):
        canvas.lines(middle, tops[0] - _LINE * len(title), title, _FAINT)
    for row, top, height in zip(rows, tops, heights, strict=True):
        bottom = top + height
        for tile, middle in zip(row, middles, strict=False):
            canvas.image(tile.image, middle - _TILE / 2, bottom - tile.height, _TILE, tile.height)
            if tile.curve is not None:
                draw_deletion(canvas.panel(middle - _TILE / 2, bottom + _GAP, _TILE, _CURVE), tile.curve)
            canvas.lines(middle, bottom + 0.2 * _LINE + _curve_height([tile]), tile.lines, tile.colour)
            if tile.word:
                canvas.text(middle, bottom - tile.height / 2, tile.word, "white")
    for side, top, height in zip(sides, tops, heights, strict=False):
        for number, line in enumerate(reversed(side)):  # the method is beside the tiles
            x = left - _GAP - _LINE * (number + 0.5)
            canvas.text(x, top + height / 2, line, INK if number else _FAINT, rotation=90)
    begin, ramp = width / 2 - 0.8, _COLOURS(np.linspace(0, 1, 256))[None]
    canvas.image(ramp, begin, end + 0.7 * _LINE - 0.045, 0.7, 0.09)
    canvas.text(begin - 0.09, end + 0.7 * _LINE, "0", _FAINT)
    canvas.text(begin + 1.23, end + 0.7 * _LINE, "largest in its map", _FAINT)
    canvas.lines(width / 2, end + 1.5 * _LINE, feet, _FAINT)
    return canvas.figure


def _curve_height(row: Sequence[_Tile]) -> float:
    return _CURVE + _GAP if any(tile.curve is not None for tile in row) else 0.0


def _maps(one: "Explanation", captions: Sequence[list[str]], smooth: bool) -> list[_Tile]:
    """Return a tile of each map that has a caption."""
    curves = [*one.deletions, *[None] * len(one.maps)]
    tiles = []
    for values, lines, curve in zip(one.maps, captions, curves, strict=False):
        # Attention sums to 1, so that a weight means something beside the mean, which a uniform map has everywhere.
        brightest = _BRIGHT / values.numel() if one.method == "attention" else 0.0
        strongest = [f"largest {values.max() * values.numel():.1f} x mean weight"] if one.method == "attention" else []
        below = [*lines, *strongest, *(words_of(curve) if curve else [])]
        word = "" if values.any() else "zero everywhere"
        tiles.append(_Tile(_overlay(one.picture, values, brightest, smooth), below, word=word, curve=curve))
    return tiles


def _legend(explanations: "Sequence[Explanation]") -> list[str]:
    """Return what is to be said of the colours and of the curves."""
    attends = any(one.method == "attention" for one in explanations)
    curve = next((one.deletions[0] for one in explanations if one.deletions), None)
    bright = f"Attention is drawn up to its largest weight, or to {_BRIGHT} x the mean weight where that is more."
    doubts = dict.fromkeys(one.doubt for one in explanations)
    return [*doubts, bright if attends else "", legend_of(curve) if curve else ""]


def _titles(titles: Sequence[str], explanations: "Sequence[Explanation]") -> list[list[str]]:
    """Return each image's title in lines, none where there are no titles."""
    if not explanations or (titles and len(titles) != len(explanations)):
        raise ValueError(
            f"there are {len(explanations)} explanations and {len(titles)} titles. Give one explanation or more, and "
            "a title for each or none."
        )
    return [folded(title, _TILE) for title in titles] or [[] for _ in explanations]


def _answer(one: "Explanation") -> list[str]:
    return [f"{name} ({value:.1%})" for name, value in zip(one.classes, one.confidences, strict=True)]


def _captions(one: "Explanation") -> list[list[str]]:
    """Return the lines beneath each map: its class, or all classes beneath a map that serves them all."""
    each = [folded(text, _TILE) for text in _answer(one)]
    return each if len(one.maps) == len(each) else [[line for lines in each for line in lines]]


def _rgb(picture: Tensor) -> np.ndarray:
    """Return a picture (C, H, W) as (H, W, 3)."""
    return picture.float().clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()


def _overlay(picture: Tensor, values: Tensor, brightest: float, smooth: bool) -> np.ndarray:
    """Return a map (h, w) in colour over the grey picture, (H, W, 3); ``brightest`` is the least top of the scale."""
    size = tuple(picture.shape[1:])
    shares = values.float()[None, None] / values.max().clamp(min=max(brightest, 1e-30))
    shares = F.interpolate(shares, size, mode="bilinear" if smooth else "nearest-exact")
    colours = _COLOURS(shares[0, 0].numpy())[..., :3]
    grey = _rgb(picture) @ np.array([0.299, 0.587, 0.114])
    return 0.25 * grey[..., None] + 0.75 * colours
