"""Accuracy against the size of the images."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from plainvision.figures.style import COLOURS, GREY, TWO_COLUMNS, figure_of, legend


def resolutions_figure(rows: Sequence[Mapping[str, Any]], *, trained: int) -> Figure:
    """Draw top-1 against the side of the images, with 95 % intervals.

    Args:
        rows: a row each with ``image_size``, ``top1``, ``low`` and ``high``; one without a size is the mean of all.
        trained: the side that the network was trained or published with.

    Raises:
        ValueError: fewer than two sizes.
    """
    sized = sorted((row for row in rows if row["image_size"] is not None), key=lambda row: row["image_size"])
    if len(sized) < 2:
        raise ValueError("one size is no line. Give two or more.")
    figure, axes = figure_of(0.6 * TWO_COLUMNS, 2.8, "side of the images (px)", "top-1 (%)")
    sides, values = [row["image_size"] for row in sized], [row["top1"] for row in sized]
    ends = [[row["top1"] - row["low"] for row in sized], [row["high"] - row["top1"] for row in sized]]
    handles: dict[str, Any] = {
        "top-1, 95 % interval": axes.errorbar(
            sides, values, yerr=ends, color=COLOURS[0], marker="o", markersize=4, linewidth=1.4, capsize=2
        )
    }
    mean = next((row for row in rows if row["image_size"] is None), None)
    if mean is not None:
        handles["mean answer of all sizes"] = axes.axhline(
            mean["top1"], color=COLOURS[1], linewidth=1.1, linestyle="--"
        )
    if min(sides) <= trained <= max(sides):
        handles[f"the network's own size, {trained}"] = axes.axvline(trained, color=GREY, linewidth=0.9, linestyle=":")
    axes.set_xticks(sides)
    legend(figure, handles)
    return figure
