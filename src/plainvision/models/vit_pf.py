"""Vision transformer in which every other block pools its neighbours instead of attending to all patches.

Paper    Han et al. 2022, "Learning Features with Parameter-Free Layers", https://arxiv.org/abs/2202.02777
Code     https://github.com/naver-ai/PfLayer, vit_pf.py (Apache-2.0); its checkpoints load
Differs  images may have any size and need not be square: position embeddings are a grid that is interpolated, as in
         PiT, and patches stay a grid, in the channels_last layout, so that pooling copies nothing
Shapes   B batch, C channels, H height, W width, K classes; h x w patches
"""

import re
from collections.abc import Collection, Mapping
from functools import partial
from math import isqrt
from typing import Any, NamedTuple

import torch
from timm.layers import Attention, DropPath, LayerNorm2d, Mlp, PatchEmbed, to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices  # timm's own, so that indices mean what its users expect
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from plainvision.layers.eff_layer import EffLayer
from plainvision.layers.pooled_classifier import PooledClassifier
from plainvision.layers.positions import positions_at
from plainvision.layers.spatial_pool import pooled_blocks
from plainvision.models.intermediates import run_with_intermediates
from plainvision.models.loading import OfficialLayout
from plainvision.models.registry import Published, add_family


class Variant(NamedTuple):
    """One network: attention heads of 64 channels, and top-1 accuracy with DeiT's settings."""

    heads: int
    top1: float | None


_VARIANTS = {"vit_ti_max": Variant(3, None), "vit_s_max": Variant(6, 80.0), "vit_b_max": Variant(12, None)}
_HEAD_CHANNELS = 64


class EffBlock(nn.Module):
    """A transformer's block that mixes patches by pooling or by attention: (B, C, h, w) -> (B, C, h, w).

    Features come and go in the channels_last layout, in which patches with their channels are a view.

    Args:
        channels: C.
        heads: of the attention, where there is one.
        op: "max" or "avg", how the block pools; None for attention.
        kernel_size: side of the pooling's window.
        drop_path: stochastic depth of both branches.
    """

    def __init__(self, channels: int, *, heads: int, op: str | None, kernel_size: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.mix = (
            Attention(channels, num_heads=heads, qkv_bias=True)
            if op is None
            else EffLayer(channels, op=op, kernel_size=kernel_size)
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


class ViTPF(OfficialLayout):
    """Vision transformer with parameter-free layers: images (B, in_chans, H, W) -> logits (B, K).

    There is no class token; the classifier reads the mean of the patches.

    Args:
        heads: of each attention, 64 channels to each.
        depth: number of blocks.
        op: what blocks pool by, "max" or "avg".
        kernel_size: side of the pooling's window, in patches.
        pooled: which blocks pool: "odd", counted from 0; "even", "all", "none", or the blocks' numbers. The others
            have attention.
        num_classes: K; 0 returns the pooled features.
        width: multiplies the heads, and so the channels.
        img_size: side, or (H, W), of the images whose positions are learned; others get interpolated ones.
        patch_size: side of a patch, in pixels.
        global_pool: "avg", "max", or "" for none, without classes.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0.

    Raises:
        ValueError: an unknown value of ``op``, ``pooled`` or ``global_pool``, an even window, no block, a width that
            is not above zero, or an ``img_size`` without a whole patch.
    """

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
        super().__init__()
        if width <= 0:
            raise ValueError(f"width={width} leaves no heads. Give a multiplier above zero, for instance 0.5.")
        grid = [side // patch_size for side in to_2tuple(img_size)]
        if min(grid) < 1:
            raise ValueError(
                f"img_size={img_size} has no whole patch of patch_size={patch_size} pixels. Give a larger img_size, or "
                "a smaller patch_size."
            )
        heads = max(1, round(heads * width))
        channels = _HEAD_CHANNELS * heads
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.embed_dim = self.num_features = self.head_hidden_size = channels
        self.feature_info = [
            {"num_chs": channels, "reduction": patch_size, "module": f"blocks.{i}"} for i in range(depth)
        ]

        self.patch_embed = PatchEmbed(None, patch_size, in_chans, channels, flatten=False)
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
        self.head = PooledClassifier(channels, num_classes, pooling=global_pool, drop_rate=drop_rate)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.apply(_init_weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return what the blocks make of the patches, normalised, (B, C, h, w)."""
        x = self._embed(x)
        for block in self.blocks:
            x = self._run(block, x)
        return self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K) of features (B, C, h, w), or the pooled features (B, C) before the classifier."""
        return self.head(x, pre_logits)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the last features and the intermediate ones at ``indices`` of ``feature_info``, as timm does.

        Raises:
            ValueError: ``output_fmt`` is not "NCHW".
        """
        blocks = {f"blocks.{i}": partial(self._run, block) for i, block in enumerate(self.blocks)}
        found = run_with_intermediates(
            self._embed(x),
            {**blocks, "norm": self.norm},
            list(blocks),
            indices=indices,
            stop_early=stop_early,
            output_fmt=output_fmt,
            intermediates_only=intermediates_only,
        )
        if not norm:
            return found
        if isinstance(found, tuple):
            return found[0], [self.norm(x) for x in found[1]]
        return [self.norm(x) for x in found]

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what is not needed for the intermediates at ``indices``, as timm does, and return them."""
        take, last = feature_take_indices(len(self.blocks), indices)
        self.blocks = self.blocks[: last + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return take

    def get_classifier(self) -> nn.Module:
        """Return the classifier: a linear layer, or an identity without classes."""
        return self.head.linear

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one, on the network's device, and the pooling where another is named.

        Raises:
            ValueError: the pooling is unknown, or missing in front of classes.
        """
        self.head.reset(num_classes, global_pool, like=self.pos_embed)
        self.head.apply(_init_weights)
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the layers' groups, for layer-wise decay: the patches, each block, the last norm and classifier."""
        return {"stem": r"^patch_embed|^pos_embed", "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]}

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay spares, beside biases and norms: the position embeddings."""
        return {"pos_embed"}

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict of the official code with our keys, its position embeddings as the grid that they are."""
        state = rename_mixers(self, {re.sub(r"^head\.(\w+)$", r"head.linear.\1", key): state[key] for key in state})
        positions = state.get("pos_embed")
        if positions is not None and positions.ndim == 3:
            side = isqrt(positions.shape[1])
            state["pos_embed"] = positions.transpose(1, 2).unflatten(2, (side, -1))
        return state

    def _embed(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).contiguous(memory_format=torch.channels_last)
        return x + positions_at(self.pos_embed, x.shape[2:])

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training:
            return checkpoint(block, x, use_reentrant=False)
        return block(x)


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


# The official weights are on Google Drive, from where no program can load them.
_CFG = {
    "url": "",
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "min_input_size": (3, 16, 16),
    "pool_size": (14, 14),
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "first_conv": "patch_embed.proj",
    "classifier": "head.linear",
    "license": "apache-2.0",
    "paper_name": "Learning Features with Parameter-Free Layers",
    "paper_ids": "arXiv:2202.02777",
    "origin_url": "https://github.com/naver-ai/PfLayer",
}

default_cfgs = generate_default_cfgs({f"{name}.naver_in1k": _CFG for name in _VARIANTS})


def _register(name: str, variant: Variant) -> None:
    def build(pretrained: bool = False, **options: Any) -> ViTPF:  # timm's signature
        return build_model_with_cfg(
            ViTPF,
            name,
            pretrained,
            feature_cfg={"out_indices": 3, "feature_cls": "getter"},
            **{"heads": variant.heads, **options},
        )

    build.__name__ = name
    register_model(build)


for _name, _variant in _VARIANTS.items():
    _register(_name, _variant)

add_family(
    "vit_pf",
    {
        name: Published(
            variant.top1, "the official model page of arXiv:2202.02777, with DeiT's settings, for the size S alone"
        )
        for name, variant in _VARIANTS.items()
    },
)
