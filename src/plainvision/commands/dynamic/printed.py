"""What several verbs print."""

from collections.abc import Mapping, Sequence
from typing import Any

from plainvision.commands import Table, show

ORACLE = "An oracle is told the true class: its scores are bounds, which nothing reaches without being told."


def show_bounds(parts: Mapping[str, Sequence[Mapping[str, Any]]], first: str) -> None:
    """Print rows of bounds and controls as a table, by what stands above them where there are several parts."""
    views = list(dict.fromkeys(view for rows in parts.values() for row in rows for view in row["controls"]))
    heads = ["\n".join(([] if view == "labels shuffled" else ["K"]) + view.split()) for view in views]
    bounds = ("static", "worst", "median", "best", "volatility")
    made = Table((first, "K", *bounds[:-1], "vola-\ntility", *heads))  # narrow enough for 80 columns
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
