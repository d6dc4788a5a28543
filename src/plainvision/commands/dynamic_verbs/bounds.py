"""Show the worst, median and best case over all permutations, and by the layers that change, beside controls.

Example: plainvision dynamic bounds runs/stride --figure layers.pdf
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from plainvision.commands import parsed, say


@dataclass(frozen=True)
class Arguments:
    """What `plainvision dynamic bounds` takes."""

    outcomes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that `plainvision dynamic evaluate` wrote into, or outcomes.safetensors files."""
    layers: bool = True
    """Also by the layers that change, A, B, ..., ABCD."""
    figure: Path | None = None
    """Figure 4, of one outcomes: a .png, .pdf or .svg file; by default layer_choice.png beside it."""
    json: Path | None = None
    """The record; by default bounds.json beside the first outcomes."""


def main(words: list[str]) -> None:
    """Print the table, and write the record and the figure."""
    arguments = parsed(Arguments, words, "dynamic bounds", __doc__)

    from plainvision.commands.dynamic_verbs.outcomes import facts, place, read_outcomes, write
    from plainvision.commands.dynamic_verbs.tables import show_bounds
    from plainvision.dynamic.comparisons import bounds_row, rows_by_layers
    from plainvision.figures.outcomes import layer_choice

    found = read_outcomes(arguments.outcomes, "bounds")
    if len(found) > 1 and arguments.figure is not None:
        raise ValueError(f"--figure draws the layers of one network, and there are {len(found)} outcomes. Give one.")
    first = arguments.outcomes[0]
    json = place(arguments.json, "--json", first, "bounds.json")
    figure = place(arguments.figure, "--figure", first, "layer_choice.png")
    if arguments.layers:
        parts = {name: rows_by_layers(one) for name, one in found.items()}
        show_bounds(parts, "layers")
    else:
        parts = {name: [{"layers": "all", **bounds_row(one)}] for name, one in found.items()}
        show_bounds({"": [{"outcomes": name, **rows[0]} for name, rows in parts.items()]}, "outcomes")
    lonely = [name for name, rows in parts.items() if len(rows) == 1]
    if lonely and arguments.layers:
        say(f"Not by layers, for want of permutations that leave other layers as trained: {', '.join(lonely)}.")
    drawn = None
    if len(found) == 1:
        (rows,) = parts.values()
        views = dict.fromkeys(view for row in rows for view in row["controls"] if view != "labels shuffled")
        drawn = layer_choice(
            {row["layers"]: (row["worst"], row["median"], row["best"]) for row in rows},
            rows[0]["static"],
            controls={
                f"as many {view}": {row["layers"]: row["controls"][view] for row in rows if view in row["controls"]}
                for view in views
            },
        )
    record = {"outcomes": {name: facts(one) for name, one in found.items()}, "bounds": parts}
    claim = "worst, median and best case over permutations, beside what as many other guesses reach"
    write(claim, record, f"plainvision dynamic bounds {shlex.join(words)}", json, drawn, figure)
