"""VanillaNet's deep training: two convolutions with an annealed activation between them (arXiv:2305.12972, 3.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plainvision.layers.fusable import Fusable, compose_pointwise, fold_sequence


class LinearPair(Fusable):
    """Two convolutions that train deep and become one: (B, C, H, W) -> (B, out_channels, H', W').

    Between them is a leaky ReLU whose negative slope is the lambda of the paper's equation 1,
    A'(x) = (1 - lambda) ReLU(x) + lambda x: at 0 a ReLU, at 1 the identity, which makes the pair one linear map. The
    slope is a buffer, so that a checkpoint carries it.

    Args:
        first: a convolution and, usually, its batch norm.
        second: a 1x1 convolution and, where nothing behind it normalises, its batch norm.
    """

    slope: Tensor

    def __init__(self, first: nn.Sequential, second: nn.Sequential, *, slope: float = 0.0) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.register_buffer("slope", torch.tensor([float(slope)]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        # prelu takes its slope as a tensor: leaky_relu would copy the buffer to the CPU and wait for the GPU.
        x = F.prelu(x, self.slope.to(x.dtype))
        return self.second(x)

    def merge(self) -> nn.Module:
        """Return one convolution for the two, still followed by the second's batch norm where it has one.

        The form in which training continues once the slope is 1 (`FuseAfterAnneal`).

        Raises:
            ValueError: the slope is not 1, so the two convolutions are not one linear map.
        """
        value = round(self.slope.item(), 6)  # float32 turns 0.9 into 0.8999999762
        if self.slope.item() != 1:
            raise ValueError(
                f"cannot fuse a LinearPair at slope={value}: its two convolutions form one linear map only at "
                "slope=1. Finish the `DeepTraining` schedule, or call `plainvision.set_slope(model, 1)` and "
                "fine-tune before fusing."
            )
        first = fold_sequence(self.first)
        merged = compose_pointwise(_only_conv(first), _only_conv(self.second[:1]))
        rest = list(self.second[1:])
        return nn.Sequential(merged, *rest) if rest else merged

    def fuse(self) -> nn.Conv2d:
        """Return the one convolution that computes what the pair computes in eval mode.

        Raises:
            ValueError: the slope is not 1.
        """
        merged = self.merge()
        return merged if isinstance(merged, nn.Conv2d) else _only_conv(fold_sequence(merged))  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        """Show the slope, which decides what the layer computes."""
        return f"slope={self.slope.item():g}" if self.slope.device.type != "meta" else ""


def set_slope(model: nn.Module, value: float) -> int:
    """Set the slope of every `LinearPair` in ``model`` and return how many there are.

    Raises:
        ValueError: ``value`` lies outside [0, 1].
    """
    if not 0 <= value <= 1:
        raise ValueError(
            f"slope={value} is outside [0, 1]: 0 is a ReLU between the two convolutions, 1 the identity, after which "
            "they fuse. Give a value between them."
        )
    pairs = [module for module in model.modules() if isinstance(module, LinearPair)]
    for pair in pairs:
        pair.slope.fill_(value)
    return len(pairs)


def _only_conv(layers: nn.Sequential) -> nn.Conv2d:
    if len(layers) != 1 or type(layers[0]) is not nn.Conv2d:
        raise ValueError(
            f"cannot fuse a LinearPair whose part is {layers}: a part is one nn.Conv2d, with or without a batch norm "
            "behind it, and no class that extends them. Rebuild the pair from such parts."
        )
    return layers[0]
