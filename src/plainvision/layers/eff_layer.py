"""The eff-layer of ViT and PiT: pooling between two linear layers in the place of attention (arXiv:2202.02777)."""

from collections.abc import Sequence

from torch import Tensor, nn

from plainvision.layers.spatial_pool import spatial_pool


class EffLayer(nn.Module):
    """Expand, GELU, pool, GELU, project: patches (B, N, C) and their grid (h, w) -> (B, N, C), N = h w.

    3 C channels are pooled, which costs what attention's query, key and value do. ``op`` and ``kernel_size`` are those
    of `spatial_pool`.
    """

    def __init__(self, channels: int, *, op: str = "max", kernel_size: int = 3) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, 3 * channels)
        self.act = nn.GELU()
        self.pool = spatial_pool(op, kernel_size=kernel_size)
        self.proj = nn.Linear(3 * channels, channels)

    def forward(self, x: Tensor, grid: Sequence[int]) -> Tensor:
        x = self.act(self.expand(x))
        # Views on both sides: patches with their channels side by side are an image in the channels_last layout.
        x = self.pool(x.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)
        return self.proj(self.act(x))
