"""Tables of several verbs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

ORACLE = "an oracle is told the true class: its accuracy is a bound, which nobody reaches without being told"


def table(*heads: str, words: int = 1, caption: str | None = None) -> "Table":
    """Return an empty table, its first ``words`` columns to the left, which fold, and numbers to the right."""
    from rich import box
    from rich.table import Table

    made = Table(caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, head in enumerate(heads):
        if place < words:
            made.add_column(head, overflow="fold")
        else:
            made.add_column(head, justify="right", no_wrap=True)
    return made


def bounds_table(
    rows: Iterable[Mapping[str, Any]], heads: Mapping[str, str], *, section: str | None = None, caption: str = ""
) -> "Table":
    """Return bounds and controls as a table.

    Args:
        rows: those of `plainvision.dynamic.comparisons`.
        heads: which fields stand first, and what to call them.
        section: the field that begins a new part of the table where it changes.
        caption: what to say beside what every such table says.
    """
    rows = list(rows)
    views = list(dict.fromkeys(view for row in rows for view in row["controls"]))
    made = table(
        *heads.values(),
        "K",
        "static",
        "worst",
        "median",
        "best",
        "volatility",
        *(f"K {view}" if view != "labels shuffled" else view for view in map(_folded, views)),
        words=len(heads),
        caption=f"top-1 in % with K permutations; volatility is best less worst; {ORACLE}. Worst, median and best are "
        f"an oracle's, and so are the controls beside them, with as many guesses{caption and '. '}{caption}",
    )
    before = rows[0].get(section or "")
    for row in rows:
        if row.get(section or "") != before:
            made.add_section()
            before = row.get(section or "")
        made.add_row(
            *(str(row[name]) for name in heads),
            str(row["permutations"]),
            *(f"{row[name]:.2f}" for name in ("static", "worst", "median", "best", "volatility")),
            *(f"{row['controls'][view]:.2f}" if view in row["controls"] else "" for view in views),
        )
    return made


def multiply_adds(values: Sequence[float]) -> tuple[float, str]:
    """Return the unit that suits these multiply-adds, and its letter."""
    return (1e9, "G") if max(values) >= 1e9 else (1e6, "M")


def _folded(view: str) -> str:
    return "\n".join(view.rsplit(" ", 1))
