"""Show the worst, median and best case over all permutations, and by the layers that change, beside controls.

Example: plainvision dynamic bounds runs/stride --figure layers.pdf
"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from plainvision.commands import parsed, say
from plainvision.commands.dynamic.outcomes import read_outcomes
from plainvision.commands.dynamic.tables import show_bounds
from plainvision.commands.options.output import OutputOptions


@dataclass(frozen=True)
class Arguments:
    """What `plainvision dynamic bounds` takes."""

    outcomes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that `plainvision dynamic evaluate` wrote into, or outcomes.safetensors files."""
    layers: bool = True
    """Also by the layers that change, A, B, ..., ABCD."""
    output: Annotated[OutputOptions, tyro.conf.arg(name="")] = field(default_factory=OutputOptions)
    """What is written beside the first outcomes: Figure 4 of a single one, layer_choice.png, and bounds.json."""


def main(words: list[str]) -> None:
    """Print the table, and write the record and the figure."""
    arguments = parsed(Arguments, words, "dynamic bounds", __doc__)

    from plainvision.dynamic.comparisons import bounds_row, rows_by_layers
    from plainvision.dynamic.tables import facts
    from plainvision.figures.outcomes import layer_choice

    found = read_outcomes(arguments.outcomes, "bounds")
    if len(found) > 1 and arguments.output.figure is not None:
        raise ValueError(f"--figure draws the layers of one network, and there are {len(found)} outcomes. Give one.")
    output = arguments.output.beside(arguments.outcomes[0], "layer_choice.png", "bounds.json")
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
    output.write(claim, record, f"plainvision dynamic bounds {shlex.join(words)}", drawn)
