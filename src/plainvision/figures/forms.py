"""Forms of a network: accuracy with its bound against latency."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plainvision.figures.style import COLOURS, FONT, GREY, TWO_COLUMNS, figure_of, legend

_MARKERS = {"fp32": "o", "bf16": "s", "fp16": "D", "int8": "^"}


def forms_figure(rows: Sequence[Mapping[str, Any]], *, least: float | None, batch_size: int) -> Figure:
    """Draw each form at its median latency and its accuracy, with a line down to the bound of the accuracy.

    A form that does not pass is hollow. Where no accuracy is known, latencies stand as bars.

    Args:
        rows: a row per form and number of threads, of `TunedForm.to_dict`; those without a latency are left out.
        least: the accuracy in per cent that a form has to keep; None draws no line.
        batch_size: images per pass.

    Raises:
        ValueError: no row has a latency.
    """
    rows = [row for row in rows if row["p50_ms"] is not None]
    if not rows:
        raise ValueError("no form was timed, so that there is nothing to draw. Give more seconds.")
    time = "median time of an image (ms)" if batch_size == 1 else f"median time of {batch_size} images (ms)"
    judged = [row for row in rows if row["accuracy"] is not None]
    if not judged:
        return _bars(rows, time)
    figure, axes = figure_of(TWO_COLUMNS, 3.2, time, "top-1 (%)")
    formats = sorted({row["name"].split()[0] for row in judged})
    precisions = [one for one in _MARKERS if any(f" {one}" in row["name"] for row in judged)]
    for row in judged:
        format, precision, *_ = row["name"].split()
        colour = COLOURS[formats.index(format)]
        passes = row["verdict"] == "passes"
        axes.plot([row["p50_ms"]] * 2, [row["lowest_accuracy"], row["accuracy"]], color=colour, linewidth=0.9)
        axes.plot(
            row["p50_ms"],
            row["accuracy"],
            color=colour,
            marker=_MARKERS[precision],
            markersize=6,
            markerfacecolor=colour if passes else "white",
        )
    if least is not None:
        axes.axhline(least, color=GREY, linewidth=0.9, linestyle="--")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if str(f"{value:e}")[0] in "235" else "")
    axes.tick_params(which="minor", labelsize=FONT)
    handles = {name: Line2D([], [], color=COLOURS[i], linewidth=3) for i, name in enumerate(formats)}
    handles |= {one: Line2D([], [], color=GREY, marker=_MARKERS[one], linestyle="") for one in precisions}
    handles["does not pass"] = Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="")
    if least is not None:
        handles["least bound that passes"] = Line2D([], [], color=GREY, linewidth=0.9, linestyle="--")
    legend(figure, handles)
    return figure


def _bars(rows: Sequence[Mapping[str, Any]], time: str) -> Figure:
    ordered = sorted(rows, key=lambda row: -row["p50_ms"])
    figure, axes = figure_of(TWO_COLUMNS, 0.5 + 0.2 * len(ordered), time, "")
    names = [f"{row['name']}, {row['threads']} threads" for row in ordered]
    axes.barh(names, [row["p50_ms"] for row in ordered], color=COLOURS[0])
    axes.grid(visible=False, axis="y")
    return figure
