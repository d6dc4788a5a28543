"""The layers that `spatial_op` puts into a network.

Shapes   B batch, C channels, H height, W width, N = P + H W tokens, of which P are class and register tokens
"""

import abc

import torch
import torch.nn.functional as F
from timm.layers import pad_same
from torch import Tensor, nn


class SpatialOp(nn.Module, abc.ABC):
    """A spatial operation that knows which layer was in its place.

    That layer, ``original``, is no submodule: neither the state dict nor the parameters hold its weights, and nothing
    trains or moves them. A copy of the network has a copy of it.
    """

    def __init__(self, op: str, original: nn.Module) -> None:
        super().__init__()
        self.op = op
        self._original = (original,)  # torch would make a submodule of it, were it not in a tuple

    @property
    def original(self) -> nn.Module:
        """The layer that the network was built with."""
        return self._original[0]

    def extra_repr(self) -> str:
        return f"op={self.op}"


class FeatureOp(SpatialOp):
    """A spatial operation on features: (B, C, H, W) -> (B, C, H', W'), with the size of the replaced convolution's."""

    def __init__(self, op: str, layer: nn.Module, original: nn.Module) -> None:
        super().__init__(op, original)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class TokenGrid:
    """Height and width of the latest images' grid of patches: a forward hook of the layer that makes them."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, layer: nn.Module, images: object, patches: Tensor) -> None:
        self.size = (patches.shape[-2], patches.shape[-1])


class TokenOp(SpatialOp):
    """A spatial operation in the place of self-attention: tokens (B, N, C) -> (B, N, C).

    Attention's values and its output projection stay, on either side of the operation; queries and keys, which only
    say where to look, go. Class and register tokens are no places in the image and pass the operation by.

    Args:
        op: the operation's name.
        layer: the operation, (B, C', H, W) -> (B, C', H, W).
        original: the attention that was there.
        projections: by attention's own names ``v``, ``norm``, ``proj``, ``proj_drop`` and, where it has one, ``gate``.
        grid: of the patches.
        prefix: number of tokens in front of the patches.
    """

    def __init__(
        self,
        op: str,
        layer: nn.Module,
        original: nn.Module,
        *,
        projections: dict[str, nn.Module],
        grid: TokenGrid,
        prefix: int,
    ) -> None:
        super().__init__(op, original)
        self.v, self.norm = projections["v"], projections["norm"]
        self.layer = layer
        self.gate = projections.get("gate")
        self.proj, self.proj_drop = projections["proj"], projections["proj_drop"]
        self.grid = grid
        self.prefix = prefix

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        if attn_mask is not None or is_causal:
            raise ValueError(
                f"the spatial operation {self.op!r} stands where attention was, and takes no mask: it looks at the "
                "neighbours of each patch, whichever they are. Call the network without a mask."
            )
        height, width = self.grid.size
        if x.shape[1] != self.prefix + height * width:
            raise ValueError(
                f"{x.shape[1]} tokens are not {self.prefix} in front and a grid of {height} x {width} patches: some "
                f"were dropped, and {self.op!r} needs all. Build the network without patch dropout."
            )
        values = self.v(x)
        front, patches = values[:, : self.prefix], values[:, self.prefix :]
        mixed = self.layer(patches.transpose(1, 2).unflatten(2, (height, width)))
        out = self.norm(torch.cat([front, mixed.flatten(2).transpose(1, 2)], dim=1))
        if self.gate is not None:
            out = out * self.gate(x).sigmoid()
        return self.proj_drop(self.proj(out))

    def projections(self) -> dict[str, nn.Module]:
        """Return the layers on either side of the operation, by attention's own names."""
        return {name: layer for name, layer in self.named_children() if name != "layer"}


class Subsample(nn.Module):
    """The first pixel of each step of the stride: (B, C, H, W) -> (B, C, ceil(H / sh), ceil(W / sw))."""

    def __init__(self, stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride[0], :: self.stride[1]]

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class SameAvgPool(nn.Module):
    """An average with the padding of TensorFlow's SAME, which does not count the padding as timm's own does."""

    def __init__(self, kernel_size: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        inside = torch.ones_like(x[:1, :1])
        total, share = (
            F.avg_pool2d(pad_same(one, self.kernel_size, self.stride), self.kernel_size, self.stride)
            for one in (x, inside)
        )
        return total / share
