"""The figure of accuracy against cost: nothing covers a name."""

import itertools
import random

import pytest

from plainvision.figures.frontier import Labelled, frontier_figure


def boxes(figure):
    figure.canvas.draw()
    (axes,) = figure.axes
    for text in axes.texts:
        text.arrow_patch = text.arrowprops = None  # the line that leads to a point is no part of the name
    return [text.get_window_extent() for text in axes.texts], axes


def points(count, spread):
    draw = random.Random(count)
    return [
        Labelled(
            f"network_{n}_with_$name$",
            5 + spread * draw.random(),
            70 + spread * draw.random(),
            f"g{n % 3}",
            n % 2 == 0,
            n < 3,
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(("count", "spread"), [(1, 1.0), (12, 10.0), (24, 50.0)])
def test_names_cover_neither_each_other_nor_a_point(count, spread):
    drawn = points(count, spread)
    names, axes = boxes(frontier_figure(drawn, "cost", "top-1 (%)"))
    assert len(names) == count
    assert not any(one.overlaps(other) for one, other in itertools.combinations(names, 2))
    places = [axes.transData.transform((one.cost, one.top1)) for one in drawn]
    assert not any(name.contains(*place) for name in names for place in places)


def test_published_points_are_hollow_and_wide_costs_logarithmic():
    drawn = [Labelled("a", 1.0, 70.0, "own", False, True), Labelled("b", 20.0, 80.0, "timm", True, True)]
    figure = frontier_figure(drawn, "cost", "top-1 (%)", "Not comparable: sizes differ.")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "white" for line in marks] == [False, True]
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["front: no point is better in both", "own", "timm", "hollow: published"]
    assert figure.get_supxlabel() == "Not comparable: sizes differ."
    with pytest.raises(ValueError, match="there is nothing to draw"):
        frontier_figure([], "cost", "top-1 (%)")
