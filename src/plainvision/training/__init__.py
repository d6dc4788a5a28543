"""Train a network by a recipe, resume it, evaluate it. Names load when first used: a recipe needs no torch."""

import importlib
from typing import TYPE_CHECKING, Any

from plainvision.training.recipe import Augment, Data, Machine, Recipe

if TYPE_CHECKING:
    from plainvision.training.evaluation import Evaluation, evaluate
    from plainvision.training.loop import train

__all__ = ["Augment", "Data", "Evaluation", "Machine", "Recipe", "evaluate", "train"]

_WHERE = {"Evaluation": "evaluation", "evaluate": "evaluation", "train": "loop"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
