"""Which permutations and options the images of a network prefer: Figures 1, 5 and 7 of arXiv:2103.09891.

Figure 1 is `preferred_permutations`, 5 and 7 are `preference_by_scale`. An image prefers what predicts its true class
with the highest confidence: that takes an oracle, which is told the class, and each figure says so.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter

from plainvision.figures.style import FONT, GREY, INK, PALE, TWO_COLUMNS, inches, legend, plain
from plainvision.layers.dynamic_conv import ATTRIBUTES, Option, Permutation, describe
from plainvision.showing import shown

Series = Mapping[float, Mapping[str, Mapping[Any, float]]]
"""Share of images, from 0 to 1, that prefer an option: by scale or context, by site, by the option or its words."""

# Even to the eye, also to one that sees fewer colours; beyond, its yellow is too pale for lines on white.
_RAMP = matplotlib.colormaps["viridis"]
_RAMP_END = 0.87
_LINE: dict[str, Any] = {"linewidth": 1.1, "markersize": 2.6}
_FRACTIONS = {0.5: "½", 0.25: "¼", 0.125: "⅛"}
# Of the shares' height: what stands between two rows of options.
_GAP = 0.3
_NUMBER = re.compile(r"½|[0-9.]+")
# Inches that the sites' names take.
_BELOW = 0.24
# Shares that a legend may show the width of.
_SCALES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
# How opaque lines are in turn, so that one is told from the next.
_SHADES = (0.85, 0.6, 0.72)
# How often lines are put in order by where they come from and go to, so that fewer cross.
_SWEEPS = 8
# Of the way between sites: how far lines run straight at a site.
_STRAIGHT = 0.04


def preferred_permutations(
    sites: Sequence[str],
    permutations: Sequence[Permutation],
    shares: Sequence[float] | np.ndarray,
    default: Permutation,
) -> Figure:
    """Draw each permutation as a line through its options, as wide as the share of images that prefer it (Figure 1).

    Lines that share an option lie side by side there, so that the height of the bundle is the option's share. A line's
    colour is its option at the first site that has several. What no image prefers is left out.

    Args:
        sites: names, from the input to the output.
        permutations: P permutations, an option per site.
        shares: of images that prefer each, (P,), from 0 to 1.
        default: that of the trained network, drawn black.

    Raises:
        ValueError: there is nothing to draw, or permutations, shares and sites do not fit each other.
    """
    sites, shares = [shown(site) for site in sites], np.asarray(shares, float)
    if len(shares) != len(permutations) or not 0 < shares.sum() < 1.001:
        raise ValueError(
            f"there are {len(permutations)} permutations and {len(shares)} shares of sum {shares.sum():g}. Give the "
            "share of images, from 0 to 1, that prefer each permutation."
        )
    if wrong := [one for one in (*permutations, default) if len(one) != len(sites)]:
        raise ValueError(f"a permutation has {len(wrong[0])} options for {len(sites)} sites. Give one for each.")
    options: list[Option] = _ordered(option for permutation in permutations for option in permutation)
    drawn = [i for i in np.argsort(shares, kind="stable") if shares[i] > 0]
    drawn.sort(key=lambda i: permutations[i] == default)  # on top
    rows = np.array([[options.index(option) for option in permutations[i]] for i in drawn])
    widths = shares[drawn]
    heights = np.max([np.bincount(site, widths, len(options)) for site in rows.T], axis=0)
    gap = _GAP * heights.sum() / len(options)
    middles = heights.cumsum() - heights / 2 + gap * np.arange(len(options))
    total = heights.sum() + gap * (len(options) - 1)

    # Inches, not a layout that settles later: the lines' widths in points must fit the axis.
    height = max(2.7, 0.2 * len(options))
    points = 72 * height / total
    ramp = _colours(len(options))
    tells = next((site for site, its in enumerate(rows.T) if len(set(its)) > 1), 0)
    told_by = rows[:, tells]
    colours = [
        to_rgba(INK) if permutations[i] == default else to_rgba(ramp[row], shade)
        for i, row, shade in zip(drawn, told_by, itertools.cycle(_SHADES), strict=False)
    ]
    figure = Figure(figsize=(TWO_COLUMNS, _BELOW + height + 0.2))
    first = int(np.argmax(widths))
    most = permutations[drawn[first]]
    keys: dict[str, Any] = {}

    def key(words: str, colour: Any, share: float) -> None:
        keys[words] = Line2D([], [], color=colour, linewidth=min(6, share * points), solid_capstyle="butt")

    if default in permutations:
        share = shares[list(permutations).index(default)]
        also = " and most preferred" if most == default else ""
        key(f"as trained{also}: {describe(default, sites)} ({100 * share:.2g}%)", INK, share)
    if most != default:
        words = f"most preferred: {describe(most, sites)} ({100 * widths[first]:.2g}%)"
        key(words, colours[first], widths[first])
    if len(set(told_by)) > 1:
        shades = [Line2D([], [], color=ramp[row], linewidth=5, solid_capstyle="butt") for row in sorted(set(told_by))]
        low, high = (str(options[row]) for row in (min(told_by), max(told_by)))
        keys[f"colour: the option at {sites[tells]}, {low} to {high}"] = tuple(shades)
    scale = max([share for share in _SCALES if share * points <= 4], default=_SCALES[0])
    key(f"preferred by an oracle for {100 * scale:g}% of the images", GREY, scale)
    legend(figure, keys)
    left = max(0.42 + max(inches(str(option)) for option in options), inches(sites[0]) / 2)
    width = TWO_COLUMNS - left - max(0.12, inches(sites[-1]) / 2)
    whole = figure.get_figheight()
    axes = figure.add_axes((left / TWO_COLUMNS, _BELOW / whole, width / TWO_COLUMNS, height / whole))
    axes.set(xlim=(-_STRAIGHT, len(sites) - 1 + _STRAIGHT), ylim=(0, total))
    axes.spines[:].set_visible(False)
    axes.grid(axis="x", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    paths = [_path(line) for line in _side_by_side(rows, widths, middles)]
    look: dict[str, Any] = {"facecolors": "none", "capstyle": "butt", "clip_on": False}
    axes.add_collection(PathCollection(paths, linewidths=widths * points, edgecolors=colours, **look), autolim=False)
    axes.set_xticks(range(len(sites)), sites, fontsize=FONT, parse_math=False)
    axes.set_yticks(middles, [str(option) for option in options], fontsize=FONT)
    axes.tick_params(length=0)
    changed = [name for name in ATTRIBUTES if any(getattr(option, name) is not None for option in options)]
    axes.set_ylabel(", ".join(changed), fontsize=FONT)
    return figure


def preference_by_scale(
    sites: Sequence[str], rows: Mapping[str, Series], *, axis: Literal["scale", "context"] = "scale"
) -> Figure:
    """Draw the share of images that prefer each option against their scale (Figure 5) or context (Figure 7).

    Args:
        sites: names, from the input to the output: a panel each.
        rows: a row of panels each, by the name of what was changed.
        axis: what the numbers are: the images' size over that which the network was made for, or the side of the
            centre that was cropped, in pixels.

    Raises:
        ValueError: there is nothing to draw, or a site is missing.
    """
    if not sites or not rows or not all(rows.values()):
        raise ValueError(
            f"there is nothing to draw in {len(sites)} sites and {len(rows)} rows. Give one site or more, and of each "
            f"row the preferences at one {axis} or more."
        )
    every = [(f"{name} at {axis} {value:g}", at) for name, series in rows.items() for value, at in series.items()]
    for what, at in every:
        if missing := [site for site in sites if site not in at]:
            raise ValueError(
                f"{what} has no preferences of site {missing[0]!r}: there is {', '.join(at) or 'none'}. Give all, or "
                "draw fewer sites."
            )
    figure = Figure(figsize=(TWO_COLUMNS, 0.55 + 1.35 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(sites), sharex=True, sharey="row", squeeze=False)
    for line, (name, series) in zip(grid, rows.items(), strict=True):
        options = _ordered(option for at in series.values() for site in sites for option in at[site])
        colours = _colours(len(options))
        for panel, site in zip(line, sites, strict=True):
            plain(panel)
            for option, colour in zip(options, colours, strict=True):
                points = [(x, 100 * at[site][option]) for x, at in sorted(series.items()) if option in at[site]]
                if points:
                    panel.plot(*zip(*points, strict=True), "o-", color=colour, **_LINE)
        beside = line[-1].legend(
            [Line2D([], [], marker="o", color=colour, **_LINE) for colour in reversed(colours)],
            [str(option) for option in reversed(options)],
            title=shown(name),
            loc="center left",
            bbox_to_anchor=(1.02, 0.5),
            frameon=False,
            fontsize=FONT,
            title_fontsize=FONT,
            handlelength=1.4,
            labelspacing=0.3,
            alignment="left",
        )
        beside.get_title().set_parse_math(False)
        line[0].set_ylim(bottom=0)
    for panel, site in zip(grid[0], sites, strict=True):
        panel.set_title(shown(site), fontsize=FONT, parse_math=False)
    if axis == "scale":
        scales = [value for series in rows.values() for value in series]
        ticks = [2.0**power for power in range(-6, 7) if min(scales) <= 2.0**power <= max(scales)] or [min(scales)]
        for panel in grid.flat:
            panel.set_xscale("log", base=2)
            panel.set_xticks(ticks)
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _FRACTIONS.get(value, f"{value:g}")))
            panel.axvline(1, color=GREY, linewidth=0.8, linestyle=(0, (1, 1.8)), zorder=1)
    below = "scale of the images (dotted: that of training)" if axis == "scale" else "side of the centre crop (pixels)"
    figure.supxlabel(below, fontsize=FONT)
    figure.supylabel("preferred by an oracle\n(% of the images)", fontsize=FONT)
    return figure


def _ordered(options: Iterable[Any]) -> list[Any]:
    """Return each option once, by the numbers in its words."""
    return sorted(
        dict.fromkeys(options),
        key=lambda option: [0.5 if number == "½" else float(number) for number in _NUMBER.findall(str(option))],
    )


def _colours(number: int) -> list[str]:
    """Return colours of an order, dark to light."""
    return [matplotlib.colors.to_hex(_RAMP(value)) for value in np.linspace(0, _RAMP_END, number)]


def _side_by_side(rows: np.ndarray, widths: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Return the height of each line at each site, (P, sites), where none overlaps another.

    ``rows`` are those of each line at each site, (P, sites), and ``middles`` the heights of their middles.
    """
    heights = middles[rows]
    for _ in range(_SWEEPS):
        for site in range(rows.shape[1]):
            beside = heights[:, [other for other in (site - 1, site + 1) if 0 <= other < rows.shape[1]] or [site]]
            for row in np.unique(rows[:, site]):
                here = np.flatnonzero(rows[:, site] == row)
                here = here[np.argsort(beside[here].mean(axis=1), kind="stable")]
                ends = widths[here].cumsum()
                heights[here, site] = middles[row] - ends[-1] / 2 + ends - widths[here] / 2
    return heights


def _path(heights: np.ndarray) -> Path:
    """Return a curve through one height per site, level at each."""
    points, codes = [(-_STRAIGHT, heights[0])], [Path.MOVETO]
    for site, (here, there) in enumerate(itertools.pairwise(heights)):
        points += [(site + _STRAIGHT, here), (site + 0.5, here), (site + 0.5, there), (site + 1 - _STRAIGHT, there)]
        codes += [Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    return Path([*points, (len(heights) - 1 + _STRAIGHT, heights[-1])], [*codes, Path.LINETO])
