"""PatchConvNet: a column of equal convolutional blocks on patches, and attention pooling on top.

Paper    Touvron et al. 2021, https://arxiv.org/abs/2112.13692
Code     https://github.com/facebookresearch/deit, README_patchconvnet.md (Apache-2.0); its checkpoints load
Differs  activations keep one memory layout, channels_last, so that no block transposes them; images need not be
         square; with one class token per class all logits come from one layer, not from a loop over K
Shapes   B batch, C channels, H height, W width, K classes; a patch has 16x16 pixels
"""

import copy
import re
from collections import OrderedDict
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerNorm2d, SqueezeExcite
from torch import Tensor, nn

from plainvision.layers.attention_pool import AttentionPool, ClassTokenLogits
from plainvision.layers.fusable import Fusable, fold_batch_norm_before, new_conv
from plainvision.models.backbone import Backbone, Groups, rename
from plainvision.models.family import Variant, register_family
from plainvision.models.registry import Measured, Published


class PatchGELU(nn.Module):
    """GELU on features (B, C, H, W) in channels_last layout: torch's fast CPU kernel wants it to look contiguous."""

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ColumnBlock(Fusable):
    """A block of the column, a residual branch: (B, C, H, W) -> (B, C, H, W) (section 3.1 and Figure 3)."""

    def __init__(self, channels: int, norm: Literal["layer", "batch"], layer_scale: float, drop_path: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            OrderedDict(
                norm=LayerNorm2d(channels, eps=1e-6) if norm == "layer" else nn.BatchNorm2d(channels),
                point1=nn.Conv2d(channels, channels, 1),
                act1=PatchGELU(),
                depthwise=nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
                act2=PatchGELU(),
                squeeze=SqueezeExcite(channels, rd_channels=max(1, channels // 4)),
                point2=nn.Conv2d(channels, channels, 1),
            )
        )
        self.scale = nn.Parameter(torch.full((channels,), layer_scale))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        # x + scale * branch, in one pass over memory.
        return torch.addcmul(x, self.scale[:, None, None], self.drop_path(self.branch(x)))

    def fuse(self) -> nn.Module:
        """Return the block with LayerScale, and the norm where it is a batch norm, inside its 1x1 convolutions."""
        layers = OrderedDict(copy.deepcopy(self.branch).named_children())
        norm, first, last = layers["norm"], layers["point1"], layers["point2"]
        assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d) and last.bias is not None  # noqa: PT018
        if isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
            del layers["norm"]
            layers["point1"] = fold_batch_norm_before(norm, first)
        scale = self.scale.double()
        layers["point2"] = new_conv(last, scale[:, None, None, None] * last.weight.double(), scale * last.bias.double())
        return Residual(nn.Sequential(layers))


class Residual(nn.Module):
    """What is left of a block in deployed form: x + branch(x)."""

    def __init__(self, branch: nn.Sequential) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class PatchConvNet(Backbone):
    """PatchConvNet: images (B, in_chans, H, W) -> logits (B, K).

    Args:
        embed_dim: C, the paper's width d.
        depth: number of blocks.
        pooling: "attention" or "average" (Table 5); "" for none, without classes.
        per_class: one class token per class, for one attention map per class.
        heads: of the attention pooling.
        stem: "conv", four convolutions of stride 2, or "linear", one of 16x16 pixels (Table 5).
        norm: "layer" or "batch", in the column (Table B.3); the pooling always has layer norms.
        layer_scale: initial LayerScale of each residual branch.
        global_pool: timm's name for ``pooling``, which also knows "avg"; it wins where both are given.
        deployed: build the form that `plainvision.fuse` returns.
        drop_path_rate: stochastic depth of every block alike.

    Raises:
        ValueError: an unknown pooling, stem or norm, or one that does not go with another option.
    """

    row = ("stem", "blocks.*")
    groups = Groups(r"^stem", [(r"^blocks\.(\d+)", None), (r"^pool", (99999,))])
    default_pool = "attention"
    undecayed = frozenset({"pool.token"})

    def __init__(
        self,
        *,
        embed_dim: int,
        depth: int,
        num_classes: int = 1000,
        in_chans: int = 3,
        pooling: str = "attention",
        per_class: bool = False,
        heads: int = 1,
        stem: Literal["conv", "linear"] = "conv",
        norm: Literal["layer", "batch"] = "layer",
        layer_scale: float = 1e-4,
        global_pool: str | None = None,
        deployed: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(in_chans, drop_rate)
        if stem not in ("conv", "linear"):
            raise ValueError(f"unknown stem {stem!r}: PatchConvNet knows 'conv' and 'linear'.")
        if norm not in ("layer", "batch"):
            raise ValueError(f"unknown norm {norm!r}: PatchConvNet knows 'layer' and 'batch'.")
        if embed_dim < 8 or embed_dim % 8:
            raise ValueError(f"embed_dim={embed_dim}: the stem starts with an eighth of it. Give a multiple of 8.")
        self.per_class = per_class
        self.heads = heads
        self.layer_scale = layer_scale
        self.embed_dim = self.num_features = self.head_hidden_size = embed_dim
        self.feature_info = [{"num_chs": embed_dim, "reduction": 16, "module": f"blocks.{i}"} for i in range(depth)]

        self.stem = _stem(in_chans, embed_dim, linear=stem == "linear")
        blocks = (ColumnBlock(embed_dim, norm, layer_scale, drop_path_rate) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.head_drop = nn.Dropout(drop_rate)
        self.global_pool = ""
        self.pool: nn.Module = nn.Identity()
        self.reset_classifier(num_classes, pooling if global_pool is None else global_pool)
        if deployed:
            self.blocks = nn.Sequential(*(block.fuse() for block in self.blocks if isinstance(block, ColumnBlock)))
            self.pool = self.pool.fuse() if isinstance(self.pool, AttentionPool) else self.pool

    def embed(self, x: Tensor) -> Tensor:
        # Convolutions, activations and additions keep this layout, and the layer norms want it: the channels of a
        # patch lie side by side.
        return x.contiguous(memory_format=torch.channels_last)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K) of features (B, C, H, W), or the pooled features (B, C) before the classifier.

        With one class token per class, these are the mean over the tokens.
        """
        x = self.head_drop(self.pool(x))
        if pre_logits or self.num_classes == 0:
            return x.mean(1) if self.per_class and self.global_pool == "attention" else x
        return self.head(x)

    def new_head(self, num_classes: int, global_pool: str) -> dict[str, nn.Module]:
        """Return the classifier, and the pooling unless it is there; new class tokens start as the mean of the present.

        A deployed pooling with one class token per class is a ValueError: its classes are folded in.
        """
        if num_classes and global_pool == "":
            raise ValueError("a classifier needs pooled features. Give num_classes=0, or a pooling.")
        head = {"head": _classifier(self.embed_dim, num_classes, self.per_class)}
        if global_pool != self.global_pool:
            return head | {"pool": self._new_pool(num_classes, global_pool)}
        if self.per_class and global_pool == "attention":
            if not isinstance(self.pool, AttentionPool):
                raise ValueError(
                    "the classes of a deployed attention pooling with one class token per class are folded in. "
                    "Replace the classifier of the training form, train it, then `plainvision.fuse`."
                )
            self.pool.set_classes(max(1, num_classes))
        return head

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict of the official code with our keys.

        With one class token per class, a network of one token is a start too: each class gets that token.
        """
        state = dict(state)
        if "cls_token" in state:
            state = rename(state, _OFFICIAL)
            state["pool.token"] = state["pool.token"][0]
            rows = sum(bool(re.fullmatch(r"head\.\d+\.weight", key)) for key in state)
            for part in ("weight", "bias") if rows else ():
                state[f"head.{part}"] = torch.cat([state.pop(f"head.{row}.{part}") for row in range(rows)])
        token = state.get("pool.token")
        if token is not None and self.per_class and len(token) == 1:
            state["pool.token"] = token.repeat(max(1, self.num_classes), 1)
        return state

    def _new_pool(self, num_classes: int, pooling: str) -> nn.Module:
        if pooling == "attention":
            classes = max(1, num_classes) if self.per_class else None
            return AttentionPool(self.embed_dim, classes=classes, heads=self.heads, layer_scale=self.layer_scale)
        if pooling == "":
            return nn.Identity()
        if pooling not in ("average", "avg"):  # timm's word
            raise ValueError(f"unknown pooling {pooling!r}: PatchConvNet knows 'attention', 'average' and '' for none.")
        if self.per_class:
            raise ValueError("average pooling has no class tokens. Leave per_class out, or pool by attention.")
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(self.embed_dim, eps=1e-6))


def _stem(in_chans: int, channels: int, *, linear: bool) -> nn.Sequential:
    """Return four 3x3 convolutions of stride 2, from an eighth of the channels to all, or one of 16x16 pixels."""
    if linear:
        return nn.Sequential(nn.Conv2d(in_chans, channels, 16, stride=16))
    widths = [in_chans, channels // 8, channels // 4, channels // 2, channels]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), PatchGELU()]
    return nn.Sequential(*layers[:-1])


def _classifier(features: int, classes: int, per_class: bool) -> nn.Module:
    if classes == 0 or per_class:
        return ClassTokenLogits(features, classes) if classes else nn.Identity()
    head = nn.Linear(features, classes)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


_OFFICIAL = (
    (r"^cls_token$", "pool.token"),
    (r"^patch_embed\.proj\.(\d)\.0\.", r"stem.\1."),
    (r"^(blocks\.\d+)\.gamma_1$", r"\1.scale"),
    (r"^(blocks\.\d+)\.norm1\.", r"\1.branch.norm."),
    (r"^(blocks\.\d+)\.attn\.qkv_pos\.0\.", r"\1.branch.point1."),
    (r"^(blocks\.\d+)\.attn\.qkv_pos\.2\.", r"\1.branch.depthwise."),
    (r"^(blocks\.\d+)\.attn\.qkv_pos\.4\.conv_reduce\.", r"\1.branch.squeeze.fc1."),
    (r"^(blocks\.\d+)\.attn\.qkv_pos\.4\.conv_expand\.", r"\1.branch.squeeze.fc2."),
    (r"^(blocks\.\d+)\.attn\.qkv_pos\.5\.", r"\1.branch.point2."),
    (r"^blocks_token_only\.0\.gamma_([12])$", r"pool.scale\1"),
    (r"^blocks_token_only\.0\.(attn\.)?", "pool."),
    (r"^pool\.mlp\.fc1\.", "pool.mlp.0."),
    (r"^pool\.mlp\.fc2\.", "pool.mlp.2."),
    (r"^norm\.", "pool.norm."),
)


def _fit_pretrained(state: dict[str, Any], model: PatchConvNet) -> dict[str, Tensor]:
    """Return published weights for a network with other classes: the mean of the class tokens for each of them."""
    state = model.from_official(state.get("model", state))
    if "pool.token" in state and isinstance(model.pool, AttentionPool):
        token, wanted = state["pool.token"], len(model.pool.token)
        state["pool.token"] = token if len(token) == wanted else token.mean(0, keepdim=True).repeat(wanted, 1)
    return state


_TABLE_1, _TABLE_B3, _TABLE_2 = "Table 1", "Table B.3, layer norm", "Table 2, after ImageNet-21k, at 224 pixels"
# Table D.2: top-1 after fine-tuning, per cent, at 224 and at 320 pixels.
_TRANSFERRED = (
    "fine-tuned at 224 and 320 pixels, Table D.2: CIFAR-10 {} and {} %, CIFAR-100 {} and {} %, Flowers-102 {} and "
    "{} %, Stanford Cars {} and {} %, iNaturalist 2018 {} and {} %, iNaturalist 2019 {} and {} %"
)
_S60 = (99.2, 99.1, 91.4, 91.4, 98.8, 98.9, 94.0, 94.5, 72.9, 76.8, 78.1, 81.4)
_B120 = (99.2, 99.1, 91.1, 91.2, 99.0, 99.1, 94.4, 94.8, 74.3, 79.6, 79.5, 82.5)
_FINE_TUNED = "the official model page, fine-tuned from patchconvnet_s60; 81.1 from scratch, Table 5"


def _variant(
    embed_dim: int,
    depth: int,
    layer_scale: float,
    top1: float,
    source: str,
    weights: str = "",
    transferred: tuple[float, ...] = (),
    peak_mb: float | None = None,
    **options: Any,
) -> Variant:
    table = _TABLE_2 if source == _TABLE_2 else _TABLE_1
    note = _TRANSFERRED.format(*transferred) if transferred else ""
    memory = None if peak_mb is None else Measured(peak_mb, "V100", 256, "amp", f"arXiv:2112.13692, {table}")
    return Variant(
        {"embed_dim": embed_dim, "depth": depth, "layer_scale": layer_scale, **options},
        Published(top1, f"arXiv:2112.13692, {source}", note=note, memory=memory),
        {"url": f"https://dl.fbaipublicfiles.com/deit/{weights}.pth" if weights else ""},
    )


# Widths: section 3.2. LayerScale: the official code; s36 and b36, which it lacks, as their neighbours.
register_family(
    "patchconvnet",
    PatchConvNet,
    {
        "patchconvnet_s20": _variant(384, 20, 1e-4, 78.7, _TABLE_B3),
        "patchconvnet_s36": _variant(384, 36, 1e-4, 80.7, _TABLE_B3, peak_mb=1270),
        "patchconvnet_s60": _variant(384, 60, 1e-4, 82.1, _TABLE_1, "s60_224_1k", _S60, peak_mb=1321),
        "patchconvnet_s120": _variant(384, 120, 1e-6, 83.2, _TABLE_1, "s120_224_1k", peak_mb=1450),
        "patchconvnet_b36": _variant(768, 36, 1e-6, 82.8, _TABLE_B3),
        "patchconvnet_b60": _variant(768, 60, 1e-6, 83.5, _TABLE_1, "b60_224_1k", peak_mb=2790),
        "patchconvnet_b120": _variant(768, 120, 1e-6, 84.1, _TABLE_1, "b120_224_1k", _B120, peak_mb=3314),
        "patchconvnet_l60": _variant(1024, 60, 1e-6, 85.6, _TABLE_2, peak_mb=3913),
        "patchconvnet_l120": _variant(1024, 120, 1e-6, 86.1, _TABLE_2, peak_mb=4805),
        "patchconvnet_s60_multi": _variant(384, 60, 1e-4, 82.0, _FINE_TUNED, "s60_multi_finetune_1k", per_class=True),
    },
    tag="fb_in1k",
    cfg={
        "min_input_size": (3, 16, 16),
        "pool_size": (14, 14),
        "first_conv": "stem.0",
        "classifier": "head",
        "license": "apache-2.0",
        "paper_name": "Augmenting Convolutional networks with attention-based aggregation",
        "paper_ids": "arXiv:2112.13692",
        "origin_url": "https://github.com/facebookresearch/deit",
    },
    out_indices=(-3, -2, -1),
    fit=_fit_pretrained,
)
