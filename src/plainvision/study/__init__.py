"""The layer study: which spatial operation which stage of a network needs. Names load when first used."""

import importlib
from typing import TYPE_CHECKING, Any

from plainvision.study.settings import LayerStudy, StudyNetwork

if TYPE_CHECKING:
    from plainvision.figures.study import draw_study
    from plainvision.study.run import run_study

__all__ = ["LayerStudy", "StudyNetwork", "draw_study", "run_study"]

_WHERE = {"draw_study": "figures.study", "run_study": "study.run"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"plainvision.{_WHERE[name]}"), name)
