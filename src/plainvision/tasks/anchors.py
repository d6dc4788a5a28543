"""Sizes of anchors: torchvision's, and those that fit the boxes of a data set."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

AnchorSizes = tuple[tuple[int, ...], ...]
RATIOS = (0.5, 1.0, 2.0)


class Levels(NamedTuple):
    """Where a kind of detector has anchors."""

    strides: tuple[int, ...]
    """Of its five levels."""
    per_level: int
    """How many sizes each level has."""


LEVELS = {"retinanet": Levels((8, 16, 32, 64, 128), 3), "mask_rcnn": Levels((4, 8, 16, 32, 64), 1)}
# Of a level's stride: at three, an anchor meets a box of its own size by 53 % or more wherever that lies; a smaller one
# may miss the 50 % that make it learn.
_LEAST = 3


def default_sizes(per_level: int) -> AnchorSizes:
    """Return torchvision's sizes of five levels: from 32 pixels, doubling at each, in equal steps between."""
    return tuple(tuple(int(32 * 2**level * 2 ** (i / per_level)) for i in range(per_level)) for level in range(5))


def checked_sizes(sizes: Sequence[Sequence[int]], per_level: int, kind: str) -> AnchorSizes:
    """Return sizes that a detector of this ``kind`` can have, or raise a ValueError."""
    if len(sizes) != 5 or any(len(level) != per_level for level in sizes) or min(map(min, sizes)) < 1:
        raise ValueError(
            f"anchor_sizes={sizes}: a {kind} has five levels with {per_level} above zero each. `fit_anchors` with "
            f"per_level={per_level} returns such sizes."
        )
    return tuple(tuple(level) for level in sizes)


def fit_anchors(
    boxes: Tensor,
    *,
    strides: Sequence[int] = LEVELS["retinanet"].strides,
    per_level: int = LEVELS["retinanet"].per_level,
) -> AnchorSizes:
    """Return anchor sizes, the side of a square in pixels, for each level: quantiles of the boxes' own sizes.

    No size is below three strides of its level, in the steps that torchvision's have: a coarse grid meets no small box.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2, in pixels as the network sees them, behind the detector's resizing.
        strides: of the levels; those of a RetinaNet by default, (4, 8, 16, 32, 64) of a Mask R-CNN.
        per_level: sizes of a level; 3 of a RetinaNet, 1 of a Mask R-CNN.

    Raises:
        ValueError: there is no box, or one without area.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise ValueError(f"boxes are {tuple(boxes.shape)}, not (N, 4) with at least one. Give those of the data set.")
    sides = (boxes[:, 2:] - boxes[:, :2]).double()
    if not (sides > 0).all():
        raise ValueError("a box has no area: x2 and y2 must be above x1 and y1. Remove such boxes.")
    count = len(strides) * per_level
    places = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    sizes = sides.prod(1).sqrt().quantile(places).tolist()
    return tuple(
        tuple(
            round(max(sizes[level * per_level + step], _LEAST * stride * 2 ** (step / per_level)))
            for step in range(per_level)
        )
        for level, stride in enumerate(strides)
    )
