"""Pooling-based vision transformer (PiT) in which every other block pools instead of attending to all patches.

Paper    Han et al. 2022, "Learning Features with Parameter-Free Layers", https://arxiv.org/abs/2202.02777, after
         Heo et al. 2021, "Rethinking Spatial Dimensions of Vision Transformers", https://arxiv.org/abs/2103.16302
Code     https://github.com/naver-ai/PfLayer, pit_pf.py (Apache-2.0); its checkpoints load
Differs  images need not be square; the classifier can be replaced, which fails in the official code; patches stay in
         the channels_last layout
Shapes   B batch, C channels, H height, W width, K classes; h x w patches
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from timm.layers import LayerNorm2d, to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices  # timm's own, so that indices mean what its users expect
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

from plainvision.layers.pooled_classifier import PooledClassifier
from plainvision.layers.positions import positions_at
from plainvision.layers.spatial_pool import pooled_blocks
from plainvision.models.intermediates import run_with_intermediates
from plainvision.models.loading import OfficialLayout
from plainvision.models.registry import Published, add_family
from plainvision.models.vit_pf import EffBlock, rename_mixers


class Variant(NamedTuple):
    """One network: its patches, the first stage's heads, each stage's blocks, and top-1 with DeiT's settings."""

    patch_size: int
    stride: int
    head_channels: int
    heads: int
    depths: tuple[int, ...]
    top1: float | None


_VARIANTS = {
    "pit_ti_max": Variant(16, 8, 32, 2, (2, 6, 4), None),
    "pit_s_max": Variant(16, 8, 48, 3, (2, 6, 4), 80.8),
    "pit_b_max": Variant(14, 7, 64, 4, (3, 6, 4), None),
}


class Stage(nn.Module):
    """Blocks at one resolution, behind what halves it: (B, C, h, w) -> (B, C', h', w').

    Args:
        pool: a depthwise convolution of stride 2; in the first stage an identity.
        blocks: the blocks.
    """

    def __init__(self, pool: nn.Module, blocks: nn.Sequential) -> None:
        super().__init__()
        self.pool = pool
        self.blocks = blocks
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        if self.grad_checkpointing and self.training:
            return checkpoint_sequential(self.blocks, len(self.blocks), x, use_reentrant=False)
        return self.blocks(x)


class PiTPF(OfficialLayout):
    """PiT with parameter-free layers: images (B, in_chans, H, W) -> logits (B, K).

    Args:
        patch_size: side of a patch, in pixels.
        stride: pixels from one patch to the next; patches overlap.
        head_channels: channels of each attention head.
        heads: of the attention in the first stage; each further stage has twice those of the one before.
        depths: blocks of each stage.
        op: what blocks pool by, "max" or "avg".
        kernel_size: side of the pooling's window, in patches.
        pooled: which blocks pool: "odd" ones of each stage, counted from 0; "even", "all", "none", or the numbers of
            blocks, counted through the network. The others have attention.
        num_classes: K; 0 returns the pooled features.
        width: multiplies the heads, and so the channels.
        img_size: side, or (H, W), of the images whose positions are learned; others get interpolated ones.
        global_pool: "avg", "max", or "" for none, without classes.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth; of n blocks, block i, counted from 0, has i / n of it.

    Raises:
        ValueError: an unknown value of ``op``, ``pooled`` or ``global_pool``, an even window, a stage without blocks,
            a width that is not above zero, or an ``img_size`` without a whole patch.
    """

    def __init__(
        self,
        *,
        patch_size: int,
        stride: int,
        head_channels: int,
        heads: int,
        depths: Sequence[int],
        op: str = "max",
        kernel_size: int = 3,
        pooled: str | Collection[int] = "odd",
        num_classes: int = 1000,
        in_chans: int = 3,
        width: float = 1.0,
        img_size: int | tuple[int, int] = 224,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if width <= 0:
            raise ValueError(f"width={width} leaves no heads. Give a multiplier above zero, for instance 0.5.")
        grid = [(side - patch_size) // stride + 1 for side in to_2tuple(img_size)]
        if min(grid) < 1:
            raise ValueError(
                f"img_size={img_size} has no whole patch of patch_size={patch_size} pixels. Give a larger img_size, or "
                "a smaller patch_size."
            )
        heads = max(1, round(heads * width))
        channels = [head_channels * heads * 2**stage for stage in range(len(depths))]
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.embed_dim = self.num_features = self.head_hidden_size = channels[-1]
        self.feature_info = [
            {"num_chs": count, "reduction": stride * 2**stage, "module": f"stages.{stage}"}
            for stage, count in enumerate(channels)
        ]

        self.patch_embed = nn.Conv2d(in_chans, channels[0], patch_size, stride)
        self.pos_embed = nn.Parameter(torch.zeros(1, channels[0], *grid))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        stages: list[Stage] = []
        for stage, pools in enumerate(pooled_blocks(pooled, depths)):
            done = sum(depths[:stage])
            blocks = [
                EffBlock(
                    channels[stage],
                    heads=heads * 2**stage,
                    op=op if pool else None,
                    kernel_size=kernel_size,
                    drop_path=drop_path_rate * (done + block) / sum(depths),
                )
                for block, pool in enumerate(pools)
            ]
            before, after = channels[max(0, stage - 1)], channels[stage]
            halve = nn.Conv2d(before, after, 3, 2, 1, groups=before) if stage else nn.Identity()
            stages.append(Stage(halve, nn.Sequential(*blocks)))
        self.stages = nn.Sequential(*stages)
        self.norm: nn.Module = LayerNorm2d(channels[-1], eps=1e-6)
        self.head = PooledClassifier(channels[-1], num_classes, pooling=global_pool, drop_rate=drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's output, normalised, (B, C, h, w)."""
        return self.norm(self.stages(self._embed(x)))

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

        The norm belongs to the last stage alone, so that ``norm`` changes nothing.

        Raises:
            ValueError: ``output_fmt`` is not "NCHW".
        """
        stages = {f"stages.{i}": stage for i, stage in enumerate(self.stages)}
        return run_with_intermediates(
            self._embed(x),
            {**stages, "norm": self.norm},
            list(stages),
            indices=indices,
            stop_early=stop_early,
            output_fmt=output_fmt,
            intermediates_only=intermediates_only,
        )

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what is not needed for the intermediates at ``indices``, as timm does, and return them."""
        take, last = feature_take_indices(len(self.stages), indices)
        if prune_norm or last + 1 < len(self.stages):  # the norm has the last stage's channels
            self.norm = nn.Identity()
        self.stages = self.stages[: last + 1]
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
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        for stage in self.stages:
            assert isinstance(stage, Stage)
            stage.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the layers' groups, for layer-wise decay: the patches, each block or stage, the norm and classifier.

        What halves the image goes with the block behind it.
        """
        blocks: list[tuple[str, tuple[int] | None]] = [(r"^stages\.(\d+)", None)]
        if not coarse:
            blocks = [(r"^stages\.(\d+)\.pool", (0,)), (r"^stages\.(\d+)\.blocks\.(\d+)", None)]
        return {"stem": r"^patch_embed|^pos_embed", "blocks": [*blocks, (r"^norm", (99999,))]}

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay spares, beside biases and norms: the position embeddings."""
        return {"pos_embed"}

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict of the official code with our keys."""
        return rename_mixers(self, {_rename(key): value for key, value in state.items()})

    def _embed(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).contiguous(memory_format=torch.channels_last)
        return x + positions_at(self.pos_embed, x.shape[2:])


_OFFICIAL = (
    (r"^patch_embed\.conv\.", "patch_embed."),
    (r"^transformers\.", "stages."),
    (r"^pools\.(\d+)\.conv\.", lambda found: f"stages.{int(found[1]) + 1}.pool."),
    (r"^head\.(\w+)$", r"head.linear.\1"),
)


def _rename(key: str) -> str:
    for pattern, ours in _OFFICIAL:
        key = re.sub(pattern, ours, key)
    return key


def _cfg(variant: Variant) -> dict[str, Any]:
    return {
        "url": "",  # the official weights are on Google Drive, from where no program can load them
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "min_input_size": (3, variant.patch_size, variant.patch_size),
        "pool_size": (7, 7) if variant.stride == 8 else (8, 8),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "patch_embed",
        "classifier": "head.linear",
        "license": "apache-2.0",
        "paper_name": "Learning Features with Parameter-Free Layers",
        "paper_ids": "arXiv:2202.02777",
        "origin_url": "https://github.com/naver-ai/PfLayer",
    }


default_cfgs = generate_default_cfgs({f"{name}.naver_in1k": _cfg(variant) for name, variant in _VARIANTS.items()})


def _register(name: str, variant: Variant) -> None:
    def build(pretrained: bool = False, **options: Any) -> PiTPF:  # timm's signature
        own = variant._asdict()
        del own["top1"]
        return build_model_with_cfg(
            PiTPF,
            name,
            pretrained,
            feature_cfg={"out_indices": (0, 1, 2), "feature_cls": "getter"},
            **{**own, **options},
        )

    build.__name__ = name
    register_model(build)


for _name, _variant in _VARIANTS.items():
    _register(_name, _variant)

add_family(
    "pit_pf",
    {
        name: Published(
            variant.top1, "the official model page of arXiv:2202.02777, with DeiT's settings, for the size S alone"
        )
        for name, variant in _VARIANTS.items()
    },
)
