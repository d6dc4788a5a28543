"""Train with the batch-norm statistics that weights came with, instead of those of each batch."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plainvision.training.techniques.technique import NoEffectWarning, Technique

if TYPE_CHECKING:
    from torch import nn

    from plainvision.training.recipe import Recipe
    from plainvision.training.state import State


@dataclass(frozen=True)
class FrozenStatistics(Technique):
    """Let batch norms below the classifier normalise in training as they do in evaluation; scales and shifts learn.

    Of a detector or a segmenter these are the backbone's.

    Statistics of small batches, of other images or another size, are not those that trained layers expect: a network
    whose classifier fits its features can lose most of its accuracy before the first step. Networks without batch norms
    train as they do anyway.
    """

    def check(self, recipe: "Recipe") -> None:
        if recipe.start_from is None:
            warnings.warn(
                f"{self} without start_from: the statistics of new batch norms are no images'. Give weights to start "
                "from, or drop it.",
                NoEffectWarning,
                stacklevel=2,
            )

    def step_start(self, state: "State") -> None:
        for norm in _norms(state.model):
            norm.eval()


def _norms(model: "nn.Module") -> "list[nn.Module]":
    from torch.nn.modules.batchnorm import _BatchNorm

    from plainvision.models.loading import classifier_layers
    from plainvision.models.trunk import trunks

    if backbones := trunks(model):
        return [one for backbone in backbones for one in backbone.modules() if isinstance(one, _BatchNorm)]
    new = {id(one) for layer in classifier_layers(model) for one in layer.modules()}
    return [one for one in model.modules() if isinstance(one, _BatchNorm) and id(one) not in new]
