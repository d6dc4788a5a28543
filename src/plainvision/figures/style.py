"""The look of every figure: sizes, colours, panels, legends, and the files they are written to."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend_handler import HandlerTuple
from matplotlib.textpath import text_to_path

from plainvision.files import write_whole
from plainvision.showing import shown

FORMATS = (".png", ".pdf", ".svg")
# Inches, and points.
ONE_COLUMN, TWO_COLUMNS = 3.3, 6.8
FONT = 8.0
# Inches of a legend's line that its handle takes.
_HANDLE = 0.35
INK, GREY, PALE = "#1a1a1a", "#767676", "#e4e4e4"
# Okabe and Ito's colours, which readers with few colours tell apart too, without their yellow: too pale on white.
COLOURS = (BLUE, RED, GREEN, PINK, SKY, AMBER) = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


def figure_of(width: float, height: float, x: str, y: str) -> tuple[Figure, Axes]:
    """Return a figure of one panel, its sides in inches and its axes labelled."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, plain(figure.subplots(), x, y)


def plain(axes: Axes, x: str = "", y: str = "") -> Axes:
    """Give a panel two spines, a pale grid, small letters, and labels of its axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=FONT)
    axes.set_xlabel(x, fontsize=FONT)
    axes.set_ylabel(y, fontsize=FONT)
    return axes


def legend(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Put a legend above the panels, in as many columns as fit, and make the figure higher by it."""
    for columns in range(len(handles), 0, -1):
        made = figure.legend(
            list(handles.values()),
            ["\n".join(folded(words, figure.get_figwidth() - _HANDLE)) for words in handles],
            loc="outside upper center",
            ncols=columns,
            frameon=False,
            fontsize=FONT,
            borderpad=0,
            borderaxespad=0.4,
            columnspacing=1.2,
            handlelength=1.6,
            handletextpad=0.5,
            labelspacing=0.3,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},  # several colours side by side
        )
        for text in made.get_texts():
            text.set_parse_math(False)  # a name may hold dollars
        if columns == 1 or made.get_window_extent().width <= figure.bbox.width:
            break
        made.remove()
    figure.set_figheight(figure.get_figheight() + made.get_window_extent().height / figure.dpi)


def folded(text: str, width: float) -> list[str]:
    """Return a stranger's text in lines of ``width`` inches, broken behind what separates words in names and paths."""
    lines = [""]
    for word in re.findall(r"[^\s_/.,-]+[\s_/.,-]*|[\s_/.,-]+", shown(text)):
        if lines[-1] and inches(lines[-1] + word) > width:
            lines.append("")
        for letter in word if inches(word) > width else [word]:
            if lines[-1] and inches(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return [line.strip() for line in lines]


def inches(text: str) -> float:
    """Return how wide a line of text is."""
    points, _, _ = text_to_path.get_text_width_height_descent(text.rstrip(), FontProperties(size=FONT), ismath=False)
    return points / 72


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure to a .png, .pdf or .svg file, on white.

    Raises:
        ValueError: the file has another suffix.
        OSError: it cannot be written.
    """
    check_format(path)
    # Type 42 keeps a PDF's letters as letters: they can be searched, and publishers ask for it.
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        form = Path(path).suffix[1:].lower()
        write_whole(path, lambda file: figure.savefig(file, dpi=300, facecolor="white", format=form))


def check_format(path: str | Path) -> None:
    """Check the suffix of a file that `save` is to write.

    Raises:
        ValueError: it is none of `FORMATS`.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"cannot write a figure to {path}: its suffix must be one of {', '.join(FORMATS)}.")
