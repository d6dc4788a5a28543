"""Show which permutations and options the images prefer; of several scales or contexts, how that changes with them.

An image prefers the permutation that predicts its true class with the highest confidence.

Example: plainvision dynamic preferences runs/stride runs/stride_scale_2 runs/stride_scale_4 --figure scales.pdf
"""

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plainvision.commands import Table, parsed, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from plainvision.dynamic.outcomes import Outcomes

_SHOWN = 10


@dataclass(frozen=True)
class Arguments:
    """What `plainvision dynamic preferences` takes."""

    outcomes: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """One folder that `plainvision dynamic evaluate` wrote into, or file; or several at other scales or contexts."""
    figure: Path | None = None
    """Figure 1, 5 or 7: a .png, .pdf or .svg file; by default preferred_permutations.png beside the outcomes, or
    preference_by_scale.png or preference_by_context.png beside the first."""
    json: Path | None = None
    """The record; by default beside the first outcomes, called like the figure."""


def main(words: list[str]) -> None:
    """Print the tables, and write the record and the figure."""
    arguments = parsed(Arguments, words, "dynamic preferences", __doc__)

    from plainvision.commands.dynamic_verbs.outcomes import facts, place, read_outcomes, write
    from plainvision.dynamic.comparisons import preference_series

    found = read_outcomes(arguments.outcomes, "preferences")
    several = len(found) > 1
    axis, series = preference_series(found) if several else ("scale", {})
    name = f"preference_by_{axis}" if several else "preferred_permutations"
    json = place(arguments.json, "--json", arguments.outcomes[0], f"{name}.json")
    figure = place(arguments.figure, "--figure", arguments.outcomes[0], f"{name}.png")
    record: dict[str, Any] = {"outcomes": {label: facts(one) for label, one in found.items()}}
    if several:
        drawn = _by_condition(found.values(), series, axis)
        record["rows"] = _rows(series, axis)
    else:
        drawn, preferred = _of_one(*found.values())
        record |= preferred
    claim = "which options predict the true class of an image with the highest confidence, in shares of the images"
    write(claim, record, f"plainvision dynamic preferences {shlex.join(words)}", json, drawn, figure)


def _of_one(outcomes: "Outcomes") -> "tuple[Figure, dict[str, Any]]":
    """Show what the images of one evaluation prefer; return Figure 1 and what the record says."""
    import numpy as np

    from plainvision.commands.dynamic_verbs.tables import ORACLE
    from plainvision.dynamic.comparisons import option_order
    from plainvision.figures.preferences import preferred_permutations
    from plainvision.layers.dynamic_conv import describe

    sites, permutations, default = [*outcomes.sites], outcomes.permutations, outcomes.default
    preferences, each = outcomes.preferences(), outcomes.each()
    order = np.argsort(-preferences.permutations, kind="stable").tolist()
    rows: list[dict[str, Any]] = [
        {
            "permutation": describe(permutations[index], sites),
            "share": float(preferences.permutations[index]),
            "top1": float(each[index]),
            "as_trained": permutations[index] == default,
        }
        for index in order
    ]
    shown = Table(("", "preferred permutation", "images\n%", "alone\ntop-1 %"), words=2)
    for place, row in enumerate(rows, start=1):
        if place <= _SHOWN or row["as_trained"]:
            what = f"{row['permutation']}{' (as trained)' if row['as_trained'] else ''}"
            shown.add_row(str(place), what, f"{100 * row['share']:.2f}", f"{row['top1']:.2f}")
    show(shown)
    show(_by_site(preferences.options, option_order(outcomes)))
    print(
        f"{sum(row['share'] > 0 for row in rows)} of {len(rows)} permutations are preferred by an image; alone is the "
        f"accuracy of a permutation for all images.\nOnly an oracle can choose what an image prefers. {ORACLE}"
    )
    figure = preferred_permutations(sites, permutations, preferences.permutations, default)
    return figure, {"permutations": rows, "options": preferences.options}


def _by_condition(several: "Collection[Outcomes]", series: Mapping[str, Mapping[float, Any]], axis: Any) -> "Figure":
    """Show what the images prefer at each scale or context; return Figure 5 or 7."""
    from plainvision.commands.dynamic_verbs.outcomes import changed
    from plainvision.commands.dynamic_verbs.tables import ORACLE
    from plainvision.dynamic.comparisons import option_order
    from plainvision.figures.preferences import preference_by_scale

    for attribute, row in series.items():
        shares = {f"{axis} {value:g}": options for value, options in row.items()}
        order = list(
            dict.fromkeys(option for one in several if changed(one) == attribute for option in option_order(one))
        )
        show(_options(shares, order, attribute))
    print(f"Images that prefer each option, in %. Only an oracle can choose what an image prefers. {ORACLE}")
    return preference_by_scale([*next(iter(several)).sites], series, axis=axis)


def _rows(series: Mapping[str, Mapping[float, Any]], axis: str) -> list[dict[str, Any]]:
    """Return a row for each option of each site, with the share of the images that prefer it at each value."""
    return [
        {
            "changes": attribute,
            "site": site,
            "option": option,
            **{f"{axis} {value:g}": round(shares[site].get(option, 0.0), 4) for value, shares in row.items()},
        }
        for attribute, row in series.items()
        for site, options in next(iter(row.values())).items()
        for option in options
    ]


def _by_site(shares: Mapping[str, Mapping[str, float]], order: Sequence[str]) -> Table:
    """Return the share of the images that prefer each option, in a column for each site."""
    shown = Table(("option,\nimages in %", *(f"\n{site}" for site in shares)))
    for option in order:
        shown.add_row(
            option, *(f"{100 * options[option]:.1f}" if option in options else "" for options in shares.values())
        )
    return shown


def _options(shares: Mapping[str, Mapping[str, Mapping[str, float]]], order: Sequence[str], attribute: str) -> Table:
    """Return the share of the images that prefer each option, by site, in a column for each condition."""
    shown = Table(("site", attribute, *shares), words=2)
    for site in next(iter(shares.values())):
        options = [option for option in order if any(option in by_site[site] for by_site in shares.values())]
        for option in options:
            cells = [f"{100 * one[site][option]:.1f}" if option in one[site] else "" for one in shares.values()]
            shown.add_row(site, option, *cells, end_section=option == options[-1])
    return shown
