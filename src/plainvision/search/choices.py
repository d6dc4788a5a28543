"""How often each operation was chosen, in normal and in reduction cells and by depth."""

from collections.abc import Sequence
from typing import Any

from plainvision.search.genotype import Cell, Genotype
from plainvision.search.space import has_parameters, reductions


def operation_counts(genotypes: Sequence[Genotype]) -> list[dict[str, Any]]:
    """Return a row for each different cell, from first to last, then one for all normal cells where there are several.

    A row has ``cell`` ("normal" or "reduction"), ``places`` (where that cell stands, from 1), ``counts`` (how often
    each operation was chosen) and ``parameter_free`` (the share of operations without parameters).

    Args:
        genotypes: of one space, from several searches for instance; their counts are added.

    Raises:
        ValueError: there is none, or they are of different spaces.
    """
    if not genotypes or any(one.space != genotypes[0].space for one in genotypes):
        raise ValueError(
            f"counts of {len(genotypes)} genotypes cannot be added: they need to be of one space. Give one or more "
            "that were searched with the same cells, depth, nodes and operations."
        )
    space = genotypes[0].space
    small = [place + 1 for place in reductions(space.depth)]
    large = [place for place in range(1, space.depth + 1) if place not in small]
    shared = space.cells == "shared"
    rows = [
        _row("normal", large if shared else [large[number]], [one.normal[number] for one in genotypes], space.choices)
        for number in range(space.normal_cells)
    ]
    rows.append(_row("reduction", small, [one.reduction for one in genotypes], space.choices))
    if len(rows) > 2:
        rows.append(_row("normal", large, [cell for one in genotypes for cell in one.normal], space.choices))
    return rows


def parameter_free_share(genotype: Genotype) -> float:
    """Return the share of the operations of all different normal cells that have no parameters."""
    row = operation_counts([genotype])
    return float(row[-1 if genotype.space.normal_cells > 1 else 0]["parameter_free"])


def _row(kind: str, places: Sequence[int], cells: Sequence[Cell], choices: Sequence[str]) -> dict[str, Any]:
    edges = [edge for cell in cells for node in cell for edge in node]
    free = [edge for edge in edges if not has_parameters(edge.operation, edge.source, reduction=kind == "reduction")]
    return {
        "cell": kind,
        "places": list(places),
        "counts": {name: sum(edge.operation == name for edge in edges) for name in choices},
        "parameter_free": len(free) / len(edges),
    }
