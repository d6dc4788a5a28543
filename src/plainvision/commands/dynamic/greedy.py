"""Show what an oracle reaches with few permutations, and which come first; so many views of the image stand beside.

With --combine, write the space that combines the attributes of several outcomes in the same layers: the product of the
permutations that come first for each (Table 3). `plainvision dynamic evaluate --space FILE` evaluates it.

Example: plainvision dynamic greedy runs/stride runs/size --combine stride_and_size.json
"""

import itertools
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plainvision.commands import Table, check_writable, parsed, say, show
from plainvision.commands.dynamic.outcomes import OutcomesOptions
from plainvision.commands.dynamic.printed import ORACLE

_COUNTS = (1, 2, 3, 4, 6, 10, 20, 50, 100)
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Arguments(OutcomesOptions):
    """What `plainvision dynamic greedy` takes."""

    most: int | None = None
    """Draw and record the first so many permutations only."""
    combine: Path | None = None
    """Write the space of combined attributes into this .json file; give outcomes of one network, one per attribute."""
    combine_limit: int = 625
    """How many permutations that space may have, at most."""


def main(words: list[str]) -> None:
    """Print the tables, and write the record, the figure and the space."""
    arguments = parsed(Arguments, words, "dynamic greedy", __doc__)
    if arguments.most is not None and arguments.most < 1:
        raise ValueError(f"--most {arguments.most} leaves no permutation. Give 1 or more.")

    from plainvision.dynamic.space_file import write_space
    from plainvision.dynamic.tables import alike, control_curves, greedy_curve
    from plainvision.figures.outcomes import greedy_curves

    found = arguments.read("greedy")
    (first, *others) = found.values()
    if arguments.combine is not None:
        check_writable(arguments.combine, "--combine")
        space = first.combine(*others, limit=arguments.combine_limit)
    curves = {name: greedy_curve(one, arguments.most) for name, one in found.items()}
    controls = control_curves(found, arguments.most)
    show(_few(curves, controls))
    print(f"In greedy order: each permutation or view makes most further images right. {ORACLE}")
    show(_first(curves))
    drawn = greedy_curves(
        {name: curve["best"] for name, curve in curves.items()},
        first.bounds().static if alike(found) else {name: curve["static"] for name, curve in curves.items()},
        controls=controls,
    )
    claim = "best case of an oracle that may choose among the permutations that help most, beside other views"
    names = "greedy_curves.png", "greedy.json"
    figures = {"permutations": curves, "controls": controls}
    arguments.write(["greedy", *words], claim, found, figures, drawn, names)
    if arguments.combine is not None:
        write_space(arguments.combine, space, [*first.sites])
        say(f"{len(space.chosen or ())} permutations of {' and '.join(space.attributes)} in {arguments.combine}")
        file = shlex.quote(str(arguments.combine))
        say(f"Next: plainvision dynamic evaluate --space {file} --out ..., with the same network and data")


def _few(curves: Mapping[str, Mapping[str, Any]], controls: Mapping[str, list[float]]) -> Table:
    """Return what few permutations and views reach."""
    drawn = {name: curve["best"] for name, curve in curves.items()} | dict(controls)
    longest = max(map(len, drawn.values()))
    whole = {name: (curve["all"], curve["count"]) for name, curve in curves.items()}
    whole |= {name: (best[-1], len(best)) for name, best in controls.items()}
    table = Table(("top-1 in %,\nbest of", *(f"{name}\nof {count}" for name, (_, count) in whole.items())))
    table.add_row("as trained", *(f"{curve['static']:.2f}" for curve in curves.values()), end_section=True)
    for count in (count for count in _COUNTS if count <= longest):
        table.add_row(str(count), *(f"{best[count - 1]:.2f}" if count <= len(best) else "" for best in drawn.values()))
    table.add_row("all", *(f"{best:.2f}" for best, _ in whole.values()))
    return table


def _first(curves: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return which permutations come first, as long as they add something."""
    several = len(curves) > 1
    table = Table((*(["outcomes"] if several else []), "", "permutation", "best\n%"), words=2 + several)
    for name, curve in curves.items():
        gains = [before < after for before, after in itertools.pairwise([0.0, *curve["best"]])]
        first = list(zip(curve["order"], curve["best"], strict=True))[: min(_SHOWN, sum(gains))]
        for place, (permutation, best) in enumerate(first, start=1):
            label = [name if place == 1 else ""] if several else []
            table.add_row(*label, str(place), permutation, f"{best:.2f}", end_section=place == len(first))
    return table
