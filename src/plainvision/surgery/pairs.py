"""Give any convolutional network linear pairs, for deep training (arXiv:2305.12972, Table 2)."""

from typing import Literal, get_args

import torch
from torch import nn

from plainvision.inspection.tracing import computes_as, is_depthwise, own_copy, read_elsewhere, replace_layers
from plainvision.layers.fusable import Fusable
from plainvision.layers.linear_pair import LinearPair

Init = Literal["identity", "random"]


def linear_pairs(model: nn.Module, *, init: Init = "identity") -> nn.Module:
    """Return a new network in which each convolution is a linear pair that computes the same, at slope 1.

    A KxK convolution is followed by a batch norm, the annealed activation and a 1x1 convolution; in this order the
    padding stays exact when the two are folded. The second gets a batch norm where the convolution had a bias, which
    says that no norm follows. Depthwise convolutions stay, as a pair on one channel is only a factor; so do classes
    that extend torch's own, those with hooks, and those whose weights others read.

    With ``init="random"`` the 1x1 convolution starts as those of VanillaNet do, and the network computes something
    else: that is for training from the beginning.

    Raises:
        ValueError: there is no convolution to replace, or no such ``init``.
    """
    check_init(init)
    model = own_copy(model)
    taken = read_elsewhere(model).union(*(layer.modules() for layer in model.modules() if isinstance(layer, Fusable)))
    pairs: dict[nn.Module, nn.Module] = {
        layer: _pair(layer, init)
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
        and computes_as(layer, nn.Conv2d)
        and layer not in taken
        and not is_depthwise(layer)
    }
    if not pairs:
        raise ValueError(
            f"no convolution to replace in {type(model).__name__}: those it has are depthwise, in linear pairs "
            "already, of classes that extend nn.Conv2d, or others read their weights."
        )
    return replace_layers(model, pairs)


def check_init(init: str) -> None:
    """Raise a `ValueError` where there is no such start."""
    if init not in get_args(Init):
        raise ValueError(f"init={init!r} is no way to start. Give one of {', '.join(get_args(Init))}.")


def _pair(conv: nn.Conv2d, init: Init) -> LinearPair:
    place = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    channels, has_bias = conv.out_channels, conv.bias is not None
    point = nn.Conv2d(channels, channels, 1, groups=conv.groups, bias=has_bias, **place)  # type: ignore[arg-type]
    first = nn.Sequential(conv, _identity_norm(channels, place))
    second = nn.Sequential(point, _identity_norm(channels, place)) if has_bias else nn.Sequential(point)
    with torch.no_grad():
        if init == "identity":
            nn.init.dirac_(point.weight, groups=conv.groups)
        else:
            nn.init.trunc_normal_(point.weight, std=0.02)
        if point.bias is not None:
            point.bias.zero_()
    pair = LinearPair(first, second, slope=1.0)
    return pair.to(conv.weight.device).train(conv.training)


def _identity_norm(channels: int, place: dict) -> nn.BatchNorm2d:
    """Return a batch norm that in eval mode changes nothing: its scale undoes its own eps."""
    norm = nn.BatchNorm2d(channels, **place)
    with torch.no_grad():
        norm.weight.fill_((1 + norm.eps) ** 0.5)
    return norm
