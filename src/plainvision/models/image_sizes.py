"""Networks of one image size, which know the place of each patch: another size, and positions for it."""

from collections.abc import Mapping
from math import isqrt
from typing import Any

import timm
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

_POSITIONS = "pos_embed"


def size_options(name: str, image_size: int) -> dict[str, int]:
    """Return the options by which the network called ``name`` takes images of ``image_size`` pixels.

    Those of timm that take one size alone have an option for it; all others get none.
    """
    published = timm.models.get_pretrained_cfg(name) if timm.is_model(name.split(".")[0]) else None
    fixed = published is not None and published.fixed_input_size and published.input_size[-1] != image_size
    return {"img_size": image_size} if fixed else {}


def with_own_positions(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``state`` with its position embeddings interpolated (bicubic) to the grid of patches of ``model``.

    They are (1, C, h, w), or (1, N, C) with those of class tokens in front, of a square grid. What has another number
    of channels, or no such shape, stays as it is.
    """
    own, given = getattr(model, _POSITIONS, None), state.get(_POSITIONS)
    if not isinstance(own, Tensor) or given is None or own.shape == given.shape or own.ndim != given.ndim:
        return dict(state)
    if own.ndim == 4 and own.shape[:2] == given.shape[:2]:
        whole = F.interpolate(given.float(), tuple(own.shape[2:]), mode="bicubic").to(given.dtype)
        return {**state, _POSITIONS: whole}
    grid: Any = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if own.ndim != 3 or grid is None or own.shape[2] != given.shape[2]:
        return dict(state)
    tokens = own.shape[1] - grid[0] * grid[1]
    patches = given.shape[1] - tokens
    if tokens < 0 or patches < 1 or isqrt(patches) ** 2 != patches:
        return dict(state)
    return {**state, _POSITIONS: resample_abs_pos_embed(given, list(grid), num_prefix_tokens=tokens)}
