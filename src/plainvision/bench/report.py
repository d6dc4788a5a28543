"""An HTML page of text, tables and figures in a single file."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from plainvision.files import write_text
from plainvision.showing import shown

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1d2733; max-width: 60rem; margin: 3rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.9rem; margin-bottom: .25rem; }
h2 { font-size: 1.25rem; margin-top: 2.75rem; border-bottom: 1px solid #d8dee6; padding-bottom: .3rem; }
p.lead { font-size: 1.1rem; color: #465464; margin-top: 0; }
img { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
table { font-size: .92rem; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid #e6eaef; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.folds th, .folds td { white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.folds th:not(:first-child), .folds td:not(:first-child) { min-width: 4.5rem; }
th { color: #465464; font-weight: 600; }
.strip { display: flex; flex-wrap: wrap; gap: .4rem; margin: .3rem 0 1rem; }
.strip img { height: 72px; width: auto; max-width: 160px; object-fit: contain; background: #f2f4f7; }
p.label { margin: .8rem 0 0; color: #465464; font-size: .92rem; overflow-wrap: anywhere; }
li, p { overflow-wrap: anywhere; }
code { background: #f2f4f7; padding: .1rem .3rem; border-radius: 3px; font-size: .92em; }
footer { margin-top: 3rem; color: #6b7785; font-size: .9rem; }
"""


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

    def table(self, rows: Sequence[Mapping[str, str]], *, folds: bool = False) -> None:
        """Add a table; the keys of the first row are its head. Where it is too wide it scrolls, or ``folds``."""
        head = "".join(f"<th>{_text(key)}</th>" for key in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{_text(row[key])}</td>" for key in rows[0]) + "</tr>" for row in rows)
        kind = "folds" if folds else "scroll"
        self._parts.append(f'<div class="{kind}"><table><tr>{head}</tr>{body}</table></div>')

    def names(self, items: Sequence[str]) -> None:
        """Add a list of names, which may be long."""
        self._parts.append("<ul>" + "".join(f"<li>{html.escape(shown(item))}</li>" for item in items) + "</ul>")

    def strip(self, label: str, pictures: Sequence[bytes]) -> None:
        """Add a row of small pictures, PNG or JPEG, below its label."""
        told = html.escape(shown(label))
        self._parts.append(f'<p class="label">{told}</p><div class="strip">')
        for picture in pictures:
            kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
            data = base64.b64encode(picture).decode()
            self._parts.append(f'<img alt="{told}" src="data:image/{kind};base64,{data}">')
        self._parts.append("</div>")

    def figure(self, figure: Figure, description: str) -> None:
        """Add a picture; ``description`` is read to who cannot see it."""
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=160, bbox_inches="tight")
        data = base64.b64encode(picture.getvalue()).decode()
        self._parts.append(f'<img alt="{html.escape(shown(description))}" src="data:image/png;base64,{data}">')

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
            f"<title>{html.escape(shown(self.title))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n",
        )


def _text(text: str) -> str:
    parts = html.escape(shown(text)).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
