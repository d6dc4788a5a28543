"""Give any convolutional network linear pairs before it trains (arXiv:2305.12972, Table 2)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from plainvision.training.techniques.technique import Technique

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LinearPairs(Technique):
    """Replace each convolution by a linear pair before training; `DeepTraining` anneals them."""

    init: Literal["identity", "random"] = "identity"
    """How the second convolution of a pair starts."""

    def build(self, model: "nn.Module") -> "nn.Module":
        from plainvision.surgery.pairs import linear_pairs

        return linear_pairs(model, init=self.init)
