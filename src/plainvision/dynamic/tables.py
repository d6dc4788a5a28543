"""Outcomes side by side, as rows of plain values for tables and records (arXiv:2103.09891, section 4)."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from plainvision.dynamic import analyses
from plainvision.dynamic.outcomes import Outcomes
from plainvision.layers.dynamic_conv import describe


def changed(outcomes: Outcomes) -> str:
    """Return the attributes that change, such as "stride", or "stride, size"."""
    return ", ".join(outcomes.attributes)


def facts(outcomes: Outcomes) -> dict[str, Any]:
    """Return what a record says about outcomes."""
    return {
        "network": outcomes.network,
        "fingerprint": outcomes.fingerprint,
        "changes": changed(outcomes),
        "sites": outcomes.sites,
        "permutations": len(outcomes.permutations),
        "left_out": outcomes.left_out,
        "images": len(outcomes.names),
        "classes": outcomes.classes,
        "condition": outcomes.condition,
    }


def alike(several: Mapping[str, Outcomes]) -> bool:
    """Return whether all are of one network and the same images, so that their static accuracy is one number."""
    return len({(one.fingerprint, one.names, str(one.condition)) for one in several.values()}) == 1


def greedy_curve(outcomes: Outcomes, most: int | None = None) -> dict[str, Any]:
    """Return the best case with 1, 2, ... permutations, which they are, and the best case with all; up to ``most``."""
    count, bounds = len(outcomes.permutations), outcomes.bounds()
    greedy = outcomes.greedy(min(most or count, count))
    order = []
    for permutation in (outcomes.permutations[index] for index in greedy.order):
        trained = " (as trained)" if permutation == outcomes.default else ""
        order.append(describe(permutation, [*outcomes.sites]) + trained)
    return {"static": bounds.static, "best": greedy.best, "order": order, "all": bounds.best, "count": count}


def control_curves(several: Mapping[str, Outcomes], most: int | None = None) -> dict[str, list[float]]:
    """Return the curves of views by name: those of the most views where all outcomes are `alike`, else of each."""
    if alike(several):
        several = {"": max(several.values(), key=lambda one: max([v.shape[1] for v in one.views.values()], default=0))}
    return {
        f"{view}, {name}" if name else view: curve
        for name, one in several.items()
        for view, curve in view_curves(one, most or len(one.permutations)).items()
    }


def permutation_rows(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Return each permutation with the share of the images that prefer it, the most preferred first."""
    shares, each = outcomes.preferences().permutations, outcomes.each()
    return [
        {
            "permutation": describe(outcomes.permutations[index], [*outcomes.sites]),
            "share": float(shares[index]),
            "top1": float(each[index]),
            "as_trained": outcomes.permutations[index] == outcomes.default,
        }
        for index in np.argsort(-shares, kind="stable").tolist()
    ]


def preference_rows(series: Mapping[str, Mapping[float, Any]], axis: str) -> list[dict[str, Any]]:
    """Return what `preference_series` does as rows: each option of each site with its share at each value of it."""
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


def efficiency_rows(several: Mapping[str, Outcomes]) -> list[dict[str, Any]]:
    """Return accuracy and multiply-adds of the static network, of the best case, and of the cheapest like each."""
    rows = []
    kinds: dict[Literal["static", "best"], str] = {"static": "static", "best": "best case"}
    for name, outcomes in several.items():
        for like, what in kinds.items():
            found = outcomes.cheapest(like)
            plain = {"what": what, "top1": found.accuracy, "macs": found.reference_macs, "factor": None}
            cheap = {"what": f"{what}, cheapest", "macs": found.mean_macs, "factor": found.factor}
            rows += [{"outcomes": name, **plain}, {"outcomes": name, **plain, **cheap}]
    return rows


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
        return [*({"layers": outcomes.joined(s), **bounds_row(outcomes.restrict(s))} for s in smaller), whole]
    except ValueError:
        return [whole]


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
) -> tuple[Literal["scale", "context"], dict[str, dict[float, Any]]]:
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
    series: dict[str, dict[float, Any]] = {}
    for name, one in several.items():
        if axis == "context" and not one.condition:
            raise ValueError(
                f"{name} does not say how much context its images have. Evaluate it with a context, or leave it out."
            )
        value = one.condition.get(axis, 1.0)
        row = series.setdefault(changed(one), {})
        if value in row:
            raise ValueError(f"{name} is the second at {axis} {value:g}. Give one outcomes for each.")
        row[value] = one.preferences().options
    return axis, {name: dict(sorted(row.items())) for name, row in series.items()}
