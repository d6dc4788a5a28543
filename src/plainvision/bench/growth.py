"""Exponents of the power laws by which memory and time grow with the image's surface.

A convolution does the same at each place of an image: exponent 1. The time of attention among all places tends towards
2, and so does its memory where the whole matrix of weights is kept.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def growth_exponents(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the exponents of each network, a row each.

    ``memory_exponent`` and ``time_exponent`` are the slopes of straight lines through the logarithms, by least
    squares: 1.0 is in proportion to the surface, 2.0 to its square. Unknown or unmeasurably little memory is no point;
    with points at fewer than two surfaces the exponent is None.

    Args:
        rows: a row per network and image size, of `comparison` or `Measurement.to_dict`, in any order.

    Raises:
        ValueError: no rows, or a network at a single surface.
    """
    return [
        {"name": name, "memory_exponent": _exponent(own, "peak_memory_mb"), "time_exponent": _exponent(own, "p50_ms")}
        for name, own in by_network(rows).items()
    ]


def by_network(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the rows of each network, or raise a ValueError where there are none, or at a single surface."""
    if not rows:
        raise ValueError("nothing was measured, so nothing grows. Give a row per network and image size.")
    networks: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        networks.setdefault(row["name"], []).append(row)
    for name, own in networks.items():
        if len({surface(row) for row in own}) < 2:
            raise ValueError(
                f"cannot tell how {name} grows: it was measured at {side(own[0])} px only. Measure each network "
                "at two image sizes or more, of different surfaces."
            )
    return networks


def _exponent(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    points = [(math.log(surface(row)), math.log(row[key])) for row in rows if row[key]]
    if len({surface for surface, _ in points}) < 2:
        return None
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def surface(row: Mapping[str, Any]) -> int:
    """Return the surface of a row's images, in pixels."""
    height, width = row["image_size"]
    return height * width


def side(row: Mapping[str, Any]) -> str:
    """Return the side of a row's images in words, or both."""
    height, width = row["image_size"]
    return str(height) if height == width else f"{height} x {width}"
