"""Show what an oracle reaches with few permutations, and which come first; so many views of the image stand beside.

With --combine, write the space that combines the attributes of several outcomes in the same layers: the product of the
permutations that come first for each (Table 3). `plainvision dynamic evaluate --space FILE` evaluates it.

Example: plainvision dynamic greedy runs/stride runs/size --combine stride_and_size.json
"""

import itertools
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plainvision.commands import Table, check_writable, parsed, say, show

if TYPE_CHECKING:
    from plainvision.dynamic.outcomes import Outcomes

_COUNTS = (1, 2, 3, 4, 6, 10, 20, 50, 100)
_SHOWN = 10


@dataclass(frozen=True)
class Arguments:
    """What `plainvision dynamic greedy` takes."""

    outcomes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that `plainvision dynamic evaluate` wrote into, or outcomes.safetensors files."""
    most: int | None = None
    """Draw and record the first so many permutations only."""
    combine: Path | None = None
    """Write the space of combined attributes into this .json file; give outcomes of one network, one per attribute."""
    combine_limit: int = 625
    """How many permutations that space may have, at most."""
    figure: Path | None = None
    """Figure 3: a .png, .pdf or .svg file; by default greedy_curves.png beside the first outcomes."""
    json: Path | None = None
    """The record; by default greedy.json beside the first outcomes."""


def main(words: list[str]) -> None:
    """Print the tables, and write the record, the figure and the space."""
    arguments = parsed(Arguments, words, "dynamic greedy", __doc__)
    if arguments.most is not None and arguments.most < 1:
        raise ValueError(f"--most {arguments.most} leaves no permutation. Give 1 or more.")

    from plainvision.commands.dynamic_verbs.outcomes import facts, place, read_outcomes, write
    from plainvision.commands.dynamic_verbs.space import write_space
    from plainvision.figures.outcomes import greedy_curves

    found = read_outcomes(arguments.outcomes, "greedy")
    json = place(arguments.json, "--json", arguments.outcomes[0], "greedy.json")
    figure = place(arguments.figure, "--figure", arguments.outcomes[0], "greedy_curves.png")
    (first, *others) = found.values()
    if arguments.combine is not None:
        check_writable(arguments.combine, "--combine")
        space = first.combine(*others, limit=arguments.combine_limit)
    curves = {name: _curve(one, arguments.most) for name, one in found.items()}
    controls = _controls(found, arguments.most)
    _show(curves, controls)
    drawn = greedy_curves(
        {name: curve["best"] for name, curve in curves.items()},
        first.bounds().static if _alike(found) else {name: curve["static"] for name, curve in curves.items()},
        controls=controls,
    )
    record = {
        "outcomes": {name: facts(one) for name, one in found.items()},
        "permutations": curves,
        "controls": controls,
    }
    claim = "best case of an oracle that may choose among the permutations that help most, beside other views"
    write(claim, record, f"plainvision dynamic greedy {shlex.join(words)}", json, drawn, figure)
    if arguments.combine is not None:
        write_space(arguments.combine, space, [*first.sites])
        say(f"{len(space.chosen or ())} permutations of {' and '.join(space.attributes)} in {arguments.combine}")
        file = shlex.quote(str(arguments.combine))
        say(f"Next: plainvision dynamic evaluate --space {file} --out ..., with the same network and data")


def _curve(outcomes: "Outcomes", most: int | None) -> dict[str, Any]:
    """Return the best case with 1, 2, ... permutations, and which they are."""
    from plainvision.layers.dynamic_conv import describe

    permutations = outcomes.permutations
    greedy = outcomes.greedy(min(most or len(permutations), len(permutations)))
    bounds = outcomes.bounds()
    return {
        "static": bounds.static,
        "best": greedy.best,
        "order": [
            describe(permutations[index], [*outcomes.sites])
            + (" (as trained)" if permutations[index] == outcomes.default else "")
            for index in greedy.order
        ],
        "all": bounds.best,
        "count": bounds.permutations,
    }


def _controls(found: "dict[str, Outcomes]", most: int | None) -> dict[str, list[float]]:
    """Return the curves of views: once where all outcomes have the same network and images, else of each."""
    from plainvision.dynamic.comparisons import view_curves

    several = not _alike(found)
    if not several:
        found = {
            "": max(found.values(), key=lambda one: max([view.shape[1] for view in one.views.values()], default=0))
        }
    return {
        f"{view}, {name}" if several else view: curve
        for name, one in found.items()
        for view, curve in view_curves(one, most or len(one.permutations)).items()
    }


def _alike(found: "dict[str, Outcomes]") -> bool:
    """Whether all are of one network and the same images, so that the trained network answers the same."""
    return len({(one.fingerprint, one.names, str(one.condition)) for one in found.values()}) == 1


def _show(curves: dict[str, dict[str, Any]], controls: dict[str, list[float]]) -> None:
    """Print what few permutations reach, and which come first."""
    from plainvision.commands.dynamic_verbs.tables import ORACLE

    drawn = {name: curve["best"] for name, curve in curves.items()} | controls
    longest = max(map(len, drawn.values()))
    whole = {name: (curve["all"], curve["count"]) for name, curve in curves.items()}
    whole |= {name: (best[-1], len(best)) for name, best in controls.items()}
    shown = Table(("top-1 in %,\nbest of", *(f"{name}\nof {whole[name][1]}" for name in drawn)))
    shown.add_row("as trained", *(f"{curve['static']:.2f}" for curve in curves.values()), end_section=True)
    for count in (count for count in _COUNTS if count <= longest):
        shown.add_row(str(count), *(f"{best[count - 1]:.2f}" if count <= len(best) else "" for best in drawn.values()))
    shown.add_row("all", *(f"{best:.2f}" for best, _ in whole.values()))
    show(shown)
    print(f"In greedy order: each permutation or view makes most further images right. {ORACLE}")
    several = len(curves) > 1
    shown = Table((*(["outcomes"] if several else []), "", "permutation", "best\n%"), words=2 + several)
    for name, curve in curves.items():
        gains = [before < after for before, after in itertools.pairwise([0.0, *curve["best"]])]
        first = list(zip(curve["order"], curve["best"], strict=True))[: min(_SHOWN, sum(gains))]
        for place, (permutation, best) in enumerate(first, start=1):
            label = [name if place == 1 else ""] if several else []
            shown.add_row(*label, str(place), permutation, f"{best:.2f}", end_section=place == len(first))
    show(shown)
