"""Train what is new alone in the first epochs, before all layers of trained weights learn (arXiv:2202.10054)."""

import copy
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from plainvision.training.techniques.technique import NoEffectWarning, Technique

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from plainvision.training.recipe import Recipe
    from plainvision.training.state import State

# Marks the parameters that are frozen by this technique; a copy of a network has no such marks.
_FROZEN = "_frozen_backbone"


@dataclass(frozen=True)
class FrozenBackbone(Technique):
    """Keep the backbone as it is, batch-norm statistics too, for the first epochs.

    It is everything but the classifier; of a detector or a segmenter, the network that they stand on. These epochs cost
    a third of others, and a new classifier does not spoil what the backbone knows.
    """

    epochs: Annotated[int, 0, 10**6]
    """Epochs in which the backbone stays; as many as the run has make a linear probe of a classifier."""

    def scaled(self, share: "Callable[[int], int]", ratio: float) -> "FrozenBackbone":
        return replace(self, epochs=share(self.epochs))

    def check(self, recipe: "Recipe") -> None:
        if recipe.machine.fsdp:
            raise ValueError(f"{self} does not work with machine.fsdp: its shards are made of all layers. Drop one.")
        if recipe.start_from is None and self.epochs:
            warnings.warn(
                f"{self} without start_from: what is new learns from a backbone of random weights. Give weights to "
                "start from, or drop it.",
                NoEffectWarning,
                stacklevel=2,
            )

    def reshape(self, model: "nn.Module", epoch: int) -> "nn.Module":
        if epoch < self.epochs:
            for one in _backbone(model):
                if one.requires_grad:  # others are fixed for good, as some position embeddings are
                    one.requires_grad_(False)
                    setattr(one, _FROZEN, True)
            return model
        frozen = [name for name, one in model.named_parameters() if hasattr(one, _FROZEN)]
        if frozen:
            model = copy.deepcopy(model)  # another object gets an optimizer that has its backbone, too
            for name in frozen:
                model.get_parameter(name).requires_grad_(True)
        return model

    def step_start(self, state: "State") -> None:
        if state.epoch < self.epochs:
            from plainvision.models.loading import classifier_layers
            from plainvision.models.trunk import trunks

            backbones = trunks(state.model)
            for backbone in backbones or [state.model]:
                backbone.eval()
            for layer in () if backbones else classifier_layers(state.model):
                layer.train()


def _backbone(model: "nn.Module") -> "list[nn.Parameter]":
    from plainvision.models.loading import classifier_layers
    from plainvision.models.trunk import trunks

    if backbones := trunks(model):
        return [one for backbone in backbones for one in backbone.parameters()]
    learning = {id(one) for layer in classifier_layers(model) for one in layer.parameters()}
    return [one for one in model.parameters() if id(one) not in learning]
