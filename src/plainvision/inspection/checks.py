"""Checks of images, logits and classes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def check_images(images: Tensor) -> None:
    """Raise a ValueError unless ``images`` is a batch (B, C, H, W) of floats."""
    if not isinstance(images, Tensor) or images.ndim != 4 or not len(images):
        given = f"a tensor {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise ValueError(f"images are {given}, not a batch (B, C, H, W). A single image becomes one by image[None].")
    if not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype}, which no network takes. Give floats, normalised as in the network's training."
        )


def check_logits(output: Any, model: nn.Module, classes: int | None = None) -> Tensor:
    """Return the network's ``output``, or raise a ValueError unless it is logits (B, K), of K ``classes`` if given."""
    if not isinstance(output, Tensor) or output.ndim != 2 or (classes is not None and output.shape[1] != classes):
        given = f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        wanted = f"(B, {classes})" if classes is not None else "(B, K)"
        raise ValueError(
            f"{type(model).__name__} returns {given}, not logits {wanted}, so that there is no class to explain. "
            "Give the whole classifier, or wrap it in a module that returns its logits."
        )
    return output


def class_indices(classes: Sequence[int] | Tensor, count: int) -> Tensor:
    """Return ``classes`` as a tensor (n,), or raise a ValueError unless they are indices into ``count`` classes."""
    try:
        indices = torch.as_tensor(classes)
    except (TypeError, ValueError, RuntimeError):
        indices = torch.empty(0)
    if indices.ndim != 1 or not len(indices) or indices.is_floating_point() or indices.dtype == torch.bool:
        raise ValueError(f"classes={classes!r} are not indices of classes. Give a list of them, for instance [0, 3].")
    outside = [index for index in indices.tolist() if not 0 <= index < count]
    if outside:
        raise ValueError(f"there is no class {outside[0]}: the network has {count}, from 0 to {count - 1}.")
    return indices
