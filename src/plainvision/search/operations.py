"""The candidate operations as layers, and what a network of cells needs beside them.

Paper    Liu et al. 2019, "DARTS", https://arxiv.org/abs/1806.09055, section 3.1
Differs  pooling is followed by a batch norm without weights in the discrete network too, not in the search alone, so
         that an operation computes the same in both; a skip that halves odd sizes works
Shapes   B batch, C channels, H height, W width
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def operation(name: str, channels: int, *, stride: int, affine: bool) -> nn.Module:
    """Return the layer of an operation: (B, C, H, W) -> (B, C, H / stride, W / stride), rounded up.

    ``affine`` gives its batch norms weights: not during a search, where they would undo the architecture's.
    """
    return _LAYERS[name](channels, stride, affine)


class ReluConvNorm(nn.Sequential):
    """ReLU, 1x1 convolution, batch norm: (B, in_channels, H, W) -> (B, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels, affine=affine),
        )


class HalvingSkip(nn.Module):
    """A skip to half the size: (B, in_channels, H, W) -> (B, out_channels, H / 2, W / 2), rounded up.

    Half of the channels come from the pixels at even rows and columns, half from those at odd ones, so that the
    1x1 convolutions see more than every fourth pixel. At odd sizes the last row and column have zeros beside them.
    """

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool) -> None:
        super().__init__()
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        shifted = F.pad(x, (-1, 1, -1, 1))  # up and left by one
        return self.norm(torch.cat((self.even(x), self.odd(shifted)), dim=1))


def _skip(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else HalvingSkip(channels, channels, affine=affine)


def _pool(layer: Callable[[int], nn.Module], channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Sequential(layer(stride), nn.BatchNorm2d(channels, affine=False))  # nothing to learn, whatever `affine`


def _average_pool(stride: int) -> nn.Module:
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


def _max_pool(stride: int) -> nn.Module:
    return nn.MaxPool2d(3, stride, padding=1)


def _separable(size: int, channels: int, stride: int, affine: bool) -> nn.Module:
    """Return two separable convolutions, of which the first has the stride."""
    return nn.Sequential(_depthwise(size, 1, channels, stride, affine), _depthwise(size, 1, channels, 1, affine))


def _dilated(size: int, channels: int, stride: int, affine: bool) -> nn.Module:
    return _depthwise(size, 2, channels, stride, affine)


def _depthwise(size: int, dilation: int, channels: int, stride: int, affine: bool) -> nn.Sequential:
    """Return ReLU, depthwise and 1x1 convolution, batch norm."""
    padding = dilation * (size // 2)
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, size, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


_LAYERS: dict[str, Callable[[int, int, bool], nn.Module]] = {
    "skip": _skip,
    "max_pool_3x3": partial(_pool, _max_pool),
    "avg_pool_3x3": partial(_pool, _average_pool),
    "sep_conv_3x3": partial(_separable, 3),
    "sep_conv_5x5": partial(_separable, 5),
    "dil_conv_3x3": partial(_dilated, 3),
    "dil_conv_5x5": partial(_dilated, 5),
}
