"""Give any classifier attention pooling before it trains (arXiv:2112.13692, section 4.3)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plainvision.training.techniques.technique import Technique

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class AttentionPooling(Technique):
    """Replace the global average pooling by a learned aggregation before training."""

    per_class: bool = False
    """One class token, and so one attention map, per class."""

    def build(self, model: "nn.Module") -> "nn.Module":
        from plainvision.surgery.pooling import attention_pooling

        return attention_pooling(model, self.per_class)
