"""How often each operation was chosen, in normal and in reduction cells and by depth."""

from collections.abc import Sequence
from typing import Any

from plainvision.genotype import Cell, Genotype, has_parameters


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
    choices = genotypes[0].space.choices
    rows = [
        _row(same[0].reduction, same[0].places, [placed.cell for placed in same], choices)
        for same in zip(*(one.different_cells() for one in genotypes), strict=True)
    ]
    if len(rows) > 2:
        large = [place for row in rows if row["cell"] == "normal" for place in row["places"]]
        rows.append(_row(False, large, [cell for one in genotypes for cell in one.normal], choices))
    return rows


def parameter_free_share(genotype: Genotype) -> float:
    """Return the share of the operations of all different normal cells that have no parameters."""
    return float(_row(False, [], genotype.normal, ())["parameter_free"])


def _row(reduction: bool, places: list[int], cells: Sequence[Cell], choices: Sequence[str]) -> dict[str, Any]:
    edges = [edge for cell in cells for node in cell for edge in node]
    free = [edge for edge in edges if not has_parameters(edge.operation, edge.source, reduction=reduction)]
    return {
        "cell": "reduction" if reduction else "normal",
        "places": places,
        "counts": {name: sum(edge.operation == name for edge in edges) for name in choices},
        "parameter_free": len(free) / len(edges),
    }
