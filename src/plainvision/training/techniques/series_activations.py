"""Give any convolutional network series activations before it trains (arXiv:2305.12972, Table 2)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from plainvision.training.techniques.technique import Technique

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SeriesActivations(Technique):
    """Replace each ReLU on an image-like tensor by a series activation before training."""

    n: Annotated[int, 0, 32] = 3
    """How far a pixel looks; the kernel's side is 2n + 1."""
    init: Literal["identity", "random"] = "identity"
    """How the kernels start: as a plain ReLU, or as VanillaNet's."""
    image_size: Annotated[int, 8, 1024] = 224
    """Side of the image that is passed through once, to see how wide each activation is."""

    def build(self, model: "nn.Module") -> "nn.Module":
        from plainvision.surgery.activations import series_activation

        return series_activation(model, self.n, init=self.init, image_size=self.image_size)
