"""How memory and time grow with the image, as a figure for a paper."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plainvision.bench.growth import by_network, side, surface
from plainvision.showing import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Okabe and Ito's colours, which also those tell apart who see fewer; their yellow is too pale for a line. One marker
# more than colours, so that the pairs begin to repeat after 56 networks only.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")


def growth_figure(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw peak memory in MB and median time in ms against the image's surface, a line per network.

    The sides in pixels stand at their surface, so that growth in proportion to it is a straight line from 0. Dashed
    lines show that growth for memory, through each network's smallest image; time has none, because a small image's
    is mostly the cost of launching kernels. Where no memory is known, time stands alone.

    Args:
        rows: a row per network and image size, of `comparison` or `Measurement.to_dict`, in any order.

    Raises:
        ValueError: no rows, or a network at a single surface.
    """
    from matplotlib.figure import Figure  # here, not above: who measures and does not draw must not wait for it
    from matplotlib.lines import Line2D

    networks = by_network(rows)
    images = "per image" if rows[0]["batch_size"] == 1 else f"per {rows[0]['batch_size']} images"
    known = any(row["peak_memory_mb"] is not None for row in rows)
    figure = Figure(layout="constrained")
    *memory, time = figure.subplots(1, 2 if known else 1, squeeze=False)[0]
    lines = _draw(time, networks, "p50_ms", f"time {images} (ms)")
    names = [shown(name) for name in networks]
    for axes in memory:
        _draw(axes, networks, "peak_memory_mb", f"peak memory {images} (MB)", proportional=True)
        lines.append(Line2D([], [], color="#666666", linewidth=0.9, linestyle="--"))
        names.append("proportional to surface")
    width = 7.4 if known else 4.2  # inches, of which each holds 14 letters
    columns = _columns(names, letters=int(14 * width))
    figure.set_size_inches(width, 2.9 + 0.21 * math.ceil(len(names) / columns))
    # Above the panels, where it hides no point.
    made = figure.legend(lines, names, loc="outside upper center", ncols=columns, frameon=False)
    for text in made.get_texts():
        text.set_parse_math(False)  # a name may hold dollars
    return figure


def _draw(
    axes: "Axes",
    networks: Mapping[str, Sequence[Mapping[str, Any]]],
    key: str,
    label: str,
    proportional: bool = False,
) -> "list[Line2D]":
    """Draw a panel; return the line of each network."""
    sides = {surface(row): side(row) for rows in networks.values() for row in rows}
    widest, highest = max(sides), 0.0
    lines: list[Line2D] = []
    for index, (name, rows) in enumerate(networks.items()):
        color, marker = _COLORS[index % len(_COLORS)], _MARKERS[index % len(_MARKERS)]
        points = sorted((surface(row), row[key]) for row in rows if row[key] is not None)
        surfaces, values = [surface for surface, _ in points], [value for _, value in points]
        lines += axes.plot(surfaces, values, color=color, marker=marker, markersize=5, linewidth=1.5, label=name)
        highest = max([highest, *values])
        if proportional and points:
            end = values[0] * widest / surfaces[0]
            axes.plot([0, widest], [0, end], color=color, linewidth=0.9, linestyle="--", alpha=0.7, zorder=1)
    axes.set_xticks(list(sides), _spaced(sides))
    # By the points: a dashed line may lead far above them and would press them flat.
    axes.set(xlim=(0, 1.04 * widest), ylim=(0, 1.06 * highest or 1))
    axes.set(xlabel="side of the image (px), placed by surface", ylabel=label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
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


def _columns(names: Sequence[str], letters: int) -> int:
    """Return how many columns a legend may have to stay within a width in letters."""
    for columns in range(len(names), 1, -1):
        height = math.ceil(len(names) / columns)
        groups = [names[start : start + height] for start in range(0, len(names), height)]
        if sum(9 + max(map(len, group)) for group in groups) <= letters:  # 9 for the line and the space
            return columns
    return 1
