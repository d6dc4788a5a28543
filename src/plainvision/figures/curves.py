"""The course of a training run: one panel for each thing that its metrics record."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plainvision.figures.style import BLUE, FONT, GREY, RED, figure_of

_WIDTH, _HEIGHT = 3.15, 2.3
# What every run records; anything else comes from a technique, and gets a panel of its own.
_READING = ("step", "learning_rate", "loss", "accuracy", "images_per_second")
_EPOCH = ("epoch", "step", "top1", "top5", "map", "macro_f1", "micro_f1", "validation_loss", "skipped")
_MOST_PANELS, _MOST_POINTS = 12, 1000

Line = Mapping[str, Any]


def training_curves(lines: Sequence[Line]) -> dict[str, Figure]:
    """Return the panels of the metrics that `plainvision.training.resumable.read_metrics` reads, by descriptions."""
    epochs = [line for line in lines if "validation_loss" in line]
    readings = [line for line in lines if "loss" in line]
    per_epoch = next((line["step"] / (line["epoch"] + 1) for line in epochs), None)
    if per_epoch is None:
        return {}
    found = {
        "Loss by epoch": _panel(
            "loss",
            {
                "training": _points(readings, "loss", per_epoch),
                "validation": _points(epochs, "validation_loss", per_epoch),
            },
        ),
        **_scores(epochs, readings, per_epoch),
        "Learning rate by epoch": _panel("learning rate", {"": _points(readings, "learning_rate", per_epoch)}),
    }
    names = dict.fromkeys(name for line in epochs for name in line if name not in _EPOCH)
    names |= dict.fromkeys(name for line in readings for name in line if name not in _READING)
    for name in list(names)[: _MOST_PANELS - len(found)]:
        label = name.replace("_", " ")
        found[f"{label.capitalize()} by epoch"] = _panel(label, {"": _points(lines, name, per_epoch)})
    return found


def _scores(epochs: Sequence[Line], readings: Sequence[Line], per_epoch: float) -> dict[str, Figure]:
    """Return the panel of top-1, or where images have sets of labels that of their scores."""
    if "top1" in epochs[0]:
        curves = {
            "training": _points(readings, "accuracy", per_epoch),
            "validation": _points(epochs, "top1", per_epoch),
        }
        return {"Accuracy by epoch": _panel("top-1, %", curves)}
    names = {"map": "mAP, %", "macro_f1": "macro F1, %", "micro_f1": "micro F1, %"}
    return {
        f"{label.removesuffix(', %')} by epoch": _panel(label, {"": _points(epochs, name, per_epoch)})
        for name, label in names.items()
    }


def _points(lines: Sequence[Line], name: str, per_epoch: float) -> list[tuple[float, float]]:
    points = [(line["step"] / per_epoch, float(line[name])) for line in lines if name in line]
    every = math.ceil(len(points) / _MOST_POINTS)
    return points[::-1][::every][::-1] if points else []  # the last one stays


def _panel(label: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    figure, axes = figure_of(_WIDTH, _HEIGHT, "epoch", label)
    axes.yaxis.label.set_parse_math(False)
    for name, points in curves.items():
        if points:
            x, y = zip(*points, strict=True)
            colour = RED if not name else GREY if name == "training" else BLUE
            marker = "o" if len(points) <= 12 else None
            axes.plot(x, y, color=colour, label=name, marker=marker, markersize=3, linewidth=1.2)
    axes.margins(x=0.03)
    if len(curves) > 1:
        _legend_above(axes)
    return figure


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        frameon=False,
        fontsize=FONT,
        borderaxespad=0.2,
        handlelength=1.4,
    )
