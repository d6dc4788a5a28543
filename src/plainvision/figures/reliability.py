"""A reliability diagram: accuracy against confidence (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""

import math

from matplotlib.figure import Figure

from plainvision.confidences import Calibration
from plainvision.figures.style import BLUE, GREY, figure_of
from plainvision.intervals import percent_interval


def reliability_diagram(calibration: Calibration) -> Figure:
    """Draw the accuracy of each bin, with its 95 % interval, at its mean confidence; on the diagonal they are equal."""
    figure, axes = figure_of(3.15, 2.9, "confidence, %", "accuracy, %")
    axes.plot((0, 100), (0, 100), color=GREY, linewidth=0.8, dashes=(4, 3))
    most = max((count for count, _, _ in calibration.bins), default=1)
    for count, confidence, accuracy in calibration.bins:
        axes.plot((confidence, confidence), percent_interval(accuracy, count), color=BLUE, linewidth=1, alpha=0.45)
        size = 3 + 6 * math.sqrt(count / most)
        axes.plot(confidence, accuracy, "o", color=BLUE, markersize=size, markeredgewidth=0)
    axes.set(xlim=(0, 102), ylim=(0, 102), xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    return figure
