"""The figure of a sweep: a line where one field is swept, a heat map where two are."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plainvision.figures.style import BLUE, FONT, GREY, INK, PALE, RED, TWO_COLUMNS, figure_of, folded, legend, plain
from plainvision.showing import shown

_SCORE = "best top-1 (%)"
# From so many times the least value on, values are placed by their logarithm.
_WIDE = 8


def draw_sweep(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> Figure | None:
    """Draw the best top-1 in per cent against the fields that have several values; None for more than two of these.

    For one it is a line with a bar of a standard deviation between seeds, for two a heat map; where two fields are not
    combined, a line for each through the points that share the other's commonest value. Published scores are hollow,
    in a heat map in brackets.

    Args:
        rows: of `run_sweep`.
        fields: the swept fields, which are keys of the rows.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("there is nothing to draw. Give the rows of a sweep.")
    varied = [name for name in fields if len(_values(rows, name)) > 1] or list(fields[:1])
    if len(varied) > 2:
        return None
    if len(varied) == 2 and len(rows) == len(_values(rows, varied[0])) * len(_values(rows, varied[1])):
        return _heat_map(rows, varied[0], varied[1])
    figure = Figure(figsize=(TWO_COLUMNS * len(varied) / 2, 2.4), layout="constrained")
    handles: dict[str, Any] = {}
    panels = figure.subplots(1, len(varied), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, varied, strict=True):
        handles |= _line(axes, [row for row in rows if _shares(rows, row, varied, name)], name)
    panels[0].set_ylabel(_SCORE, fontsize=FONT)
    legend(figure, handles)
    return figure


def _shares(rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any], varied: list[str], but: str) -> bool:
    """Return whether a row has the commonest value of each varied field except one."""
    others = [name for name in varied if name != but]
    return all(row[name] == Counter(one[name] for one in rows).most_common(1)[0][0] for name in others)


def _line(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    values = _values(rows, name)
    numeric = all(type(value) in (int, float) for value in values)
    places = {value: value if numeric else place for place, value in enumerate(values)}
    rows = sorted(rows, key=lambda row: places[row[name]])
    handles: dict[str, Any] = {}
    plain(axes, shown(name))
    if numeric and min(values) > 0 and max(values) >= _WIDE * min(values):
        axes.set_xscale("log")
    texts = _spaced([(place, _text(value)) for value, place in places.items()], axes.get_xscale() == "log", axes)
    axes.set_xticks(list(places.values()), texts)
    axes.set_xticks([], minor=True)
    link = "-" if numeric else "none"
    known = [row for row in rows if isinstance(row["published"], int | float)]
    if known:
        at, scores = [places[row[name]] for row in known], [row["published"] for row in known]
        style: dict[str, Any] = {
            "color": GREY,
            "marker": "o",
            "markerfacecolor": "white",
            "markersize": 4.5,
            "linewidth": 1,
        }
        (handles["published, ImageNet-1k"],) = axes.plot(
            at, scores, linestyle="--" if numeric else "none", zorder=2, **style
        )
    ended = [row for row in rows if row["n"]]
    if ended:
        at = [places[row[name]] for row in ended]
        for place, row in zip(at, ended, strict=True):
            axes.plot([place] * row["n"], row["top1"], ".", color=BLUE, markersize=3, alpha=0.5, zorder=3)
        spread = [row["top1_std"] or 0.0 for row in ended]
        means = [row["top1_mean"] for row in ended]
        bars: dict[str, Any] = {
            "color": BLUE,
            "marker": "o",
            "markersize": 4.5,
            "capsize": 2.5,
            "linewidth": 1.3,
            "zorder": 4,
        }
        several = any(row["n"] > 1 for row in ended)
        drawn = axes.errorbar(at, means, yerr=spread if several else None, linestyle=link, **bars)
        handles["mean ± standard deviation" if several else "this sweep"] = drawn
    if not known and not ended:
        axes.set_yticks([])  # there is no score
    for row in rows:
        if row["diverged_epochs"]:
            said = ", ".join(map(str, row["diverged_epochs"]))
            where: dict[str, Any] = {
                "xycoords": ("data", "axes fraction"),
                "textcoords": "offset points",
                "ha": "center",
            }
            axes.annotate(
                f"@{said}", (places[row[name]], 0.0), (0, 9), color=RED, fontsize=FONT - 1, va="bottom", **where
            )
            axes.plot(
                places[row[name]], 0.04, "x", color=RED, transform=axes.get_xaxis_transform(), markersize=5, zorder=5
            )
            handles["diverged @ epoch"] = Line2D([], [], color=RED, marker="x", linestyle="none", markersize=5)
    axes.margins(x=0.08 if numeric else 0.15, y=0.15)
    return handles


def _heat_map(rows: Sequence[Mapping[str, Any]], down: str, across: str) -> Figure:
    lines, columns = _values(rows, down), _values(rows, across)
    cells = {(row[down], row[across]): row for row in rows}
    several = any(row["top1_std"] is not None for row in rows)
    known = any(row["published"] is not None for row in rows)
    tall = 0.2 + 0.14 * (1 + several + known)
    left = 0.075 * max(len(_text(value)) for value in lines)
    figure, axes = figure_of(
        left + 1.3 + 0.72 * max(len(columns), 3), 0.7 + tall * len(lines), shown(across), shown(down)
    )
    means = [row["top1_mean"] for row in rows if row["top1_mean"] is not None]
    low, high = (min(means), max(means)) if means else (0.0, 1.0)
    colours = colormaps["viridis"]
    for y, line in enumerate(lines):
        for x, column in enumerate(columns):
            row = cells[line, column]
            mean = row["top1_mean"]
            colour = PALE if mean is None else colours((mean - low) / (high - low) if high > low else 0.5)
            axes.fill([x - 0.5, x + 0.5, x + 0.5, x - 0.5], [y - 0.5, y - 0.5, y + 0.5, y + 0.5], color=colour)
            dark = mean is not None and (mean - low) < 0.6 * (high - low)
            axes.text(
                x, y, _cell(row), color="white" if dark else RED if mean is None else INK,
                fontsize=FONT - 1, ha="center", va="center", parse_math=False,
            )  # fmt: skip
    axes.set_xticks(range(len(columns)), [_text(value) for value in columns])
    axes.set_yticks(range(len(lines)), [_text(value) for value in lines])
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(lines) - 0.5, -0.5))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    said = [_SCORE, *(["± standard deviation"] if several else []), *(["(published, ImageNet-1k)"] if known else [])]
    figure.suptitle("\n".join(folded(", ".join(said), figure.get_figwidth() - 0.1)), fontsize=FONT)
    return figure


def _cell(row: Mapping[str, Any]) -> str:
    said = [] if row["top1_mean"] is None else [f"{row['top1_mean']:.2f}"]
    if row["top1_std"] is not None:
        said.append(f"± {row['top1_std']:.2f}")
    if row["diverged_epochs"]:
        said.append(f"diverged@{','.join(map(str, row['diverged_epochs']))}")
    if row["published"] is not None:
        published = row["published"]
        said.append(f"({published:.2f})" if isinstance(published, float) else f"({shown(str(published))})")
    return "\n".join(said)


def _spaced(ticks: Sequence[tuple[float, str]], logarithmic: bool, axes: Axes) -> list[str]:
    """Return the texts of the ticks, empty where the one before leaves no room."""
    places = [math.log(place) if logarithmic else place for place, _ in ticks]
    span, texts, right = max(places) - min(places) or 1, [], -math.inf
    width = axes.get_window_extent().width / axes.figure.dpi * 0.85
    for place, (_, text) in zip(places, ticks, strict=True):
        half = 0.033 * len(text)  # inches of half the text
        at = (place - min(places)) / span * width
        fits = at - half > right + 0.04
        texts.append(text if fits else "")
        right = at + half if fits else right
    return texts


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """Return the different values of a field, numbers in their order, others in that of the rows."""
    values = list(dict.fromkeys(row[name] for row in rows))
    return sorted(values) if all(type(value) in (int, float) for value in values) else values


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else shown(str(value))
