"""A small curve beneath a map: the confidence as patches are covered, by the map and at random."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from plainvision.figures.style import BLUE, GREY, PALE

if TYPE_CHECKING:
    from plainvision.explain.deletion import Deletion

_COVERS = {"mean": "the image's mean colour", "blur": "the blurred image"}


def draw_deletion(axes: Axes, found: "Deletion") -> None:
    """Draw both curves from no patch covered to all, and from no confidence to the largest."""
    random = np.array(found.at_random)
    mean, spread = random.mean(0), random.std(0, ddof=min(1, len(random) - 1))
    top = max(random.max(), max(found.by_map), 1e-12)
    axes.fill_between(found.shares, mean - spread, mean + spread, color=PALE, linewidth=0)
    axes.plot(found.shares, mean, color=GREY, linewidth=0.8)
    axes.plot(found.shares, found.by_map, color=BLUE, linewidth=1.2)
    axes.set(xlim=(0, 1), ylim=(0, 1.08 * top), xticks=[], yticks=[])
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=GREY, linewidth=0.6)


def words_of(found: "Deletion") -> list[str]:
    """Return the lines beneath the curve."""
    return [f"deletion {found.score:.2f},", f"random {found.random_mean:.2f} ± {found.random_spread:.2f}"]


def legend_of(found: "Deletion") -> str:
    """Return what the curves are, in a sentence."""
    return (
        "Curves: the confidence in the first class beneath, from none to all patches covered with "
        f"{_COVERS[found.cover]}; blue: those of largest weight first; grey: at random, mean ± standard deviation of "
        f"{len(found.at_random)} orders. Deletion is the area beneath: the lower it is, the more the map tells what "
        "the answer rests on."
    )
