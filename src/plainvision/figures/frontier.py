"""The figure of accuracy against cost: points with their names, and the front that no point beats."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from plainvision.figures.style import COLOURS, FONT, GREY, INK, TWO_COLUMNS, figure_of, inches, legend
from plainvision.showing import shown

# From so many times the least cost on, costs are placed by their logarithm.
_WIDE = 8
_LEADER = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
_LINE = FONT / 72 * 1.15


class Labelled(NamedTuple):
    """A point to draw."""

    name: str
    cost: float
    top1: float
    group: str
    """Points of a group have one colour."""
    hollow: bool
    """Whether it is a published one."""
    on_front: bool


class _Box(NamedTuple):
    left: float
    low: float
    right: float
    high: float

    def overlap(self, other: "_Box") -> float:
        wide = min(self.right, other.right) - max(self.left, other.left)
        tall = min(self.high, other.high) - max(self.low, other.low)
        return max(0.0, wide) * max(0.0, tall)


def frontier_figure(points: Sequence[Labelled], cost: str, accuracy: str, note: str = "") -> Figure:
    """Draw ``accuracy`` against ``cost``, whose names are the axes' labels, with the front as steps.

    Published points are hollow. ``note`` stands below, for what a reader has to know.

    Raises:
        ValueError: no points.
    """
    if not points:
        raise ValueError("there is nothing to draw. Give one network or more.")
    figure, axes = figure_of(TWO_COLUMNS, 3.6, cost, accuracy)
    costs = [one.cost for one in points]
    if min(costs) > 0 and max(costs) >= _WIDE * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    front = sorted((one.cost, one.top1) for one in points if one.on_front)
    axes.step(*zip(*front, strict=True), where="post", color=GREY, linewidth=1, linestyle="--", zorder=1)
    handles = {"front: no point is better in both": Line2D([], [], color=GREY, linewidth=1, linestyle="--")}
    groups = list(dict.fromkeys(one.group for one in points))
    colours = {group: (*COLOURS, INK)[place % (len(COLOURS) + 1)] for place, group in enumerate(groups)}
    for one in points:
        face = "white" if one.hollow else colours[one.group]
        axes.plot(one.cost, one.top1, "o", color=colours[one.group], markerfacecolor=face, markersize=5, zorder=3)
    for group in groups:
        handles[group] = Line2D([], [], color=colours[group], marker="o", linestyle="none", markersize=5)
    if any(one.hollow for one in points):
        handles["hollow: published"] = Line2D(
            [], [], color=INK, marker="o", markerfacecolor="white", linestyle="none", markersize=5
        )
    legend(figure, handles)
    if note:
        figure.supxlabel(shown(note), fontsize=FONT - 1, color=GREY, wrap=True)
    axes.margins(0.1, 0.12)
    figure.draw_without_rendering()  # which settles where the axes are
    corners = [corner for (x, y), (after, _) in pairwise(front) for corner in ((x, y), (after, y))] + front[-1:]
    _label(axes, points, corners)
    return figure


def _label(axes: Axes, points: Sequence[Labelled], corners: Sequence[tuple[float, float]]) -> None:
    """Write each name beside its point, where it covers no other name and no point, with a line where it is far."""
    dpi = axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    inside = axes.get_window_extent()
    frame = _Box(inside.x0 / dpi, inside.y0 / dpi, inside.x1 / dpi, inside.y1 / dpi)
    places = [tuple(axes.transData.transform((one.cost, one.top1)) / dpi) for one in points]
    taken = [_Box(x - 0.045, y - 0.045, x + 0.045, y + 0.045) for x, y in places]
    line = [tuple(axes.transData.transform(corner) / dpi) for corner in corners]
    for (x, y), (other, beyond) in pairwise(line):
        taken.append(_Box(min(x, other) - 0.02, min(y, beyond) - 0.02, max(x, other) + 0.02, max(y, beyond) + 0.02))
    # The crowded ones choose first: the others have more room to give way to.
    crowd = [sum(math.dist(here, there) < 0.8 for there in places) for here in places]
    for index in sorted(range(len(points)), key=lambda index: -crowd[index]):
        (x, y), name = places[index], shown(points[index].name)
        width = inches(name) + 0.02
        _, box = min(_candidates(x, y, width, taken, frame), key=lambda one: one[0])
        taken.append(box)
        middle = (box.left + box.right) / 2, (box.low + box.high) / 2
        far = abs(middle[1] - y) > 1.1 * _LINE or not box.left - 0.12 < x < box.right + 0.12
        written = axes.annotate(
            name,
            (points[index].cost, points[index].top1),
            ((middle[0] - x) * 72, (middle[1] - y) * 72),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=FONT,
            parse_math=False,
            arrowprops=_LEADER if far else None,
        )
        written.set_in_layout(False)  # or the axes would move, and the points with them


def _candidates(
    x: float, y: float, width: float, taken: Sequence[_Box], frame: _Box
) -> Sequence[tuple[tuple[float, float], _Box]]:
    """Return places for a name around a point, with how bad each is: what it covers first, then its distance."""
    found = []
    for ring in range(9):
        away = 0.07 + 0.12 * ring
        for turn in range(16):
            across, up = math.cos(turn * math.pi / 8), math.sin(turn * math.pi / 8)
            middle = x + across * (away + width / 2), y + up * (away + _LINE / 2)
            box = _Box(middle[0] - width / 2, middle[1] - _LINE / 2, middle[0] + width / 2, middle[1] + _LINE / 2)
            covered = sum(box.overlap(other) for other in taken)
            outside = width * _LINE - box.overlap(frame)
            # Right, then left, then above and below read best.
            found.append(((round(covered + outside, 6), away + 0.02 * abs(up) + 0.01 * (across < 0)), box))
    return found
