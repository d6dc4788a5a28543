"""The figure of a layer study: accuracy against latency, a panel per stage."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plainvision.figures.style import BLUE, FONT, GREEN, GREY, INK, PINK, RED, legend, plain

# An operation has one look in every figure.
_LOOKS = {
    "conv": (INK, "o"),
    "depthwise": (BLUE, "s"),
    "max": (RED, "^"),
    "avg": (GREEN, "v"),
    "identity": (PINK, "D"),
}
_UNCHANGED = "no stage changed"


def draw_study(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw top-1 in per cent against the median latency in ms, a panel per stage, as a figure for a paper.

    Networks of a single bottleneck are drawn against parameters, multiply-adds and latency, a line per operation.

    Vertical bars are the standard deviation between seeds, horizontal ones the 95 % interval of the median. The network
    as it is stands in each panel, with a dashed line at its accuracy.

    Args:
        rows: of `run_study`.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("there is nothing to draw. Give the rows of a study.")
    if rows[0].get("width") is not None:
        return _draw_widths(rows)
    own = [row for row in rows if row["stage"] is None]
    stages = list(dict.fromkeys(row["stage"] for row in rows if row["stage"] is not None)) or [None]
    columns = min(len(stages), 4)
    lines = math.ceil(len(stages) / columns)
    figure = Figure(figsize=(max(3.3, 1.85 * columns), 0.3 + 2.0 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Any] = {}
    for axes, stage in zip(grid.flat, stages, strict=False):
        for row in own:
            axes.axhline(row["top1_mean"], color=GREY, linewidth=0.8, linestyle="--", zorder=1)
        for row in own + [row for row in rows if row["stage"] == stage and row["stage"] is not None]:
            color, marker = _LOOKS[row["op"]]
            at, low, high = row["p50_ms"], row["p50_low_ms"], row["p50_high_ms"]
            handles[row["op"]] = axes.errorbar(
                at,
                row["top1_mean"],
                xerr=None if low is None else [[at - low], [high - at]],
                yerr=row["top1_std"],
                color=color,
                marker=marker,
                markersize=5,
                capsize=2,
                linestyle="none",
                linewidth=1,
            )
        plain(axes).set_title("no stage changed" if stage is None else f"stage {stage}", fontsize=FONT)
    for place in range(len(stages), lines * columns):
        grid.flat[place].set_visible(False)
        grid.flat[place - columns].tick_params(labelbottom=True)  # for the panel above is now the lowest
    for axes in grid[:, 0]:
        axes.set_ylabel("top-1 (%)", fontsize=FONT)
    images = "image" if rows[0]["batch_size"] == 1 else f"{rows[0]['batch_size']} images"
    figure.supxlabel(
        f"median latency per {images} (ms), with its 95 % interval; up and down ± a standard deviation of the seeds",
        fontsize=FONT,
        wrap=True,
    )
    if own:
        handles[_UNCHANGED] = Line2D([], [], color=GREY, linewidth=0.8, linestyle="--")
    legend(figure, {name: handles[name] for name in sorted(handles, key=[*_LOOKS, _UNCHANGED].index)})
    return figure


def _draw_widths(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw networks of a single bottleneck: a line per operation through its widths, a panel per cost."""
    image = "image" if rows[0]["batch_size"] == 1 else f"{rows[0]['batch_size']} images"
    costs = {"parameters": ("parameters (k)", 1e3), "macs": ("multiply-adds (M)", 1e6)}
    figure = Figure(figsize=(6.6, 2.6), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    handles: dict[str, Any] = {}
    for axes, cost in zip(panels, (*costs, "p50_ms"), strict=True):
        label, unit = costs.get(cost, (f"median latency per {image} (ms)", 1))
        for op in dict.fromkeys(row["op"] for row in rows):
            of_op = sorted((row for row in rows if row["op"] == op), key=lambda row: row["width"])
            color, marker = _LOOKS[op]
            handles[op] = axes.errorbar(
                [row[cost] / unit for row in of_op],
                [row["top1_mean"] for row in of_op],
                yerr=[row["top1_std"] or 0 for row in of_op],
                color=color,
                marker=marker,
                markersize=4,
                capsize=2,
                linewidth=1,
            )
        plain(axes).set_xlabel(label, fontsize=FONT)
    panels[0].set_ylabel("top-1 (%)", fontsize=FONT)
    legend(figure, {name: handles[name] for name in _LOOKS if name in handles})
    return figure
