"""Show which permutations and options the images prefer; of several scales or contexts, how that changes with them.

An image prefers the permutation that predicts its true class with the highest confidence.

Example: plainvision dynamic preferences runs/stride runs/stride_scale_2 runs/stride_scale_4 --figure scales.pdf
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from plainvision.commands import Table, parsed, show
from plainvision.commands.dynamic.outcomes import OutcomesOptions
from plainvision.commands.dynamic.printed import ORACLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from plainvision.dynamic.outcomes import Outcomes

Arguments = OutcomesOptions
_SHOWN = 10


def main(words: list[str]) -> None:
    """Print the tables, and write the record and the figure."""
    arguments = parsed(Arguments, words, "dynamic preferences", __doc__)

    from plainvision.dynamic.tables import preference_series

    found = arguments.read("preferences")
    several = len(found) > 1
    axis, series = preference_series(found) if several else ("scale", {})
    name = f"preference_by_{axis}" if several else "preferred_permutations"
    drawn, rows = _by_condition(found, series, axis) if several else _of_one(*found.values())
    claim = "which options predict the true class of an image with the highest confidence, in shares of the images"
    arguments.write(["preferences", *words], claim, found, rows, drawn, (f"{name}.png", f"{name}.json"))


def _of_one(outcomes: "Outcomes") -> "tuple[Figure, dict[str, Any]]":
    """Show what the images of one evaluation prefer; return Figure 1 and what the record says."""
    from plainvision.dynamic.tables import option_order, permutation_rows
    from plainvision.figures.preferences import preferred_permutations

    rows, preferences = permutation_rows(outcomes), outcomes.preferences()
    table = Table(("", "preferred permutation", "images\n%", "alone\ntop-1 %"), words=2)
    for place, row in enumerate(rows, start=1):
        if place <= _SHOWN or row["as_trained"]:
            what = f"{row['permutation']}{' (as trained)' if row['as_trained'] else ''}"
            table.add_row(str(place), what, f"{100 * row['share']:.2f}", f"{row['top1']:.2f}")
    show(table)
    by_site = Table(("option,\nimages in %", *(f"\n{site}" for site in preferences.options)))
    for option in option_order(outcomes):
        by_site.add_row(option, *(_percent(options, option) for options in preferences.options.values()))
    show(by_site)
    print(
        f"{sum(row['share'] > 0 for row in rows)} of {len(rows)} permutations are preferred by an image; alone is the "
        f"accuracy of a permutation for all images.\nOnly an oracle can choose what an image prefers. {ORACLE}"
    )
    sites = [*outcomes.sites]
    figure = preferred_permutations(sites, outcomes.permutations, preferences.permutations, outcomes.default)
    return figure, {"permutations": rows, "options": preferences.options}


def _by_condition(
    several: "Mapping[str, Outcomes]", series: Mapping[str, Mapping[float, Any]], axis: Any
) -> "tuple[Figure, dict[str, Any]]":
    """Show what the images prefer at each scale or context; return Figure 5 or 7 and what the record says."""
    from plainvision.dynamic.tables import changed, option_order, preference_rows
    from plainvision.figures.preferences import preference_by_scale

    for attribute, row in series.items():
        table = Table(("site", attribute, *(f"{axis} {value:g}" for value in row)), words=2)
        orders = [option_order(one) for one in several.values() if changed(one) == attribute]
        for site in next(iter(row.values())):
            known = [option for order in orders for option in order if any(option in at[site] for at in row.values())]
            for option in dict.fromkeys(known):
                table.add_row(site, option, *(_percent(at[site], option) for at in row.values()))
            table.add_section()
        show(table)
    print(f"Images that prefer each option, in %. Only an oracle can choose what an image prefers. {ORACLE}")
    sites = [*next(iter(several.values())).sites]
    return preference_by_scale(sites, series, axis=axis), {"rows": preference_rows(series, axis)}


def _percent(options: Mapping[str, float], option: str) -> str:
    return f"{100 * options[option]:.1f}" if option in options else ""
