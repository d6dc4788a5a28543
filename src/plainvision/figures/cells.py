"""Cells as a picture: what reads what from left to right, operations without parameters in a colour of their own."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from plainvision.figures.cells_layout import Layout, lay_out
from plainvision.search.genotype import Cell, Genotype
from plainvision.search.space import INPUTS, has_parameters, reductions

# Inches.
_PILL, _PILL_HEIGHT = 0.98, 0.24
_NODE = 0.24
_COLUMN = _PILL + 0.14 + _NODE  # operations, then the node that adds them
_CURVE = 0.62  # between two columns
_END, _END_HEIGHT = 0.62, 0.34
_MARGIN, _TITLE, _LEGEND = 0.12, 0.26, 0.34
_FONT = 8.0
_INK, _FAINT, _EDGE = "#1a1a1a", "#6b6b6b", "#9a9a9a"
_FREE, _LEARNED = ("#cfe9e3", "#1f7a68"), ("#fbe3cf", "#b5651d")  # fill and border
# All lines of one source have its colour: inputs are grey, nodes take turns.
_INPUT_LINES = ("#4a4a4a", "#8c8c8c")
_NODE_LINES = ("#3b6fb6", "#b0569a", "#6d8b2f", "#c07c1a", "#2a9aa5", "#8a5a44")
_NAMES = {
    "skip": "skip",
    "max_pool_3x3": "max pool 3x3",
    "avg_pool_3x3": "avg pool 3x3",
    "sep_conv_3x3": "sep conv 3x3",
    "sep_conv_5x5": "sep conv 5x5",
    "dil_conv_3x3": "dil conv 3x3",
    "dil_conv_5x5": "dil conv 5x5",
}


def draw_cells(genotype: Genotype) -> Figure:
    """Return a figure of all different cells: the normal ones in order, the reduction cell last.

    A box is an operation, a circle a node that adds two of them; the output joins all nodes. `cell k-1` is the cell
    before, `cell k-2` the one before that.
    """
    drawn = [(title, cell, lay_out(cell), reduction) for title, cell, reduction in _titled(genotype)]
    columns = 1 if len(drawn) <= 2 else 2
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    widths = [max(_width(row[c][2]) for row in rows if c < len(row)) for c in range(columns)]
    heights = [_TITLE + max(layout.extent for _, _, layout, _ in row) + 2 * _MARGIN for row in rows]
    width, height = sum(widths) + 2 * _MARGIN, sum(heights) + _LEGEND + _MARGIN
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    top = height
    for row, size in zip(rows, heights, strict=True):
        left = _MARGIN
        for (title, cell, layout, reduction), room in zip(row, widths, strict=False):
            pen = _Pen(figure, left, top - _TITLE - (size - _TITLE) / 2)
            pen.text(_MARGIN, (size - _TITLE) / 2 + _TITLE / 2, title, align="left", weight="bold")
            _draw(pen, cell, layout, reduction)
            left += room
        top -= size
    _legend(_Pen(figure, _MARGIN, _MARGIN + _LEGEND / 2))
    return figure


class _Pen:
    """Draws in inches, from a point of the figure."""

    def __init__(self, figure: Figure, x: float, y: float) -> None:
        (self.axes,) = figure.axes
        self.x, self.y = x, y

    def box(self, x: float, y: float, size: tuple[float, float], colours: tuple[str, str], text: str = "") -> None:
        """Draw a rounded box whose left side is at ``x`` and whose middle at ``y``."""
        width, height = size
        radius = min(height / 2, 0.12)
        self.axes.add_patch(
            FancyBboxPatch(
                (self.x + x, self.y + y - height / 2),
                width,
                height,
                boxstyle=f"round,pad=0,rounding_size={radius}",
                facecolor=colours[0],
                edgecolor=colours[1],
                linewidth=0.8,
                zorder=2,
            )
        )
        self.text(x + width / 2, y, text)

    def line(self, begin: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        """Draw a line that leaves and arrives horizontally."""
        (x, y), (u, v) = begin, end
        bend = (x + u) / 2
        points = [(self.x + a, self.y + b) for a, b in ((x, y), (bend, y), (bend, v), (u, v))]
        path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
        self.axes.add_patch(PathPatch(path, facecolor="none", edgecolor=colour, linewidth=1.1, zorder=1))

    def text(self, x: float, y: float, text: str, *, align: str = "center", weight: str = "normal") -> None:
        """Write one line at a point."""
        self.axes.text(
            self.x + x,
            self.y + y,
            text,
            size=_FONT,
            color=_INK,
            ha=align,
            va="center_baseline",
            weight=weight,
            zorder=3,
        )


def _draw(pen: _Pen, cell: Cell, layout: Layout, reduction: bool) -> None:
    """Draw one cell, its inputs at the left."""
    begins = dict.fromkeys(range(INPUTS), _MARGIN + _END)
    for source in range(INPUTS):
        name = "cell k-2" if source == 0 else "cell k-1"
        pen.box(_MARGIN, layout.height[source], (_END, _END_HEIGHT), ("white", _EDGE), name)
    for number, node in enumerate(cell):
        source = INPUTS + number
        x, y = _left(layout.column[source]), layout.height[source]
        for place, edge in enumerate(node):
            middle = layout.operations[number, place]
            learned = has_parameters(edge.operation, edge.source, reduction=reduction)
            pen.box(x, middle, (_PILL, _PILL_HEIGHT), _LEARNED if learned else _FREE, _NAMES[edge.operation])
            pen.line((x + _PILL, middle), (x + _COLUMN - _NODE, y), _EDGE)
            pen.line(_leaves(layout, edge.source, layout.column[source] - 1, begins), (x, middle), _colour(edge.source))
        pen.box(x + _COLUMN - _NODE, y, (_NODE, _NODE), ("white", _EDGE), str(number + 1))
        begins[source] = x + _COLUMN
    for (source, column), height in layout.tracks.items():
        x = _left(column)
        pen.line(_leaves(layout, source, column - 1, begins), (x, height), _colour(source))
        pen.line((x, height), (x + _COLUMN, height), _colour(source))
    x = _left(layout.columns + 1)
    for source, height in layout.ends.items():
        pen.line(_leaves(layout, source, layout.columns, begins), (x, height), _colour(source))
    span = max(_END_HEIGHT, max(layout.ends.values()) - min(layout.ends.values()) + 0.2)
    pen.box(x, 0, (_END, span), ("white", _EDGE), "output")


def _leaves(layout: Layout, source: int, column: int, begins: dict[int, float]) -> tuple[float, float]:
    """Return the point at which the line of ``source`` leaves ``column``."""
    at_home = layout.column[source] == column
    return begins[source] if at_home else _left(column) + _COLUMN, layout.line(source, column)


def _left(column: int) -> float:
    """Return the left side of a column of nodes, or with the last and one of the output."""
    return _MARGIN + _END + _CURVE + (column - 1) * (_COLUMN + _CURVE)


def _width(layout: Layout) -> float:
    return _left(layout.columns + 1) + _END + 2 * _MARGIN


def _colour(source: int) -> str:
    return _INPUT_LINES[source] if source < INPUTS else _NODE_LINES[(source - INPUTS) % len(_NODE_LINES)]


def _legend(pen: _Pen) -> None:
    x = _MARGIN
    for colours, text, room in ((_FREE, "without parameters", 1.65), (_LEARNED, "with parameters", 1.65)):
        pen.box(x, 0, (0.26, 0.16), colours)
        pen.text(x + 0.34, 0, text, align="left")
        x += room


def _titled(genotype: Genotype) -> Sequence[tuple[str, Cell, bool]]:
    """Return each different cell with its title and whether it reduces."""
    depth = genotype.space.depth
    small = reductions(depth)
    large = [place for place in range(depth) if place not in small]
    shared = genotype.space.cells == "shared"
    cells = [
        (_title("normal", large if shared else [large[number]], depth), cell, False)
        for number, cell in enumerate(genotype.normal)
    ]
    return [*cells, (_title("reduction", list(small), depth), genotype.reduction, True)]


def _title(kind: str, places: Sequence[int], depth: int) -> str:
    named = ", ".join(str(place + 1) for place in places)
    return f"{kind} cell, {'places' if len(places) > 1 else 'place'} {named} of {depth}"
