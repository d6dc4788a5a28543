"""Forms of a network: accuracy with its bound against latency."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plainvision.figures.style import COLOURS, FONT, GREY, INK, TWO_COLUMNS, figure_of, legend

_MARKERS = {"fp32": "o", "tf32": "v", "bf16": "s", "fp16": "D", "int8": "^"}


def forms_figure(rows: Sequence[Mapping[str, Any]], *, least: float | None, batch_size: int) -> Figure:
    """Draw each form at its median latency and its accuracy, with a line down to the bound of the accuracy.

    Each stands with the number of threads that suits it best. One that does not pass is hollow. Where no accuracy is
    known, latencies stand as bars.

    Args:
        rows: a row per form and number of threads, of `TunedForm.to_dict`; those without a latency are left out.
        least: the accuracy in per cent that a form has to keep; None draws no line.
        batch_size: images per pass.

    Raises:
        ValueError: no row has a latency.
    """
    best: dict[str, Mapping[str, Any]] = {}
    for row in sorted((row for row in rows if row["p50_ms"] is not None), key=lambda row: row["p50_ms"]):
        best.setdefault(row["name"], row)
    if not best:
        raise ValueError("no form was timed, so that there is nothing to draw. Give more seconds.")
    time = "median time of an image (ms)" if batch_size == 1 else f"median time of {batch_size} images (ms)"
    judged = [row for row in best.values() if row["accuracy"] is not None]
    if not judged:
        return _bars(list(best.values()), time)
    figure, axes = figure_of(TWO_COLUMNS, 3.2, time, "top-1 (%)")
    formats = sorted({_format(row["name"]) for row in judged})
    precisions = [one for one in _MARKERS if any(f" {one}" in row["name"] for row in judged)]
    for row in judged:
        colour, at = COLOURS[formats.index(_format(row["name"]))], row["p50_ms"]
        axes.plot([at, at], [row["lowest_accuracy"], row["accuracy"]], color=colour, linewidth=0.9)
        face = colour if row["verdict"] == "passes" else "white"
        marker = _MARKERS[row["name"].split()[1]]
        axes.plot(at, row["accuracy"], color=colour, marker=marker, markersize=6, markerfacecolor=face)
    handles: dict[str, Line2D] = {name: Line2D([], [], color=COLOURS[i], linewidth=3) for i, name in enumerate(formats)}
    handles |= {one: Line2D([], [], color=GREY, marker=_MARKERS[one], linestyle="") for one in precisions}
    handles["down to the 95 % bound"] = Line2D([], [], color=GREY, linewidth=0.9)
    if any(row["verdict"] != "passes" for row in judged):
        handles["does not pass"] = Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="")
    winner = next((row for row in judged if row["verdict"] == "passes"), None)
    if winner is not None:
        (handles["fastest that passes"],) = axes.plot(
            winner["p50_ms"],
            winner["accuracy"],
            color=INK,
            marker="o",
            markersize=11,
            markerfacecolor="none",
            linestyle="",
        )
    if least is not None:
        handles["bounds above pass"] = axes.axhline(least, color=GREY, linewidth=0.9, linestyle="--")
    if "eager" in best:
        handles["eager mode"] = axes.axvline(best["eager"]["p50_ms"], color=GREY, linewidth=0.9, linestyle=":")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = axes.get_xlim()
    told = "25" if high > 8 * low else "123456"
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in told else "")
    axes.tick_params(which="minor", labelsize=FONT, pad=5)
    axes.margins(y=0.12)
    legend(figure, handles)
    return figure


def _format(name: str) -> str:
    """Return the format of a form, and whether it is replayed as a CUDA graph."""
    words = name.split()
    return f"{words[0]}, CUDA graph" if words[-1] == "graph" else words[0]


def _bars(rows: Sequence[Mapping[str, Any]], time: str) -> Figure:
    ordered = sorted(rows, key=lambda row: -row["p50_ms"])
    figure, axes = figure_of(TWO_COLUMNS, 0.5 + 0.2 * len(ordered), time, "")
    names = [f"{row['name']}, {row['threads']} thread{'s' * (row['threads'] > 1)}" for row in ordered]
    axes.barh(names, [row["p50_ms"] for row in ordered], color=COLOURS[0])
    axes.grid(visible=False, axis="y")
    return figure
