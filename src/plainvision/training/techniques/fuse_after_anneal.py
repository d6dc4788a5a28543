"""Merge the linear pairs during training, once they are linear: the remaining epochs cost half as much."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plainvision.training.techniques.deep_training import DeepTraining
from plainvision.training.techniques.technique import NoEffectWarning, Technique

if TYPE_CHECKING:
    from torch import nn

    from plainvision.training.recipe import Recipe


@dataclass(frozen=True)
class FuseAfterAnneal(Technique):
    """Continue on the merged pairs once every slope is 1; the optimizer starts anew on them."""

    def check(self, recipe: "Recipe") -> None:
        before = recipe.techniques[: recipe.techniques.index(self)]
        if not any(isinstance(item, DeepTraining) and item.epochs < recipe.epochs for item in before):
            warnings.warn(
                f"{self} will never act: no `DeepTraining` before it ends within {recipe.epochs} epochs. Put one "
                "before it, with fewer epochs than the run.",
                NoEffectWarning,
                stacklevel=2,
            )

    def reshape(self, model: "nn.Module", epoch: int) -> "nn.Module":
        from plainvision.layers.linear_pair import LinearPair
        from plainvision.surgery.fusing import merge_pairs

        pairs = [module for module in model.modules() if isinstance(module, LinearPair)]
        linear = bool(pairs) and all(pair.slope.item() == 1 for pair in pairs)
        return merge_pairs(model) if linear else model
