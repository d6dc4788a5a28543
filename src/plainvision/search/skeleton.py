"""What the searched and the discrete network share: a stem, cells in their places, and what a cell reads.

Paper    Liu et al. 2019, "DARTS", https://arxiv.org/abs/1806.09055, section 3.1
Shapes   B batch, C channels, H height, W width
"""

from dataclasses import dataclass

from torch import Tensor, nn

from plainvision.search.operations import HalvingSkip, ReluConvNorm
from plainvision.search.space import INPUTS, check_depth, reductions

STEM_WIDTH = 3
"""The stem has so many times the channels of a node of the first cell, as in the authors' code."""


@dataclass(frozen=True)
class Place:
    """Where a cell stands in its network."""

    index: int
    """From 0."""
    reduction: bool
    """Whether the cell halves height and width."""
    channels: int
    """Of each of its nodes."""
    inputs: tuple[int, int]
    """Channels of the outputs of the cell before the last one and of the last one."""
    behind_reduction: bool
    """Whether the last one reduced, so that the one before has twice its height and width."""

    def stride(self, source: int) -> int:
        """Return the stride of an operation on ``source``."""
        return 2 if self.reduction and source < INPUTS else 1


def places(depth: int, nodes: int, channels: int) -> list[Place]:
    """Return the places of a network of ``depth`` cells whose first nodes have ``channels``.

    Raises:
        ValueError: a network of so few cells, or of no channels.
    """
    check_depth(depth)
    if channels < 1:
        raise ValueError(f"channels={channels}: give the channels of a node in the first cell, 1 or more.")
    found: list[Place] = []
    older = newer = STEM_WIDTH * channels
    for index in range(depth):
        reduction = index in reductions(depth)
        channels *= 2 if reduction else 1
        found.append(Place(index, reduction, channels, (older, newer), bool(found) and found[-1].reduction))
        older, newer = newer, nodes * channels
    return found


def stem(in_chans: int, channels: int, stride: int) -> nn.Sequential:
    """Return the first convolutions: (B, in_chans, H, W) -> (B, 3 * channels, H / stride, W / stride).

    Raises:
        ValueError: ``stride`` is not 1, 2, 4 or 8.
    """
    if stride not in (1, 2, 4, 8):
        raise ValueError(f"stem_stride={stride} must be 1, 2, 4 or 8: each convolution of the stem halves the size.")
    width = STEM_WIDTH * channels
    layers: list[nn.Module] = []
    for step in range(max(1, stride.bit_length() - 1)):
        layers += [nn.ReLU()] if step else []
        layers += [
            nn.Conv2d(width if step else in_chans, width, 3, min(stride, 2), 1, bias=False),
            nn.BatchNorm2d(width),
        ]
    return nn.Sequential(*layers)


class Inputs(nn.Module):
    """Brings a cell's two inputs to its width and to one size: two of (B, C', H', W') -> two of (B, C, H, W)."""

    def __init__(self, place: Place, *, affine: bool) -> None:
        super().__init__()
        older, newer = place.inputs
        kind = HalvingSkip if place.behind_reduction else ReluConvNorm
        self.older = kind(older, place.channels, affine=affine)
        self.newer = ReluConvNorm(newer, place.channels, affine=affine)

    def forward(self, older: Tensor, newer: Tensor) -> list[Tensor]:
        return [self.older(older), self.newer(newer)]
