"""Where a network needs weights in its spatial operations, and where not. Names load when first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plainvision.search.cell_search import search_cells
    from plainvision.search.choices import operation_counts, parameter_free_share
    from plainvision.search.comparison import Trained, compare_with_random
    from plainvision.search.genotype import Edge, Genotype, load_genotype, random_genotype
    from plainvision.search.network import CellNetwork
    from plainvision.search.settings import Budget, CellSearch
    from plainvision.search.space import OPERATIONS, Space
    from plainvision.search.study import LayerStudy, run_study

_WHERE = {
    "OPERATIONS": "space",
    "Budget": "settings",
    "CellNetwork": "network",
    "CellSearch": "settings",
    "Edge": "genotype",
    "Genotype": "genotype",
    "LayerStudy": "study",
    "Space": "space",
    "Trained": "comparison",
    "compare_with_random": "comparison",
    "load_genotype": "genotype",
    "operation_counts": "choices",
    "parameter_free_share": "choices",
    "random_genotype": "genotype",
    "run_study": "study",
    "search_cells": "cell_search",
}

__all__ = [
    "OPERATIONS",
    "Budget",
    "CellNetwork",
    "CellSearch",
    "Edge",
    "Genotype",
    "LayerStudy",
    "Space",
    "Trained",
    "compare_with_random",
    "load_genotype",
    "operation_counts",
    "parameter_free_share",
    "random_genotype",
    "run_study",
    "search_cells",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
