"""Deep training: anneal the activation inside each linear pair from ReLU to identity (arXiv:2305.12972, 3.1)."""

import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from plainvision.training.techniques.technique import NoEffectWarning, Technique

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from plainvision.training.recipe import Recipe
    from plainvision.training.state import State


@dataclass(frozen=True)
class DeepTraining(Technique):
    """Anneal the slope of every linear pair from 0 to 1 over the first epochs."""

    epochs: Annotated[int, 0, 10**6]
    """Epochs until the slope is 1; the rest of the run trains the form that is deployed."""
    anneal: Literal["linear", "cosine"] = "linear"
    """Shape of the rise from 0 to 1."""

    def slope(self, epoch: int) -> float:
        """Return the slope of ``epoch``, in [0, 1]."""
        share = min(epoch / self.epochs, 1.0) if self.epochs > 0 else 1.0
        return share if self.anneal == "linear" else 0.5 * (1 - math.cos(math.pi * share))

    def scaled(self, share: "Callable[[int], int]", ratio: float) -> "DeepTraining":
        return replace(self, epochs=share(self.epochs))

    def check(self, recipe: "Recipe") -> None:
        if self.epochs >= recipe.epochs:
            warnings.warn(
                f"{self}: the slope reaches 1 in epoch {self.epochs}, but training ends after {recipe.epochs}; the "
                "network will not fuse. Give fewer anneal epochs or more epochs.",
                stacklevel=2,
            )

    def build(self, model: "nn.Module") -> "nn.Module":
        from plainvision.layers.linear_pair import set_slope

        if not set_slope(model, self.slope(0)):
            warnings.warn(
                f"{self} found no linear pair in {type(model).__name__}. Put the technique `LinearPairs` before it, or "
                "build the network with linear pairs.",
                NoEffectWarning,
                stacklevel=2,
            )
        return model

    def reshape(self, model: "nn.Module", epoch: int) -> "nn.Module":
        from plainvision.layers.linear_pair import set_slope

        set_slope(model, self.slope(epoch))
        return model

    def settled(self, epoch: int) -> bool:
        """Return whether the slope is 1: weights from before may score better, but do not fuse."""
        return self.slope(epoch) == 1

    def metrics(self, state: "State") -> dict[str, float]:
        return {"slope": self.slope(state.epoch)}
