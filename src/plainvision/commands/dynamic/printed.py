"""What several verbs print."""

from collections.abc import Mapping, Sequence
from typing import Any

from plainvision.commands import Table, show

_BOUNDS = ("static", "worst", "median", "best")
ORACLE = "An oracle is told the true class: its scores are bounds, which nothing reaches without being told."


def show_bounds(parts: Mapping[str, Sequence[Mapping[str, Any]]], first: str) -> None:
    """Print rows of bounds and controls as a table, by what stands above them where there are several parts."""
    views = list(dict.fromkeys(view for rows in parts.values() for row in rows for view in row["controls"]))
    heads = ["\n".join(([] if view == "labels shuffled" else ["K"]) + view.split()) for view in views]
    bounds = (*_BOUNDS, "volatility")
    made = Table((first, "K", *_BOUNDS, "vola-\ntility", *heads))  # narrow enough for 80 columns
    for name, rows in parts.items():
        if len(parts) > 1:
            made.add_section()
            made.add_row(name)
        for row in rows:
            controls = (f"{row['controls'][view]:.2f}" if view in row["controls"] else "" for view in views)
            found = (f"{row[bound]:.2f}" for bound in bounds)
            made.add_row(row[first], str(row["permutations"]), *found, *controls)
    show(made)
    print(
        f"Top-1 in %, over K permutations; volatility is best less worst. {ORACLE}\n"
        "Worst, median and best are an oracle's, and so are the controls behind them, which have as many guesses."
    )


def show_reproduced(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of the paper, what it publishes below each row, and the controls of the rows."""
    heads = f"{title}, {rows[0]['images']} images\nnetwork", "changes", "K", *_BOUNDS, "vola-\ntility"
    table = Table(heads, words=2)
    for row in rows:
        numbers = (f"{row[bound]:.2f}" for bound in (*_BOUNDS, "volatility"))
        table.add_row(row["network"], row["changes"], str(row["permutations"]), *numbers)
        if (paper := row["published"]) is not None:
            known = [("" if paper[bound] is None else f"{paper[bound]:.1f}") for bound in _BOUNDS]
            spread = f"{paper['best'] - paper['worst']:.1f}"
            table.add_row("", "in the paper", str(paper["permutations"] or ""), *known, spread)
    show(table)
    names = list(dict.fromkeys(name for row in rows for name in row["controls"]))
    words = [name.replace("input", "K").replace("random", "K") for name in names]
    table = Table(("network", "changes", "best", *("\n".join(one.split()) for one in words)), words=2)
    for row in rows:
        controls = (f"{row['controls'][name]:.2f}" if name in row["controls"] else "" for name in names)
        table.add_row(row["network"], row["changes"], f"{row['best']:.2f}", *controls)
    show(table)
