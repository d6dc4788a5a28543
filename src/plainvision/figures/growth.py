"""How memory and time grow with the image."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plainvision.bench.growth import by_network, side, surface
from plainvision.figures.style import COLOURS, GREY, INK, TWO_COLUMNS, legend, plain

_COLOURS = (*COLOURS, INK)
# One more than colours, so that the pairs begin to repeat after 56 networks only.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")


def growth_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw peak memory in MB and median time in ms against the image's surface, a line per network.

    Growth in proportion to the surface is a straight line from 0. Dashed lines show it for memory, through each
    network's smallest image; time has none, because a small image's is mostly the cost of launching kernels. Where no
    memory is known, time stands alone.

    Args:
        rows: a row per network and image size, of `comparison` or `Measurement.to_dict`, in any order.

    Raises:
        ValueError: no rows, or a network at a single surface.
    """
    networks = by_network(rows)
    images = "image" if rows[0]["batch_size"] == 1 else f"{rows[0]['batch_size']} images"
    known = any(row["peak_memory_mb"] is not None for row in rows)
    figure = Figure(figsize=(TWO_COLUMNS if known else 0.6 * TWO_COLUMNS, 2.6), layout="constrained")
    *memory, time = figure.subplots(1, 2 if known else 1, squeeze=False)[0]
    handles = _draw(time, networks, "p50_ms", f"time per {images} (ms)")
    for axes in memory:
        _draw(axes, networks, "peak_memory_mb", f"peak memory per {images} (MB)", proportional=True)
        handles["proportional to surface"] = Line2D([], [], color=GREY, linewidth=0.9, linestyle="--")
    legend(figure, handles)
    return figure


def _draw(
    axes: Axes, networks: Mapping[str, Sequence[Mapping[str, Any]]], key: str, label: str, proportional: bool = False
) -> dict[str, Line2D]:
    """Draw a panel; return the line of each network."""
    sides = {surface(row): side(row) for rows in networks.values() for row in rows}
    widest, highest = max(sides), 0.0
    lines: dict[str, Line2D] = {}
    for index, (name, rows) in enumerate(networks.items()):
        colour, marker = _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
        points = sorted((surface(row), row[key]) for row in rows if row[key] is not None)
        places, values = [place for place, _ in points], [value for _, value in points]
        (lines[name],) = axes.plot(places, values, color=colour, marker=marker, markersize=4, linewidth=1.4, label=name)
        highest = max([highest, *values])
        if proportional and points:
            end = values[0] * widest / places[0]
            axes.plot([0, widest], [0, end], color=colour, linewidth=0.9, linestyle="--", alpha=0.7, zorder=1)
    plain(axes, "side of the image (px), placed by surface", label).grid(visible=False, axis="x")
    axes.set_xticks(list(sides), _spaced(sides))
    # By the points: a dashed line may lead far above them and would press them flat.
    axes.set(xlim=(0, 1.04 * widest), ylim=(0, 1.06 * highest or 1))
    return lines


def _spaced(sides: Mapping[int, str]) -> list[str]:
    """Return the texts of the ticks, empty where the next larger one's leaves no room."""
    texts, widest = dict.fromkeys(sides, ""), max(sides)
    right, beside = math.inf, ""
    for place, text in sorted(sides.items(), reverse=True):
        # A letter takes 2.6 % of the axis, and a space stays between two texts.
        if right - place >= (0.013 * len(text + beside) + 0.02) * widest:
            texts[place], right, beside = text, place, text
    return list(texts.values())
