"""Trained networks for others: a model card, and the Hugging Face Hub. Names load when first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plainvision.hub.model_cards import model_card
    from plainvision.hub.pulling import pull
    from plainvision.hub.pushing import push
    from plainvision.hub.trained import trained_network

__all__ = ["model_card", "pull", "push", "trained_network"]

_WHERE = {"model_card": "model_cards", "pull": "pulling", "push": "pushing", "trained_network": "trained"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
