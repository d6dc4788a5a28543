"""What a layer must offer to be folded into its deployed form, and the arithmetic that they share.

All folding is done in float64 and written into freshly built layers, so that a folded weight has the strides
of a new one. A weight that comes out of a transposed matrix product can carry strides that PyTorch reads as
channels_last; every activation behind it then silently changes its memory layout.
"""

import abc
import copy

import torch
from torch import Tensor, nn


class Fusable(nn.Module, abc.ABC):
    """A layer whose training form folds into fewer layers of torch's own."""

    @abc.abstractmethod
    def fuse(self) -> nn.Module:
        """Return the deployed form; ``self`` stays as it is.

        Raises:
            ValueError: the layer does not yet compute something that folds.
        """


def new_conv(like: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """Return a convolution with the geometry, dtype and device of ``like`` and the given weights."""
    conv = nn.Conv2d(
        weight.shape[1] * like.groups,
        weight.shape[0],
        like.kernel_size,  # type: ignore[arg-type]  # torch types its own attribute more loosely
        stride=like.stride,  # type: ignore[arg-type]
        padding=like.padding,  # type: ignore[arg-type]
        dilation=like.dilation,  # type: ignore[arg-type]
        groups=like.groups,
        bias=bias is not None,
        padding_mode=like.padding_mode,
        device=like.weight.device,
        dtype=like.weight.dtype,
    )
    with torch.no_grad():
        conv.weight.copy_(weight)
        if bias is not None:
            assert conv.bias is not None
            conv.bias.copy_(bias)
    return conv.train(like.training)


# A batch norm of one process and one that shares its statistics between processes fold alike.
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm


def fold_batch_norm(conv: nn.Conv2d, norm: BatchNorm) -> nn.Conv2d:
    """Return one convolution that computes ``norm(conv(x))`` with the norm's running statistics.

    Raises:
        ValueError: the norm keeps no running statistics, so in eval mode it depends on the batch.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(
            "cannot fold a batch norm without running statistics (track_running_stats=False): what it computes "
            "depends on the batch. Build the network with running statistics and train or calibrate them."
        )
    variance, mean = norm.running_var.double(), norm.running_mean.double()
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    offset = -mean if conv.bias is None else conv.bias.double() - mean
    bias = offset * scale
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    return new_conv(conv, conv.weight.double() * scale.reshape(-1, 1, 1, 1), bias)


def fold_batch_norm_before(norm: BatchNorm, conv: nn.Conv2d) -> nn.Conv2d:
    """Return one convolution that computes ``conv(norm(x))`` with the norm's running statistics, for a 1x1 ``conv``.

    Raises:
        ValueError: ``conv`` is not 1x1 on all channels, or the norm keeps no running statistics.
    """
    if conv.kernel_size != (1, 1) or conv.groups != 1:
        raise ValueError(
            f"cannot fold a batch norm into {conv} behind it: at the border that sees padding, which the norm has not "
            "shifted. Only a 1x1 convolution on all channels can take it."
        )
    point = nn.Conv2d(norm.num_features, norm.num_features, 1, device=conv.weight.device, dtype=conv.weight.dtype)
    with torch.no_grad():
        nn.init.dirac_(point.weight)
        nn.init.zeros_(point.bias)  # type: ignore[arg-type]  # it has one
    return compose_pointwise(fold_batch_norm(point, norm), conv)


def compose_pointwise(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """Return one convolution that computes ``second(first(x))``, for a 1x1 ``second`` with the groups of ``first``.

    The matrix product of VanillaNet's deep training (arXiv:2305.12972, section 3.1): W = W2 W1, b = W2 b1 + b2.

    Raises:
        ValueError: ``second`` is not a plain matrix on the channels of each group.
    """
    if second.kernel_size != (1, 1) or second.stride != (1, 1) or second.groups != first.groups:
        raise ValueError(
            f"cannot fold {second} into {first}: only a 1x1 convolution of stride 1, with the same groups, is a "
            "plain matrix on the channels. Put the KxK convolution first and the 1x1 convolution second."
        )
    groups = first.groups
    matrix = second.weight.double().reshape(groups, -1, first.out_channels // groups)
    kernels = first.weight.double().reshape(groups, first.out_channels // groups, -1)
    weight = (matrix @ kernels).reshape(-1, *first.weight.shape[1:])
    bias = None
    if first.bias is not None:
        bias = (matrix @ first.bias.double().reshape(groups, -1, 1)).flatten()
    if second.bias is not None:
        bias = second.bias.double() if bias is None else bias + second.bias.double()
    return new_conv(first, weight, bias)


def fold_sequence(layers: nn.Sequential) -> nn.Sequential:
    """Return ``layers`` with every batch norm that directly follows a convolution folded into it."""
    folded: list[nn.Module] = []
    for layer in layers:
        # What extends a layer may compute something else.
        if type(layer) in (nn.BatchNorm2d, nn.SyncBatchNorm) and folded and type(folded[-1]) is nn.Conv2d:
            folded[-1] = fold_batch_norm(folded[-1], layer)  # type: ignore[arg-type]
        else:
            folded.append(copy.deepcopy(layer))
    return nn.Sequential(*folded)
