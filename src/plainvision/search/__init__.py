"""Cell search: which operations a cell needs, with and without weights. Names load when first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plainvision.figures.cells import draw_cells
    from plainvision.genotype import OPERATIONS, CellSpace, Edge, Genotype, load_genotype, random_genotype
    from plainvision.models.cells import CellNetwork
    from plainvision.search.cell_search import search_cells
    from plainvision.search.choices import operation_counts, parameter_free_share
    from plainvision.search.comparison import Trained, compare_with_random
    from plainvision.search.settings import Budget, CellSearch

__all__ = [
    "OPERATIONS",
    "Budget",
    "CellNetwork",
    "CellSearch",
    "CellSpace",
    "Edge",
    "Genotype",
    "Trained",
    "compare_with_random",
    "draw_cells",
    "load_genotype",
    "operation_counts",
    "parameter_free_share",
    "random_genotype",
    "search_cells",
]

_HOMES = {
    "genotype": ("OPERATIONS", "CellSpace", "Edge", "Genotype", "load_genotype", "random_genotype"),
    "models.cells": ("CellNetwork",),
    "figures.cells": ("draw_cells",),
    "search.cell_search": ("search_cells",),
    "search.choices": ("operation_counts", "parameter_free_share"),
    "search.comparison": ("Trained", "compare_with_random"),
    "search.settings": ("Budget", "CellSearch"),
    "study": ("LayerStudy", "draw_study", "run_study"),  # which were here
}


def __getattr__(name: str) -> Any:
    if name == "Space":  # an older name
        name = "CellSpace"
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"plainvision.{home}"), name)
