"""The figure of a learning-rate range test: loss against rate."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from plainvision.figures.style import BLUE, GREY, INK, RED, figure_of, legend


def learning_rate_figure(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], *, suggested: float | None, own: float
) -> Figure:
    """Draw the losses of a range test and their average against the learning rate.

    Vertical lines are the rate that is ``suggested``, if one is, and the recipe's ``own``. A loss far above where the
    test began lies outside: what matters is below.
    """
    figure, axes = figure_of(3.3, 2.4, "learning rate", "training loss")
    axes.set_xscale("log")
    handles = {"loss of a step": axes.plot(rates, losses, color=GREY, linewidth=0, marker=".", markersize=3)[0]}
    (handles["average of neighbours"],) = axes.plot(rates, smoothed, color=INK, linewidth=1.6)
    lines = [("the recipe's own rate", own, BLUE, "--")]
    if suggested is not None:
        lines.append(("suggested rate", suggested, RED, "-"))
    for name, rate, colour, style in lines:
        handles[name] = axes.axvline(rate, color=colour, linewidth=1.1, linestyle=style)
    least, first = min(smoothed), max(smoothed[: max(1, len(smoothed) // 3)])
    fall = max(first - least, 0.05 * first)
    axes.set_ylim(least - 0.3 * fall, first + 0.6 * fall)
    legend(figure, handles)
    return figure
