"""How deep a network is: layers one behind the other, as VanillaNet's paper counts them."""

from typing import Any

import torch
from torch import nn

from plainvision.inspection.counting import checked_image_size
from plainvision.inspection.eval_mode import eval_mode
from plainvision.inspection.foreign import Foreign

_LINEAR = ("AddmmBackward0", "MmBackward0", "LinearBackward0")


def count_depth(model: nn.Module, image_size: tuple[int, int] | int = 224, channels: int = 3) -> int | None:
    """Return the most layers that mix channels on a way through the network; None for a network of another runtime.

    Such layers are convolutions, unless each channel has its own, and linear layers. ResNet-50 has 50; a VanillaNet-6
    has 6 in its deployed form. A network on the meta device is counted without computing anything.

    Raises:
        ValueError: a size below 1.
    """
    height, width = checked_image_size(image_size, channels)
    if isinstance(model, Foreign):
        return None
    first = next(iter(model.parameters()), torch.empty(0))
    images = torch.zeros(1, channels, height, width, device=first.device, dtype=first.dtype, requires_grad=True)
    with eval_mode(model), torch.enable_grad():
        return _longest(model(images).grad_fn)


def _longest(end: Any) -> int:
    """Return the most counted steps on a way from ``end`` back through the graph of gradients."""
    depths: dict[Any, int] = {}
    waiting = [end]
    while waiting:
        node = waiting[-1]
        before = [one for one, _ in node.next_functions if one is not None]
        left = [one for one in before if one not in depths]
        if left and node not in depths:
            waiting += left
            continue
        depths[node] = _counts(node) + max((depths[one] for one in before), default=0)
        waiting.pop()
    return depths[end]


def _counts(node: Any) -> bool:
    if node.name() == "ConvolutionBackward0":
        return node._saved_groups == 1 or node._saved_weight.shape[1] > 1
    return node.name() in _LINEAR
