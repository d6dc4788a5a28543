"""Cells as a picture: sources from left to right, and below each other the operations that read them.

Each source has a vertical line, and each operation a horizontal one, from its source to the node that adds it: nothing
can lie on anything else. Lengths are inches.
"""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from plainvision.figures.style import FONT, GREY, INK, legend
from plainvision.genotype import EDGES, INPUTS, Genotype, PlacedCell, has_parameters

_COLUMN = 1.2  # from a source to the next
_ROW = 0.3  # from an operation to the next
_OPERATION = 0.16  # between a source's line and the box of an operation on it
_MARGIN, _TITLE = 0.45, 0.3
_PLAIN, _FREE, _LEARNED = ("white", GREY), ("#cfe9e3", "#1f7a68"), ("#fbe3cf", "#b5651d")  # fill and border


def draw_cells(genotype: Genotype) -> Figure:
    """Return a figure of all different cells: the normal ones in order, the reduction cell last.

    A box is an operation, a number a node, which adds two of them; the output joins all nodes. `cell k-1` is the cell
    before, `cell k-2` the one before that.
    """
    cells = genotype.different_cells()
    columns = 1 if len(cells) <= 2 else 2
    rows = math.ceil(len(cells) / columns)
    nodes = genotype.space.nodes
    width, height = _COLUMN * (nodes + 1) + 2 * _MARGIN, _ROW * (EDGES * nodes + 1) + _MARGIN
    figure = Figure(figsize=(columns * width, rows * (height + _TITLE)), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.set(xlim=(-_MARGIN, width - _MARGIN), ylim=(_MARGIN / 2 - height, _MARGIN / 2), aspect="equal")
        axes.set_axis_off()
    for axes, placed in zip(panels, cells, strict=False):
        _draw(axes, placed)
        kind, places = "reduction" if placed.reduction else "normal", ", ".join(map(str, placed.places))
        word = "places" if len(placed.places) > 1 else "place"
        title = f"{kind} cell, {word} {places} of {genotype.space.depth}"
        axes.set_title(title, loc="left", fontsize=FONT, weight="bold", color=INK)
    looks = {"without parameters": _FREE, "with parameters": _LEARNED}
    legend(figure, {name: Patch(facecolor=fill, edgecolor=border) for name, (fill, border) in looks.items()})
    return figure


def _draw(axes: Axes, placed: PlacedCell) -> None:
    """Draw one cell: its inputs at the top, its output at the bottom."""
    nodes = len(placed.cell)
    bottom = -_ROW * (EDGES * nodes + 1)
    ends = [0.0] * INPUTS + [bottom] * nodes  # how far down each source is read
    for number, node in enumerate(placed.cell):
        source, heights = INPUTS + number, [-_ROW * (EDGES * number + place + 1) for place in range(EDGES)]
        for edge, y in zip(node, heights, strict=True):
            ends[edge.source] = min(ends[edge.source], y)
            x = _COLUMN * edge.source
            axes.plot([x, _COLUMN * source], [y, y], color=GREY, linewidth=1, zorder=1)
            axes.plot([x], [y], color=GREY, marker="o", markersize=3, zorder=1)
            learned = has_parameters(edge.operation, edge.source, reduction=placed.reduction)
            name = edge.operation.replace("_", " ")
            _box(axes, x + _OPERATION, y, name, _LEARNED if learned else _FREE, align="left")
        x = _COLUMN * source
        axes.plot([x, x], [heights[0], bottom], color=GREY, linewidth=1, zorder=1)
        _box(axes, x, heights[-1], str(number + 1), _PLAIN)
    for source, name in enumerate(("cell k-2", "cell k-1")):
        x = _COLUMN * source
        axes.plot([x, x], [0, ends[source]], color=GREY, linewidth=1, zorder=1)
        _box(axes, x, 0, name, _PLAIN)
    left, right = _COLUMN * INPUTS, _COLUMN * (INPUTS + nodes - 1)
    axes.plot([left, right], [bottom, bottom], color=GREY, linewidth=1, zorder=1)
    _box(axes, (left + right) / 2, bottom, "output", _PLAIN)


def _box(axes: Axes, x: float, y: float, name: str, colours: tuple[str, str], align: str = "center") -> None:
    look = {"boxstyle": "round,pad=0.3", "facecolor": colours[0], "edgecolor": colours[1], "linewidth": 0.8}
    axes.text(x, y, name, size=FONT, color=INK, ha=align, va="center_baseline", bbox=look)
