"""Vision transformer in which every other block pools its neighbours instead of attending to all patches.

Paper    Han et al. 2022, "Learning Features with Parameter-Free Layers", https://arxiv.org/abs/2202.02777
Code     https://github.com/naver-ai/PfLayer, vit_pf.py (Apache-2.0); its checkpoints load
Differs  images may have any size and need not be square: position embeddings are a grid that is interpolated, as in
         PiT, and patches stay a grid, in the channels_last layout, so that pooling copies nothing
Shapes   B batch, C channels, H height, W width, K classes; h x w patches
"""

import re
from collections.abc import Collection, Mapping, Sequence
from math import isqrt

import torch
import torch.nn.functional as F
from timm.layers import Attention, DropPath, LayerNorm2d, Mlp, PatchEmbed, to_2tuple
from torch import Tensor, nn

from plainvision.layers.spatial_pool import pooled_blocks, spatial_pool
from plainvision.models.backbone import Backbone, Groups
from plainvision.models.family import Variant, register_family
from plainvision.models.registry import Published

torch.fx.wrap("positions_at")  # a tracer cannot follow its branch

_HEAD_CHANNELS = 64


class EffLayer(nn.Module):
    """Expand, GELU, pool, GELU, project: patches (B, N, C) and their grid (h, w) -> (B, N, C), N = h w.

    3 C channels are pooled, which costs what attention's query, key and value do. ``op`` and ``kernel_size`` are those
    of `spatial_pool`, and so is ``dilation``.
    """

    def __init__(self, channels: int, *, op: str = "max", kernel_size: int = 3, dilation: int = 1) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, 3 * channels)
        self.act = nn.GELU()
        self.pool = spatial_pool(op, kernel_size=kernel_size, dilation=dilation)
        self.proj = nn.Linear(3 * channels, channels)

    def forward(self, x: Tensor, grid: Sequence[int]) -> Tensor:
        x = self.act(self.expand(x))
        # Views on both sides: patches with their channels side by side are an image in the channels_last layout.
        x = self.pool(x.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)
        return self.proj(self.act(x))


class EffBlock(nn.Module):
    """A transformer's block that mixes patches by pooling or by attention: (B, C, h, w) -> (B, C, h, w).

    Features come and go in the channels_last layout, in which patches with their channels are a view.

    ``op`` is the pooling, "max" or "avg", or None for attention, which sees all patches and needs no ``dilation``;
    ``drop_path`` is both branches' stochastic depth.
    """

    def __init__(
        self, channels: int, *, heads: int, op: str | None, kernel_size: int, drop_path: float, dilation: int = 1
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.mix = (
            Attention(channels, num_heads=heads, qkv_bias=True)
            if op is None
            else EffLayer(channels, op=op, kernel_size=kernel_size, dilation=dilation)
        )
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels, 4 * channels)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        grid = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        normed = self.norm1(x)
        mixed = self.mix(normed, grid) if isinstance(self.mix, EffLayer) else self.mix(normed)
        x = x + self.drop_path(mixed)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x.transpose(1, 2).unflatten(2, grid)


class ViTPF(Backbone):
    """Vision transformer with parameter-free layers: images (B, in_chans, H, W) -> logits (B, K).

    There is no class token; the classifier reads the mean of the patches.

    Args:
        heads: of each attention, 64 channels to each.
        depth: number of blocks.
        op: the pooling, "max" or "avg".
        kernel_size: side of the pooling's window, in patches.
        pooled: which blocks pool, as in `pooled_blocks`; the others have attention.
        width: multiplies the heads, and so the channels.
        img_size: side, or (H, W), of the images whose positions are learned; others get interpolated ones.
        patch_size: side of a patch, in pixels.

    Raises:
        ValueError: an unknown value of ``op``, ``pooled`` or ``global_pool``, an even window, no block, a width that
            is not above zero, or an ``img_size`` without a whole patch.
    """

    row = ("blocks.*", "norm")
    groups = Groups(r"^patch_embed|^pos_embed", [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))])
    undecayed = frozenset({"pos_embed"})
    norm_name = "norm"

    def __init__(
        self,
        *,
        heads: int,
        depth: int = 12,
        op: str = "max",
        kernel_size: int = 3,
        pooled: str | Collection[int] = "odd",
        num_classes: int = 1000,
        in_chans: int = 3,
        width: float = 1.0,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(in_chans, drop_rate)
        heads, grid = heads_and_grid(heads, width, img_size, patch_size, patch_size)
        channels = _HEAD_CHANNELS * heads
        self.embed_dim = self.num_features = self.head_hidden_size = channels
        self.feature_info = [
            {"num_chs": channels, "reduction": patch_size, "module": f"blocks.{i}"} for i in range(depth)
        ]

        self.patch_embed = PatchEmbed(None, patch_size, in_chans, channels, flatten=False, strict_img_size=False)
        self.pos_embed = nn.Parameter(torch.zeros(1, channels, *grid))
        (pools,) = pooled_blocks(pooled, [depth])
        self.blocks = nn.Sequential(
            *(
                EffBlock(
                    channels,
                    heads=heads,
                    op=op if pool else None,
                    kernel_size=kernel_size,
                    drop_path=drop_path_rate * i / max(1, depth - 1),
                )
                for i, pool in enumerate(pools)
            )
        )
        self.norm: nn.Module = LayerNorm2d(channels, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.reset_classifier(num_classes, global_pool)
        self.apply(_init_weights)

    def embed(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).contiguous(memory_format=torch.channels_last)
        return x + positions_at(self.pos_embed, x.shape[2:])

    def new_head(self, num_classes: int, global_pool: str) -> dict[str, nn.Module]:
        return {name: layer.apply(_init_weights) for name, layer in super().new_head(num_classes, global_pool).items()}

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict of the official code with our keys, its position embeddings as the grid that they are."""
        state = rename_mixers(self, {re.sub(r"^head\.(\w+)$", r"head.linear.\1", key): state[key] for key in state})
        positions = state.get("pos_embed")
        if positions is not None and positions.ndim == 3:
            side = isqrt(positions.shape[1])
            state["pos_embed"] = positions.transpose(1, 2).unflatten(2, (side, -1))
        return state


def positions_at(positions: Tensor, size: Sequence[int]) -> Tensor:
    """Return position embeddings (1, C, h, w) interpolated to a grid of ``size`` (H, W): (1, C, H, W).

    Bicubic interpolation, as the official code of PiT has it (arXiv:2103.16302).
    """
    # Comparing a size that an export leaves open would fix it.
    if all(isinstance(side, int) for side in size) and tuple(size) == tuple(positions.shape[2:]):
        return positions
    # Half precision has no bicubic kernel on every device.
    return F.interpolate(positions.float(), size=tuple(size), mode="bicubic").to(positions.dtype)


def heads_and_grid(
    heads: int, width: float, img_size: int | tuple[int, int], patch_size: int, stride: int
) -> tuple[int, list[int]]:
    """Return ``width`` times the heads, and the grid of patches (h, w) of an image; a ValueError where either is 0."""
    if width <= 0:
        raise ValueError(f"width={width} leaves no heads. Give a multiplier above zero, for instance 0.5.")
    grid = [(side - patch_size) // stride + 1 for side in to_2tuple(img_size)]
    if min(grid) < 1:
        raise ValueError(
            f"img_size={img_size} has no whole patch of patch_size={patch_size} pixels. Give a larger img_size, or "
            "a smaller patch_size."
        )
    return max(1, round(heads * width)), grid


def rename_mixers(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``state`` with our keys for the blocks' mixers; the official code calls attention and eff-layer alike."""
    pooling = {name.removesuffix(".mix") for name, module in model.named_modules() if isinstance(module, EffLayer)}

    def rename(key: str) -> str:
        block, official, rest = key.partition(".attn.")
        if not official:
            return key
        return f"{block}.mix.{rest.replace('qkv.', 'expand.') if block in pooling else rest}"

    return {rename(key): value for key, value in state.items()}


def _init_weights(module: nn.Module) -> None:
    """Initialise as the official code: truncated normal, 0.02; the patches' convolution as torch does."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


SOURCE = "the official model page of arXiv:2202.02777, with DeiT's settings, for the size S alone"
# No url: the official weights are on Google Drive, from where no program can load them.
PAPER = {
    "classifier": "head.linear",
    "license": "apache-2.0",
    "paper_name": "Learning Features with Parameter-Free Layers",
    "paper_ids": "arXiv:2202.02777",
    "origin_url": "https://github.com/naver-ai/PfLayer",
}

register_family(
    "vit_pf",
    ViTPF,
    {
        name: Variant({"heads": heads}, Published(top1, SOURCE))
        for name, heads, top1 in (("vit_ti_max", 3, None), ("vit_s_max", 6, 80.0), ("vit_b_max", 12, None))
    },
    tag="naver_in1k",
    cfg={"min_input_size": (3, 16, 16), "pool_size": (14, 14), "first_conv": "patch_embed.proj", **PAPER},
    out_indices=(-3, -2, -1),
)
