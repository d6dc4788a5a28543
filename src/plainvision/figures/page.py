"""An HTML page of text, tables, charts and pictures in a single file, for light and dark screens of any width."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from plainvision.files import write_text
from plainvision.showing import shown, shown_lines

# A CSS pixel is the 96th of an inch; charts have two of their own for each, for fine screens.
_CSS_DPI, _CHART_DPI = 96, 192
# Shades of a matrix.
_SHADES = 8

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2733; --soft: #4d5b6b; --line: #dde2e9; --wash: #f2f4f7;
  --blue: 0 114 178; --red: 213 94 0; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181d; --ink: #dfe5ec; --soft: #9dabba; --line: #2f3842; --wash: #1e252d;
    --blue: 86 180 233; --red: 240 136 62; }
  img.chart { filter: invert(.9) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62.5rem;
  margin: 3rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.9rem; line-height: 1.25; margin-bottom: .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin-top: 2.75rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
p.lead { font-size: 1.1rem; color: var(--soft); margin-top: 0; }
li, p, figcaption { overflow-wrap: anywhere; }
.charts { display: flex; flex-wrap: wrap; gap: .5rem 1rem; margin: 1rem 0; }
img { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll img.wide { min-width: 32rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .5rem; margin: 1.5rem 0; }
dl div { background: var(--wash); padding: .6rem .8rem; border-radius: 6px; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
dd small { display: block; color: var(--soft); font-size: .8rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; font-size: .92rem; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
.scroll td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 6rem; }
.words th, .words td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.folds th, .folds td { white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.folds th:not(:first-child), .folds td:not(:first-child) { min-width: 4.5rem; }
.folds { overflow-x: auto; max-width: 100%; }
.folds th:first-child, .folds td:first-child { min-width: 7rem; }
table.matrix th, table.matrix td { padding: .3rem .45rem; text-align: center; border: 1px solid var(--paper); }
table.matrix th { font-weight: 400; max-width: 14rem; overflow: hidden; text-overflow: ellipsis; }
table.matrix tr > th:first-child { text-align: right; padding-left: 0; }
table.matrix tr:first-child th span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 9rem;
  overflow: hidden; text-overflow: ellipsis; }
table.matrix td { background: var(--wash); min-width: 2.1rem; text-align: center; }
SHADES
.strip { display: flex; flex-wrap: wrap; gap: .4rem; margin: .3rem 0 1rem; }
.strip img { height: 72px; width: auto; max-width: 160px; object-fit: contain; background: var(--wash); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1.2rem 1rem; margin: 1rem 0; }
.cards figure { margin: 0; font-size: .85rem; line-height: 1.4; }
.cards img, .cards .blank { width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--wash); display: block;
  border-radius: 4px; margin-bottom: .35rem; }
.cards img.small { image-rendering: pixelated; }
.cards small { color: var(--soft); }
p.label { margin: .8rem 0 0; color: var(--soft); font-size: .92rem; overflow-wrap: anywhere; }
code { background: var(--wash); padding: .1rem .3rem; border-radius: 3px; font-size: .92em; }
pre { background: var(--wash); padding: .8rem 1rem; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .9rem; }
footer { margin-top: 3rem; color: var(--soft); font-size: .9rem; }
"""


class Card(NamedTuple):
    """A picture with lines below it."""

    picture: bytes | None
    """PNG or JPEG; None leaves its place empty."""
    lines: tuple[str, ...]
    """The first ones in ink, the last one small."""


class Page:
    """A page that grows from top to bottom; text is escaped, `code` in backticks is set as code.

    Args:
        title: the heading.
        lead: one sentence under it.
    """

    def __init__(self, title: str, lead: str) -> None:
        self.title = title
        self._parts = [f"<h1>{_text(title)}</h1>", f'<p class="lead">{_text(lead)}</p>']

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{_text(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{_text(text)}</p>")

    def command(self, text: str) -> None:
        """Add what to type, or what a program said, in its lines."""
        self._parts.append(f"<pre>{html.escape(shown_lines(text))}</pre>")

    def facts(self, facts: Mapping[str, str]) -> None:
        """Add figures that are to be seen first, by their names; what stands in a second line is small."""
        cells = []
        for name, value in facts.items():
            first, _, rest = value.partition("\n")
            small = f" <small>{_text(rest)}</small>" if rest else ""
            cells.append(f"<div><dt>{_text(name)}</dt><dd>{_text(first)}{small}</dd></div>")
        self._parts.append(f"<dl>{''.join(cells)}</dl>")

    def table(self, rows: Sequence[Mapping[str, str]], *, folds: bool = False, words: bool = False) -> None:
        """Add a table; the keys of the first row are its head. Where it is too wide it scrolls, or ``folds``.

        Its cells are numbers, to the right of theirs, or ``words``.
        """
        head = "".join(f"<th>{_text(key)}</th>" for key in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{_text(row[key])}</td>" for key in rows[0]) + "</tr>" for row in rows)
        kind = "words" if words else "folds" if folds else "scroll"
        self._parts.append(f'<div class="{kind}"><table><tr>{head}</tr>{body}</table></div>')

    def matrix(self, rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
        """Add counts, shaded by their share of the row: those on the diagonal blue, others red; a zero stays empty."""
        head = "".join(f"<th><span>{_name(name)}</span></th>" for name in columns)
        body = []
        for place, (name, row) in enumerate(zip(rows, counts, strict=True)):
            cells = "".join(_cell(count, sum(row), place == column) for column, count in enumerate(row))
            body.append(f"<tr><th>{_name(name)}</th>{cells}</tr>")
        table = f'<table class="matrix"><tr><th></th>{head}</tr>{"".join(body)}</table>'
        self._parts.append(f'<div class="scroll">{table}</div>')

    def names(self, items: Sequence[str]) -> None:
        """Add a list of names, which may be long."""
        self._parts.append("<ul>" + "".join(f"<li>{_name(item)}</li>" for item in items) + "</ul>")

    def strip(self, label: str, pictures: Sequence[bytes]) -> None:
        """Add a row of small pictures, PNG or JPEG, below its label."""
        told = _name(label)
        images = "".join(f'<img alt="{told}" src="{_data(picture)}">' for picture in pictures)
        self._parts.append(f'<p class="label">{told}</p><div class="strip">{images}</div>')

    def cards(self, cards: Iterable[Card]) -> None:
        """Add pictures side by side, each with its lines."""
        told = []
        for picture, lines in cards:
            *first, last = map(_name, lines)
            small = ' class="small"' if picture is not None and picture.startswith(_PNG) else ""
            image = (
                '<div class="blank"></div>' if picture is None else f'<img{small} alt="{last}" src="{_data(picture)}">'
            )
            words = "".join(f"{line}<br>" for line in first)
            told.append(f"<figure>{image}<figcaption>{words}<small>{last}</small></figcaption></figure>")
        self._parts.append(f'<div class="cards">{"".join(told)}</div>')

    def figure(self, figure: Figure, description: str) -> None:
        """Add a chart; ``description`` is read to who cannot see it."""
        self.figures({description: figure})

    def figures(self, figures: Mapping[str, Figure]) -> None:
        """Add charts by their descriptions, side by side where there is room."""
        charts = "".join(_chart(figure, description) for description, figure in figures.items())
        self._parts.append(f'<div class="charts">{charts}</div>')

    def footer(self, text: str) -> None:
        """Add the small print."""
        self._parts.append(f"<footer>{_text(text)}</footer>")

    def write(self, path: str | Path) -> None:
        """Write the page to a file."""
        body = "\n".join(self._parts)
        write_text(
            path,
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_name(self.title)}</title>\n<style>{_STYLE.replace('SHADES', _shades())}</style>\n</head>\n"
            f"<body>\n{body}\n</body>\n</html>\n",
        )


_PNG = b"\x89PNG"


def _name(text: str) -> str:
    return html.escape(shown(text))


def _text(text: str) -> str:
    parts = _name(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _data(picture: bytes) -> str:
    kind = "png" if picture.startswith(_PNG) else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _chart(figure: Figure, description: str) -> str:
    drawn = io.BytesIO()
    # Nothing behind it, so that it takes the page's colour; on a dark page the browser inverts its ink.
    figure.savefig(drawn, format="png", dpi=_CHART_DPI, transparent=True)
    width = round(figure.get_figwidth() * _CSS_DPI)
    wide = " wide" if width > 512 else ""
    image = f'<img class="chart{wide}" width="{width}" alt="{_name(description)}" src="{_data(drawn.getvalue())}">'
    return f'<div class="scroll">{image}</div>'


def _cell(count: int, whole: int, is_right: bool) -> str:
    if not count:
        return "<td></td>"
    shade = -(-_SHADES * count // whole)
    return f'<td class="{"r" if is_right else "w"}{shade}">{count:,}</td>'


def _shades() -> str:
    kinds = {"r": "blue", "w": "red"}
    return "\n".join(
        f"table.matrix td.{kind}{shade} {{ background: rgb(var(--{colour}) / {0.1 + 0.5 * shade / _SHADES:.2f}); }}"
        for kind, colour in kinds.items()
        for shade in range(1, _SHADES + 1)
    )
