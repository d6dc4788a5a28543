"""Several choices of layers, kinds of views, or outcomes side by side (arXiv:2103.09891, section 4)."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from plainvision.dynamic import analyses
from plainvision.dynamic.outcomes import Outcomes


def bounds_row(outcomes: Outcomes) -> dict[str, Any]:
    """Return static, worst, median and best case, volatility, and the controls that are oracles too, by name."""
    bounds = outcomes.bounds()
    prefix = f"best of {bounds.permutations} "
    oracles = {one.name.removeprefix(prefix): one.top1 for one in outcomes.controls() if one.uses_labels}
    return {**asdict(bounds), "volatility": bounds.volatility, "controls": oracles}


def option_order(outcomes: Outcomes) -> list[str]:
    """Return the words of every option of any site, by stride, dilation and size."""
    options = {option for permutation in outcomes.permutations for option in permutation}
    return [str(option) for option in sorted(options, key=lambda one: [value or 0 for value in vars(one).values()])]


def rows_by_layers(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Return the `bounds_row` of each choice of sites that have several options, "layers" (section 4.3, Figure 4).

    Where the trained options are not among the permutations no choice of fewer sites exists, and all are one row.
    """
    sites = [site for number, site in enumerate(outcomes.sites) if len({p[number] for p in outcomes.permutations}) > 1]
    whole = {"layers": outcomes.joined(sites) or "none", **bounds_row(outcomes)}
    smaller = [chosen for count in range(1, len(sites)) for chosen in itertools.combinations(sites, count)]
    try:
        rows = [{"layers": outcomes.joined(chosen), **bounds_row(outcomes.restrict(chosen))} for chosen in smaller]
    except ValueError:
        return [whole]
    return [*rows, whole]


def view_curves(outcomes: Outcomes, most: int) -> dict[str, list[float]]:
    """Return the best case of an oracle over 1, 2, ... of each kind of views, the most helpful one first, in per cent.

    That is `Outcomes.greedy` with views instead of permutations, up to ``most`` of them.
    """
    return {
        name: analyses.greedy(view == outcomes.labels[:, None], min(most, view.shape[1])).best
        for name, view in outcomes.views.items()
    }


def preference_series(
    several: Mapping[str, Outcomes],
) -> tuple[Literal["scale", "context"], dict[str, dict[float, dict[str, dict[str, float]]]]]:
    """Return the shares of preferred options against scale or context, for figures 5 and 7 (section 4.5).

    Args:
        several: outcomes of one network by name; outcomes without a condition are those at scale 1.

    Returns:
        which of both differs, and by the attributes that change, by its value and by site the share of each option.

    Raises:
        ValueError: networks or sites differ, scale and context both, neither, or two outcomes are of the same.
    """
    ((first_name, first), *others) = several.items()
    for name, one in others:
        if (one.fingerprint, [*one.sites]) != (first.fingerprint, [*first.sites]):
            raise ValueError(
                f"{first_name} is of {first.network} ({first.fingerprint}, sites {', '.join(first.sites)}) and {name} "
                f"of {one.network} ({one.fingerprint}, sites {', '.join(one.sites)}): preferences are compared of one "
                "network at the same sites. Give those outcomes alone."
            )
    axes = {axis for one in several.values() for axis in one.condition}
    if len(axes) != 1:
        what = "scale and context both differ" if axes else "neither scale nor context differs"
        raise ValueError(
            f"{what} among {', '.join(several)}, and preferences are drawn against one of them. Evaluate with several "
            "values of scale or of context, or give one of these alone."
        )
    axis: Literal["scale", "context"] = "scale" if "scale" in axes else "context"
    series: dict[str, dict[float, dict[str, dict[str, float]]]] = {}
    for name, one in several.items():
        if axis == "context" and not one.condition:
            raise ValueError(
                f"{name} does not say how much context its images have. Evaluate it with a context, or leave it out."
            )
        value = one.condition.get(axis, 1.0)
        row = series.setdefault(", ".join(one.attributes), {})
        if value in row:
            raise ValueError(f"{name} is the second at {axis} {value:g}. Give one outcomes for each.")
        row[value] = one.preferences().options
    return axis, {name: dict(sorted(row.items())) for name, row in series.items()}
