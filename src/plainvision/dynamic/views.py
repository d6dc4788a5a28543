"""Other views of an image, as controls of an oracle.

An oracle over K permutations has K guesses at the class. So has the trained network that sees K zooms of the image, as
in arXiv:2304.05538, or K random crops.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# How much of the image the widest and the narrowest zoom show, in powers of two of its side.
_WIDEST, _NARROWEST = 1.0, -2.0
# torchvision's RandomResizedCrop.
_LEAST_AREA, _MOST_UNEVEN = 0.08, 4 / 3


def zooms(images: Tensor, count: int) -> Iterator[Tensor]:
    """Yield ``count`` zooms of images (B, C, H, W) about their centre, of the same size; the first is the image itself.

    They show from twice the image's side, with the mean colour around it, down to a quarter of it. Any first few of
    them are spread over that whole range.
    """
    for number in range(count):
        side = 2 ** (_WIDEST + (_NARROWEST - _WIDEST) * _spread(number)) if number else 1.0
        yield _window(images, side, side, 0.0, 0.0)


def crops(images: Tensor, count: int, seed: int = 0) -> Iterator[Tensor]:
    """Yield ``count`` random crops of images (B, C, H, W), enlarged to the same size; the first is the image itself.

    Crop number i is at the same place in every image and every batch.
    """
    random = np.random.default_rng(seed)
    for number in range(count):
        area = random.uniform(_LEAST_AREA, 1)
        ratio = math.exp(random.uniform(-math.log(_MOST_UNEVEN), math.log(_MOST_UNEVEN)))
        width, height = min(1.0, math.sqrt(area * ratio)), min(1.0, math.sqrt(area / ratio))
        x, y = random.uniform(-1, 1) * (1 - width), random.uniform(-1, 1) * (1 - height)
        yield _window(images, width, height, x, y) if number else images


VIEWS = {"input zooms": zooms, "random crops": crops}


def _spread(number: int) -> float:
    """Return the binary digits of ``number`` behind the point, mirrored: 1/2, 1/4, 3/4, 1/8, ... (van der Corput)."""
    return int(bin(number)[:1:-1], 2) / 2 ** number.bit_length()


def _window(images: Tensor, width: float, height: float, x: float, y: float) -> Tensor:
    """Return the part of the images that is so wide and high, in shares of theirs, about a centre in [-1, 1]^2."""
    if (width, height, x, y) == (1, 1, 0, 0):
        return images
    affine = torch.tensor([[width, 0, x], [0, height, y]], dtype=images.dtype, device=images.device)
    grid = F.affine_grid(affine.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
