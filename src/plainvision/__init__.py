"""Vision backbones with nothing to spare.

Names load when they are first used, so that ``import plainvision`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plainvision import (
        bench,
        deploy,
        dynamic,
        explain,
        hub,
        layers,
        models,
        recipes,
        search,
        study,
        surgery,
        tasks,
        training,
    )
    from plainvision.cards import Card, card
    from plainvision.explain.attention import attention_maps
    from plainvision.layers.linear_pair import set_slope
    from plainvision.models.loading import load_checkpoint
    from plainvision.models.registry import create_model, list_models
    from plainvision.surgery.fusing import fuse
    from plainvision.training.loaded import load
    from plainvision.training.prediction import predict

__version__ = "0.1.0"

__all__ = [
    "Card",
    "__version__",
    "attention_maps",
    "bench",
    "card",
    "create_model",
    "deploy",
    "dynamic",
    "explain",
    "fuse",
    "hub",
    "layers",
    "list_models",
    "load",
    "load_checkpoint",
    "models",
    "predict",
    "recipes",
    "search",
    "set_slope",
    "study",
    "surgery",
    "tasks",
    "training",
]

_WHERE = {
    "Card": "plainvision.cards",
    "attention_maps": "plainvision.explain.attention",
    "card": "plainvision.cards",
    "create_model": "plainvision.models.registry",
    "fuse": "plainvision.surgery.fusing",
    "list_models": "plainvision.models.registry",
    "load": "plainvision.training.loaded",
    "load_checkpoint": "plainvision.models.loading",
    "predict": "plainvision.training.prediction",
    "set_slope": "plainvision.layers.linear_pair",
}
_ROOMS = (
    "bench",
    "deploy",
    "dynamic",
    "explain",
    "hub",
    "layers",
    "models",
    "recipes",
    "search",
    "study",
    "surgery",
    "tasks",
    "training",
)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"plainvision.{name}")
    else:
        raise AttributeError(f"module 'plainvision' has no attribute {name!r}; it offers {', '.join(__all__)}.")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
