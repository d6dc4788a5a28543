"""Layers that change stride, dilation or kernel size at inference time, their weights untouched (arXiv:2103.09891).

Shapes   B batch, C channels, H height, W width
Differs  a resampled kernel is scaled, not its output, so that the bias is not scaled with it
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

ATTRIBUTES = ("stride", "dilation", "size")


@dataclass(frozen=True)
class Option:
    """The configuration of one site; None keeps the trained value."""

    stride: float | None = None
    """Step of the kernel, 1/2 or a whole number."""
    dilation: int | None = None
    """Distance between the kernel's taps, in pixels."""
    size: int | None = None
    """Side of the kernel, in pixels."""

    def __str__(self) -> str:
        """Return a single value alone, such as "2" or "½", several with their names."""
        words = {n: "½" if value == 0.5 else f"{value:g}" for n, value in vars(self).items() if value is not None}
        return next(iter(words.values())) if len(words) == 1 else " ".join(f"{name} {w}" for name, w in words.items())


Permutation = tuple[Option, ...]
"""One option for every site, in the order of the sites."""


def describe(permutation: Permutation, sites: Sequence[str]) -> str:
    """Return a permutation in words, such as "A 2, B ½"."""
    return ", ".join(f"{site} {option}" for site, option in zip(sites, permutation, strict=True))


class DynamicLayer(nn.Module, abc.ABC):
    """A layer that may change configuration at inference time; at ``Option()`` it computes what it was trained for.

    A layer of your own extends this class, gives ``trained``, and reads ``self.option`` in ``forward``.
    """

    option: Option = Option()
    """The present configuration."""
    site: str | None = None
    """The site that the layer belongs to."""
    takes: tuple[str, ...] = ()
    """The attributes that the layer takes from its site."""

    @property
    @abc.abstractmethod
    def trained(self) -> Option:
        """The trained values, None for each attribute that cannot change."""

    def configure(self, option: Option) -> None:
        """Use ``option`` from now on; a trained value counts as None, so that nothing is recomputed.

        Raises:
            ValueError: an attribute that this layer cannot change, or a value that it cannot take.
        """
        wanted = {}
        for name, own in vars(self.trained).items():
            value = getattr(option, name)
            if value is not None and own is None:
                raise ValueError(
                    f"{type(self).__name__} has no {name} that could change, and {name}={value} was asked for. Leave "
                    "it out, or name another layer."
                )
            if value is not None and (value < 1 or value != int(value)) and (name, value) != ("stride", 0.5):
                raise ValueError(
                    f"{name}={value} is no option: a stride is 1/2 or a whole number from 1, dilation and size are "
                    "whole numbers from 1."
                )
            wanted[name] = None if value == own else value
        self.option = Option(**wanted)


class DynamicConv2d(DynamicLayer, nn.Conv2d):
    """A convolution whose stride, dilation and kernel size may change: (B, C, H, W) -> (B, C', H', W').

    Stride s: the padding stays; 1/2 is the transposed convolution of stride 2, whose output is (2 H, 2 W), or one
    pixel less with an even kernel. Size k and dilation d: the kernel is resampled bilinearly to k x k and scaled by
    (K / k)^2; the padding is d (k // 2). Source: section 3.1 and the appendix.

    The parameters of ``conv``, the trained convolution, are shared, not copied.

    Raises:
        ValueError: it is more than a plain convolution with a square kernel, one stride and zeros as padding.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        if type(conv) is not nn.Conv2d:
            raise ValueError(
                f"{type(conv).__name__} computes more than torch's own convolution, and what it does at another stride "
                "is unknown. Name another layer, or make it a `plainvision.layers.DynamicLayer`."
            )
        plain = {"kernel_size": conv.kernel_size, "stride": conv.stride, "dilation": conv.dilation}
        uneven = [f"{name}={value}" for name, value in plain.items() if len(set(value)) > 1]
        if uneven or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ValueError(
                f"a convolution with {', '.join(uneven) or f'padding={conv.padding!r}, {conv.padding_mode}'} has no "
                "exact counterpart at other strides. Name a layer with a square kernel and zeros as padding."
            )
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size[0],
            conv.stride[0],
            dilation=conv.dilation[0],
            groups=conv.groups,
            device="meta",  # the parameters come with the convolution
        )
        self.padding = conv.padding
        self._reversed_padding_repeated_twice = conv._reversed_padding_repeated_twice
        self.weight, self.bias = conv.weight, conv.bias
        self.train(conv.training)

    @property
    def trained(self) -> Option:
        return Option(self.stride[0], self.dilation[0], self.kernel_size[0])

    def forward(self, input: Tensor) -> Tensor:
        option = self.option
        if option == Option():
            return super().forward(input)
        kernel = resampled_kernel(self.weight, option.size)
        side = kernel.shape[-1]
        dilation = option.dilation or self.dilation[0]
        kept = option.dilation is None and option.size is None
        padding = self.padding if kept else dilation * (side // 2)
        if option.stride == 0.5:
            kernel = transposed_kernel(kernel, self.groups)
            return F.conv_transpose2d(input, kernel, self.bias, 2, dilation * (side // 2), 1, self.groups, dilation)
        stride = self.stride if option.stride is None else int(option.stride)
        return F.conv2d(input, kernel, self.bias, stride, padding, dilation, self.groups)


class DynamicPool2d(DynamicLayer):
    """An average or max pooling whose stride may change: (B, C, H, W) -> (B, C, H', W').

    Window and padding stay. Stride 1/2, which the paper leaves open for a pooling, repeats each pixel to 2 x 2 and
    moves the window by one, so that an average stays an average.

    Raises:
        ValueError: it is no average or max pooling with one stride, or it returns the indices of the maxima.
    """

    def __init__(self, pool: nn.AvgPool2d | nn.MaxPool2d) -> None:
        super().__init__()
        sides = pool.stride if isinstance(pool.stride, tuple) else (pool.stride,)
        if type(pool) not in (nn.AvgPool2d, nn.MaxPool2d) or len(set(sides)) > 1:
            raise ValueError(f"{pool} is no average or max pooling with one stride. Name another layer.")
        if isinstance(pool, nn.MaxPool2d) and pool.return_indices:
            raise ValueError(f"{pool} returns where its maxima were, which another stride moves. Name another layer.")
        self.pool = pool
        self.stride = sides[0]
        self.train(pool.training)

    @property
    def trained(self) -> Option:
        return Option(stride=self.stride)

    def forward(self, x: Tensor) -> Tensor:
        stride = self.option.stride
        if stride is None:
            return self.pool(x)
        if stride == 0.5:
            x = F.interpolate(x, scale_factor=2, mode="nearest-exact")
        step, pool = max(1, int(stride)), self.pool
        if isinstance(pool, nn.MaxPool2d):
            return F.max_pool2d(x, pool.kernel_size, step, pool.padding, pool.dilation, pool.ceil_mode)
        return F.avg_pool2d(
            x, pool.kernel_size, step, pool.padding, pool.ceil_mode, pool.count_include_pad, pool.divisor_override
        )


def dynamic_layer(layer: nn.Module) -> DynamicLayer:
    """Return the dynamic form of a convolution or pooling, with its parameters, or a dynamic layer itself.

    Any other layer is a ValueError.
    """
    if isinstance(layer, DynamicLayer):
        return layer
    if isinstance(layer, nn.Conv2d):
        return DynamicConv2d(layer)
    if isinstance(layer, nn.AvgPool2d | nn.MaxPool2d):
        return DynamicPool2d(layer)
    raise ValueError(
        f"{type(layer).__name__} is no convolution or pooling. Name one, or make the layer a "
        "`plainvision.layers.DynamicLayer`."
    )


def resampled_kernel(weight: Tensor, size: int | None) -> Tensor:
    """Return a kernel (C', C, K, K) resampled bilinearly to (C', C, k, k), times (K / k)^2; None keeps it."""
    if size is None:
        return weight
    kernel = F.interpolate(weight, (size, size), mode="bilinear", align_corners=False)
    return kernel * (weight.shape[-1] / size) ** 2


def transposed_kernel(kernel: Tensor, groups: int) -> Tensor:
    """Return (C, C' / G, k, k) of a kernel (C', C / G, k, k): flipped, the channel axes swapped in each of G groups.

    A transposed convolution with it computes what the convolution would on an image with a zero behind each pixel.
    """
    return kernel.flip(2, 3).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
