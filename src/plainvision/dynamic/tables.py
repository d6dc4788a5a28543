"""Rows of outcomes as plain values, of which tables are printed and records written."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from plainvision.dynamic.comparisons import view_curves
from plainvision.dynamic.outcomes import Outcomes
from plainvision.layers.dynamic_conv import describe

_LIKE: tuple[tuple[Literal["static", "best"], str], ...] = (("static", "static"), ("best", "best case"))


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


def control_curves(several: Mapping[str, Outcomes], most: int | None = None) -> dict[str, list[float]]:
    """Return the curves of views by name: those of the most views where all outcomes are `alike`, else of each."""
    one_for_all = alike(several)
    if one_for_all:
        most_views = max(
            several.values(), key=lambda one: max([view.shape[1] for view in one.views.values()], default=0)
        )
        several = {"": most_views}
    return {
        view if one_for_all else f"{view}, {name}": curve
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
    """Return each option of each site with the share of the images that prefer it, at each value of ``axis``.

    Args:
        series: as `preference_series` returns it.
        axis: "scale" or "context".
    """
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
    for name, outcomes in several.items():
        for like, what in _LIKE:
            found = outcomes.cheapest(like)
            plain = {"what": what, "top1": found.accuracy, "macs": found.reference_macs, "factor": None}
            cheap = {"what": f"{what}, cheapest", "macs": found.mean_macs, "factor": found.factor}
            rows += [{"outcomes": name, **plain}, {"outcomes": name, **plain, **cheap}]
    return rows
