"""Take the shortcuts of a residual network away before it trains."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plainvision.training.techniques.technique import Technique

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Plain(Technique):
    """Train a residual network without its shortcuts, to compare it with itself (arXiv:1512.03385, Table 2)."""

    def build(self, model: "nn.Module") -> "nn.Module":
        from plainvision.surgery.plain import plain

        return plain(model)
