"""Give any convolutional network series activations before it trains (arXiv:2305.12972, Table 2)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plainvision.fields import Ranges
from plainvision.training.techniques.technique import Technique

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SeriesActivations(Technique):
    """Replace each ReLU on an image-like tensor by a series activation before training."""

    n: int = 3
    """How far a pixel looks; the kernel's side is 2n + 1."""
    image_size: int = 224
    """Side of the image that is passed through once, to see how wide each activation is."""

    ranges: ClassVar[Ranges] = {"n": (0, 32), "image_size": (8, 1024)}

    def build(self, model: "nn.Module") -> "nn.Module":
        from plainvision.surgery.activations import series_activation

        return series_activation(model, self.n, image_size=self.image_size)
