"""Learned position embeddings on a grid, for images of any size."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def positions_at(positions: Tensor, size: Sequence[int]) -> Tensor:
    """Return position embeddings (1, C, h, w) interpolated to a grid of ``size`` (H, W): (1, C, H, W).

    Bicubic interpolation, as the official code of PiT has it (arXiv:2103.16302).
    """
    # Comparing a size that an export leaves open would fix it.
    if all(isinstance(side, int) for side in size) and tuple(size) == tuple(positions.shape[2:]):
        return positions
    # Half precision has no bicubic kernel on every device.
    return F.interpolate(positions.float(), size=tuple(size), mode="bicubic").to(positions.dtype)
