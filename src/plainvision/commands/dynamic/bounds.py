"""Show the worst, median and best case over all permutations, and by the layers that change, beside controls.

Example: plainvision dynamic bounds runs/stride --figure layers.pdf
"""

from dataclasses import dataclass

from plainvision.commands import parsed, say
from plainvision.commands.dynamic.outcomes import OutcomesOptions
from plainvision.commands.dynamic.printed import show_bounds


@dataclass(frozen=True, kw_only=True)
class Arguments(OutcomesOptions):
    """What `plainvision dynamic bounds` takes."""

    layers: bool = True
    """Also by the layers that change, A, B, ..., ABCD."""


def main(words: list[str]) -> None:
    """Print the table, and write the record and the figure."""
    arguments = parsed(Arguments, words, "dynamic bounds", __doc__)

    from plainvision.dynamic.tables import bounds_row, rows_by_layers
    from plainvision.figures.outcomes import layer_choice

    found = arguments.read("bounds")
    if len(found) > 1 and arguments.output.figure is not None:
        raise ValueError(f"--figure draws the layers of one network, and there are {len(found)} outcomes. Give one.")
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
        controls: dict[str, dict[str, float]] = {}
        for row in rows:
            for view in [view for view in row["controls"] if view != "labels shuffled"]:
                controls.setdefault(f"as many {view}", {})[row["layers"]] = row["controls"][view]
        bounds = {row["layers"]: (row["worst"], row["median"], row["best"]) for row in rows}
        drawn = layer_choice(bounds, rows[0]["static"], controls=controls)
    claim = "worst, median and best case over permutations, beside what as many other guesses reach"
    names = "layer_choice.png", "bounds.json"
    arguments.write(["bounds", *words], claim, found, {"bounds": parts}, drawn, names)
