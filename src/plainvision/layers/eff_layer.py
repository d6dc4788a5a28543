"""The eff-layer of ViT and PiT: max pooling between two linear layers, where attention was (arXiv:2202.02777).

Shapes   B batch, C channels, h x w patches, N = h w
"""

from collections.abc import Sequence

from torch import Tensor, nn

from plainvision.layers.spatial_pool import spatial_pool


class EffLayer(nn.Module):
    """Expand, pool with the neighbours, project: patches (B, N, C) and their grid (h, w) -> (B, N, C).

    A GELU stands before the pooling and another behind it, as in the official code.

    Args:
        channels: C.
        op: "max" or "avg".
        kernel_size: side of the pooling's window.
        expansion: how many times C channels are pooled; 3 costs what attention's query, key and value do.
    """

    def __init__(self, channels: int, *, op: str = "max", kernel_size: int = 3, expansion: int = 3) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, expansion * channels)
        self.act = nn.GELU()
        self.pool = spatial_pool(op, kernel_size=kernel_size)
        self.proj = nn.Linear(expansion * channels, channels)

    def forward(self, x: Tensor, grid: Sequence[int]) -> Tensor:
        x = self.act(self.expand(x))
        # Views on both sides: patches with their channels side by side are an image in the channels_last layout.
        x = self.pool(x.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)
        return self.proj(self.act(x))
