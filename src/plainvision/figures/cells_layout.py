"""Where the parts of a drawn cell go: columns from left to right, few crossings, no line behind a box.

A source's line has a track of its own through each column that it passes, so that it never hides behind a node. All
lengths are in inches; heights are counted upwards from the middle of the cell.
"""

import itertools
from dataclasses import dataclass, field

from plainvision.search.genotype import Cell
from plainvision.search.space import INPUTS

NODE, TRACK = 0.62, 0.24
"""What a node with its two operations, and what a passing line takes of a column's height."""
_APART = 0.145  # an operation stands so far above or below the middle of its node
_ENDS = 0.15  # between two lines that meet the output
_CROSSING = 5.0  # as bad as so many inches of climbing
_MOST = 6  # things in a column, all orders of which are tried


@dataclass
class Layout:
    """Heights of everything in a cell; sources are numbered as in a genotype, nodes from 0."""

    columns: int
    """Columns of nodes; the inputs stand in column 0, the output behind the last."""
    column: dict[int, int]
    """The column of each source."""
    height: dict[int, float]
    """The middle of each source."""
    operations: dict[tuple[int, int], float] = field(default_factory=dict)
    """(node, edge): the middle of the operation."""
    tracks: dict[tuple[int, int], float] = field(default_factory=dict)
    """(source, column): its line in a column that it passes."""
    ends: dict[int, float] = field(default_factory=dict)
    """Where a node's line meets the output."""
    extent: float = 0.8
    """Height of the highest column."""
    cost: float = 0.0
    """Crossings and climbing of all lines."""

    def line(self, source: int, column: int) -> float:
        """Return the height at which the line of ``source`` leaves ``column``."""
        return self.tracks.get((source, column), self.height[source])


@dataclass
class _Column:
    """One order of what stands in a column, from top to bottom."""

    heights: dict[int, float]
    operations: dict[tuple[int, int], float]
    lines: list[tuple[float, float]]
    extent: float

    @property
    def cost(self) -> float:
        crossings = sum((a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(self.lines, 2))
        return _CROSSING * crossings + sum(abs(begin - end) for begin, end in self.lines)


def lay_out(cell: Cell) -> Layout:
    """Return the better layout of those with either input on top."""
    return min((_with_inputs(cell, {0: top, 1: -top}) for top in (0.4, -0.4)), key=lambda layout: layout.cost)


def _with_inputs(cell: Cell, heights: dict[int, float]) -> Layout:
    column = dict.fromkeys(range(INPUTS), 0)
    for source, node in enumerate(cell, start=INPUTS):
        column[source] = 1 + max(column[edge.source] for edge in node)
    layout = Layout(max(column.values()), column, dict(heights))
    # An input's line ends at its last reader, a node's at the output, which joins all nodes.
    ends = dict.fromkeys(column, layout.columns + 1)
    for source in range(INPUTS):
        readers = [column[n] for n, node in enumerate(cell, start=INPUTS) if any(e.source == source for e in node)]
        ends[source] = max(readers, default=0)
    for here in range(1, layout.columns + 1):
        members = [source for source in column if column[source] == here or column[source] < here < ends[source]]
        if len(members) <= _MOST:
            orders = [list(order) for order in itertools.permutations(members)]
        else:
            orders = [sorted(members, key=lambda source: -_pull(layout, cell, source))]
        best = min((_stack(layout, cell, order, here) for order in orders), key=lambda found: found.cost)
        for source, height in best.heights.items():
            if column[source] == here:
                layout.height[source] = height
            else:
                layout.tracks[source, here] = height
        layout.operations |= best.operations
        layout.extent = max(layout.extent, best.extent)
        layout.cost += best.cost
    nodes = sorted(range(INPUTS, INPUTS + len(cell)), key=lambda source: -layout.line(source, layout.columns))
    layout.ends = {source: _ENDS * ((len(nodes) - 1) / 2 - n) for n, source in enumerate(nodes)}
    return layout


def _stack(layout: Layout, cell: Cell, order: list[int], here: int) -> _Column:
    """Return the column of ``order`` with the lines that come into it."""
    sizes = [NODE if layout.column[source] == here else TRACK for source in order]
    found = _Column({}, {}, [], sum(sizes))
    top = found.extent / 2
    for source, size in zip(order, sizes, strict=True):
        middle = found.heights[source] = top - size / 2
        top -= size
        if layout.column[source] < here:
            found.lines.append((layout.line(source, here - 1), middle))
            continue
        node = source - INPUTS
        begins = [(layout.line(edge.source, here - 1), edge.source, place) for place, edge in enumerate(cell[node])]
        for (begin, _, place), offset in zip(sorted(begins, reverse=True), (_APART, -_APART), strict=True):
            found.operations[node, place] = middle + offset
            found.lines.append((begin, middle + offset))
    return found


def _pull(layout: Layout, cell: Cell, source: int) -> float:
    """Return the height that the lines into a node, or a passing line, come from."""
    if source in layout.height:
        return layout.line(source, max([layout.column[source], *(c for s, c in layout.tracks if s == source)]))
    begins = [_pull(layout, cell, edge.source) for edge in cell[source - INPUTS]]
    return sum(begins) / len(begins)
