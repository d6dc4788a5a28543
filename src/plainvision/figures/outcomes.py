"""What permutations could do: Figures 2, 3, 4 and 6 of arXiv:2103.09891.

Figure 2 is `unique_predictions`, 3 `greedy_curves`, 4 `layer_choice` and 6 `efficiency`. Accuracies are in per cent.
What needs an oracle, which is told the true class, says so.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from plainvision.figures.style import (
    BLUE,
    COLOURS,
    FONT,
    GREY,
    INK,
    ONE_COLUMN,
    RED,
    TWO_COLUMNS,
    figure_of,
    legend,
)
from plainvision.showing import shown

_At = tuple[float, float]
Kind = Literal["static", "static, cheapest", "best case", "best case, cheapest"]

_DASHES: tuple[Any, ...] = ((0, (4, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.4, 1.2, 1.4)), (0, (8, 2)))
# A curve of one permutation is a point.
_END: dict[str, Any] = {"marker": "o", "markersize": 3, "markevery": [-1]}
# Of a choice's place on the axis: how wide its bar is, and each control beside it.
_BAR, _BESIDE = 0.36, 0.2
# Where a point's name may stand, the best place first: right (1) or left, above (1) or below.
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
# A peak so many times another's would press that one flat: the axis becomes logarithmic.
_FLAT = 4
# Of each kind: its words, colour, marker, and the marker's size in points. Red and blue as in the paper.
_KINDS: dict[str, tuple[str, str, str, float]] = {
    "static": ("as trained", RED, "o", 6),
    "static, cheapest": ("cheapest (oracle)", RED, "*", 9),
    "best case": ("best case (oracle)", BLUE, "o", 6),
    "best case, cheapest": ("cheapest (oracle)", BLUE, "*", 9),
}


def unique_predictions(counts: Mapping[str, np.ndarray]) -> Figure:
    """Draw how many different classes the permutations of a network predict for an image, as histograms (Figure 2).

    The axis of shares is logarithmic where one histogram is much higher than another; an exponential one is straight.

    Args:
        counts: the number of unique predictions of each image, (N,), by the name of what was changed.

    Raises:
        ValueError: there is nothing to draw, or an image has no prediction.
    """
    if not counts:
        raise ValueError("there are no counts to draw. Give the unique predictions of each image, by a name.")
    for name, values in counts.items():
        if not len(values) or np.min(values) < 1:
            found = f"an image with {np.min(values)} predictions" if len(values) else "no images"
            raise ValueError(f"{name!r} has {found}. Give a count from 1 for each image.")
    figure, axes = figure_of(ONE_COLUMN, 2.3, "unique predictions per image", "images (%)")
    most = max(int(np.max(values)) for values in counts.values())
    edges = np.arange(most + 1) + 0.5
    shares = {name: 100 * np.bincount(values, minlength=most + 1)[1:] / len(values) for name, values in counts.items()}
    peaks = [values.max() for values in shares.values()]
    if max(peaks) > _FLAT * min(peaks):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    labels = {}
    for (name, values), colour in zip(shares.items(), itertools.cycle(COLOURS), strict=False):
        axes.stairs(values, edges, fill=True, color=colour, alpha=0.15, linewidth=0)
        labels[f"{name} (mean {np.mean(counts[name]):.1f})"] = axes.stairs(values, edges, color=colour, linewidth=1.1)
    axes.set_xlim(0.5, most + 0.5)
    ticks = MaxNLocator(6, integer=True, steps=[1, 2, 2.5, 5, 10]).tick_values(0, most)
    axes.set_xticks([max(1, tick) for tick in ticks if tick <= most])
    legend(figure, labels)
    return figure


def greedy_curves(
    curves: Mapping[str, Sequence[float]],
    static: float | Mapping[str, float],
    *,
    controls: Mapping[str, Sequence[float]] = {},
) -> Figure:
    """Draw the best case against the number of permutations that an oracle may choose from (Figure 3).

    Args:
        curves: top-1 in per cent with the first 1, 2, ... permutations, by the name of what was changed.
        static: top-1 in per cent of the trained network, or that of each curve's network by the curve's name.
        controls: the same of what is no permutation, such as zooms of the image; drawn dashed.

    Raises:
        ValueError: there is nothing to draw, or a curve lacks its static network.
    """
    drawn = {**curves, **controls}
    if not curves or not all(len(values) for values in drawn.values()):
        empty = ", ".join(repr(name) for name, values in drawn.items() if not len(values))
        raise ValueError(f"there is no curve to draw{empty and f' of {empty}'}. Give the best case of 1, 2, ... each.")
    if isinstance(static, Mapping) and (missing := [name for name in curves if name not in static]):
        raise ValueError(f"no static accuracy of {missing[0]!r}: there is {', '.join(static) or 'none'}. Give it too.")
    what = f"permutations{' or views' if controls else ''} to choose from"
    figure, axes = figure_of(ONE_COLUMN, 2.6, what, "best case of an oracle, top-1 (%)")
    labels: dict[str, Any] = {}
    dots: dict[str, Any] = {"linewidth": 0.9, "linestyle": (0, (1, 1.8))}
    for (name, values), colour in zip(curves.items(), itertools.cycle(COLOURS), strict=False):
        (labels[name],) = axes.plot(np.arange(len(values)) + 1, values, color=colour, linewidth=1.4, **_END)
        if isinstance(static, Mapping):
            axes.axhline(static[name], color=colour, **dots)
    for (name, values), dashes in zip(controls.items(), itertools.cycle(_DASHES), strict=False):
        steps = np.arange(len(values)) + 1
        (labels[name],) = axes.plot(steps, values, color=INK, linewidth=1.1, linestyle=dashes, **_END)
    if not isinstance(static, Mapping):
        axes.axhline(static, color=GREY, **dots)
    labels["as trained, no oracle"] = Line2D([], [], color=GREY, **dots)
    most = max(len(values) for values in drawn.values())
    axes.set_xscale("log")
    axes.set_xlim(0.94, max(2, most) * 1.07)
    _ticks(axes, LogLocator(subs=(1, 2, 5)))
    legend(figure, labels)
    return figure


def layer_choice(
    bounds: Mapping[str, tuple[float, float, float]],
    static: float,
    *,
    controls: Mapping[str, Mapping[str, float]] = {},
) -> Figure:
    """Draw the worst, median and best case of each choice of layers (Figure 4).

    Args:
        bounds: worst, median and best top-1 in per cent by the name of the choice, such as "AB".
        static: top-1 in per cent of the trained network.
        controls: best top-1 in per cent that an oracle reaches with as many views as the choice has permutations, by
            the name of the choice, by what the views are; not every choice needs one.

    Raises:
        ValueError: there is nothing to draw, or a control is of a choice without bounds.
    """
    if not bounds:
        raise ValueError("there are no bounds to draw. Give (worst, median, best) of one choice of layers or more.")
    for name, values in controls.items():
        if unknown := [choice for choice in values if choice not in bounds]:
            raise ValueError(
                f"{name!r} has a control for {unknown[0]!r}, and there are bounds for {', '.join(bounds)}. Leave it "
                "out, or give the bounds too."
            )
    width = ONE_COLUMN if len(bounds) <= 7 else TWO_COLUMNS
    figure, axes = figure_of(width, 2.5, "layers that change", "top-1 of an oracle (%)")
    middle = np.arange(len(bounds)) - _BESIDE / 2 * len(controls)
    places = dict(zip(bounds, middle + _BAR / 2, strict=True))
    worst, median, best = np.asarray(list(bounds.values()), float).T
    axes.bar(middle, best - worst, _BAR, bottom=worst, color="#d3e5f2", linewidth=0)
    labels: dict[str, Any] = {}
    line: dict[str, Any] = {"linewidth": 1.6, "clip_on": False}  # near 100 %
    for case, values, colour in (("best", best, BLUE), ("median", median, INK), ("worst", worst, RED)):
        drawn = axes.hlines(values, middle - _BAR / 2, middle + _BAR / 2, color=colour, **line)
        labels[case] = drawn
    hollow: dict[str, Any] = {"markerfacecolor": "white", "markersize": 4, "markeredgewidth": 0.8, "clip_on": False}
    for number, ((name, control), marker) in enumerate(zip(controls.items(), itertools.cycle("osD^v"), strict=False)):
        beside = [places[choice] + _BESIDE * (number + 0.6) for choice in control]
        (labels[name],) = axes.plot(beside, list(control.values()), marker, color=INK, **hollow)
    labels["as trained, no oracle"] = axes.axhline(static, color=GREY, linewidth=0.9, linestyle=_DASHES[0], zorder=1.5)
    axes.set_xticks(range(len(bounds)), list(map(shown, bounds)), parse_math=False)
    axes.set_xlim(-0.6, len(bounds) - 0.4)
    axes.set_ylim(0, 100)
    axes.grid(visible=False, axis="x")
    legend(figure, labels)
    return figure


def efficiency(
    each_macs: Sequence[float] | np.ndarray,
    each_top1: Sequence[float] | np.ndarray,
    points: Sequence[tuple[str, float, float, Kind]],
) -> Figure:
    """Draw accuracy against multiply-adds: every permutation as a static network, and what an oracle saves (Figure 6).

    Args:
        each_macs: multiply-adds per image of each permutation, (P,).
        each_top1: top-1 in per cent of each, (P,).
        points: name, multiply-adds per image, top-1 in per cent, and what it is. What costs the least is joined to
            what it stands for, of the same name, which is written once.

    Raises:
        ValueError: there is nothing to draw, or an unknown kind of point.
    """
    if len(each_macs) != len(each_top1) or not len(each_macs):
        raise ValueError(
            f"there are multiply-adds of {len(each_macs)} permutations and accuracies of {len(each_top1)}. Give both "
            "of one permutation or more."
        )
    for name, *_, given in points:
        if given not in _KINDS:
            raise ValueError(f"{name!r} is of the unknown kind {given!r}: it is one of {'; '.join(_KINDS)}.")
    most = max([*each_macs, *(point[1] for point in points)])
    unit, letter = (1e9, "G") if most >= 1e9 else (1e6, "M")
    costs = f"multiply-adds per image ({letter})"
    if any(kind.endswith("cheapest") for *_, kind in points):
        costs += "\ncheapest: each image's cheapest permutation\nthat answers as the dot of its colour does"
    figure, axes = figure_of(ONE_COLUMN, 3.0, costs, "top-1 (%)")
    macs, top1 = np.asarray(each_macs) / unit, np.asarray(each_top1, float)
    labels: dict[str, Any] = {}
    small: dict[str, Any] = {"color": "#9a9a9a", "alpha": 0.6, "markersize": 2.6, "markeredgewidth": 0}
    (labels["each permutation"],) = axes.plot(macs, top1, "o", **small)
    order = np.lexsort((-top1, macs))
    before = np.maximum.accumulate(np.concatenate([[-1.0], top1[order][:-1]]))
    frontier = order[top1[order] > before]
    (labels["their frontier"],) = axes.step(macs[frontier], top1[frontier], where="post", color=GREY, linewidth=0.9)
    placed = [(name, (x / unit, y), kind) for name, x, y, kind in points]
    edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.6, "zorder": 4}
    for kind, (words, colour, marker, size) in _KINDS.items():
        if here := [at for _, at, is_a in placed if is_a == kind]:
            (points_of,) = axes.plot(*zip(*here, strict=True), marker, color=colour, markersize=size, **edge)
            stars = Line2D([], [], color=GREY, marker=marker, markersize=size, linestyle="")
            labels[words] = stars if kind.endswith("cheapest") else points_of  # of either colour
    joined = []
    for name, at, kind in placed:
        for end in [end for other, end, what in placed if name == other and kind == f"{what}, cheapest"]:
            axes.plot(*zip(at, end, strict=True), color=_KINDS[kind][1], linewidth=0.8, alpha=0.7, zorder=3)
            joined.append((at, end))
    axes.set_xscale("log")
    axes.set_ylim(0, 100)
    axes.margins(x=0.08)
    low, high = axes.get_xlim()
    # Over more than two powers of ten the labels of 1, 2 and 5 would touch.
    several = LogLocator(subs=(1, 2, 5) if high < 100 * low else (1, 3))
    _ticks(axes, several if high > 8 * low else MaxNLocator(4))
    legend(figure, labels)
    stood_for = {end for _, end in joined}
    named = [(name, at) for name, at, _ in placed if at not in stood_for]
    _name(axes, named, joined, [at for _, at, _ in placed])
    return figure


def _name(axes: Axes, named: Sequence[tuple[str, _At]], lines: Sequence[tuple[_At, _At]], marks: Sequence[_At]) -> None:
    """Write each name on that side of its point where the least is in the way: another name, a mark, a line."""
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]  # for the layout settles where things are
    reach = 4 * figure.dpi / 72
    pixels = axes.transData.transform
    taken = [(Bbox([at - reach, at + reach]), 2) for at in pixels(marks)] + [(Bbox(pixels(line)), 1) for line in lines]
    for name, at in named:
        text = axes.annotate(
            shown(name),
            at,
            (0, 0),
            textcoords="offset points",
            fontsize=FONT,
            color=INK,
            parse_math=False,
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
            zorder=5,
        )
        text.set_in_layout(False)
        in_the_way = {}
        for across, up in _SIDES:
            box = _beside(text, across, up)
            outside = box.x0 < axes.bbox.x0 or box.x1 > axes.bbox.x1 or box.y1 > axes.bbox.y1 or box.y0 < axes.bbox.y0
            weights = [weight for other, weight in taken if box.overlaps(other)]
            in_the_way[across, up] = 5 * outside + sum(weights)
        taken.append((_beside(text, *min(in_the_way, key=in_the_way.__getitem__)), 4))


def _beside(text: Annotation, across: int, up: int) -> Bbox:
    """Put the name of a point right (1) or left of it, above (1) or below; return where it then is."""
    text.set(ha=("center", "left", "right")[across], va=("center", "bottom", "top")[up])
    text.xyann = (across * 6, up * 5)
    return text.get_window_extent()


def _ticks(axes: Axes, locator: Locator) -> None:
    """Write the numbers of a logarithmic axis as they are said, where ``locator`` puts them."""
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _plain(value: float, _: int | None = None) -> str:
    """Return a number without an exponent."""
    return f"{value:g}"
