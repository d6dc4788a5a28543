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
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerNorm2d, SqueezeExcite
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices  # timm's own, so that indices mean what its users expect
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from plainvision.layers.attention_pool import AttentionPool, ClassTokenLogits
from plainvision.layers.fusable import Fusable, fold_batch_norm_before, new_conv
from plainvision.models.intermediates import run_with_intermediates
from plainvision.models.loading import OfficialLayout
from plainvision.models.registry import Published, add_family


class Variant(NamedTuple):
    """One network: the paper's width and depth, where LayerScale starts, and what is published of it."""

    embed_dim: int
    depth: int
    layer_scale: float
    top1: float
    source: str
    weights: str | None = None
    per_class: bool = False


_TABLE_1, _TABLE_B3 = "Table 1", "Table B.3, layer norm"
_TABLE_2 = "Table 2, after ImageNet-21k, at 224 pixels"
# Widths: section 3.2. LayerScale: the official code; s36 and b36, which it lacks, as their neighbours.
_VARIANTS = {
    "patchconvnet_s20": Variant(384, 20, 1e-4, 78.7, _TABLE_B3),
    "patchconvnet_s36": Variant(384, 36, 1e-4, 80.7, _TABLE_B3),
    "patchconvnet_s60": Variant(384, 60, 1e-4, 82.1, _TABLE_1, "s60_224_1k"),
    "patchconvnet_s120": Variant(384, 120, 1e-6, 83.2, _TABLE_1, "s120_224_1k"),
    "patchconvnet_b36": Variant(768, 36, 1e-6, 82.8, _TABLE_B3),
    "patchconvnet_b60": Variant(768, 60, 1e-6, 83.5, _TABLE_1, "b60_224_1k"),
    "patchconvnet_b120": Variant(768, 120, 1e-6, 84.1, _TABLE_1, "b120_224_1k"),
    "patchconvnet_l60": Variant(1024, 60, 1e-6, 85.6, _TABLE_2),
    "patchconvnet_l120": Variant(1024, 120, 1e-6, 86.1, _TABLE_2),
    "patchconvnet_s60_multi": Variant(
        384,
        60,
        1e-4,
        82.0,
        "the official model page, fine-tuned from patchconvnet_s60; 81.1 from scratch, Table 5",
        "s60_multi_finetune_1k",
        per_class=True,
    ),
}


class PatchGELU(nn.Module):
    """GELU on features (B, C, H, W) in channels_last layout: torch's fast CPU kernel wants it to look contiguous."""

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ColumnBlock(Fusable):
    """A block of the column, a residual branch: (B, C, H, W) -> (B, C, H, W) (section 3.1 and Figure 3)."""

    def __init__(self, channels: int, *, norm: Literal["layer", "batch"], layer_scale: float, drop_path: float) -> None:
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
        assert isinstance(first, nn.Conv2d)
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
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


class PatchConvNet(OfficialLayout):
    """PatchConvNet: images (B, in_chans, H, W) -> logits (B, K).

    Args:
        embed_dim: C, the paper's width d.
        depth: how many blocks the column has.
        num_classes: K; 0 returns the pooled features.
        pooling: "attention" or "average" (Table 5); "" for none, without classes.
        per_class: one class token per class, for one attention map per class.
        heads: of the attention pooling.
        stem: "conv", four convolutions of stride 2, or "linear", one of 16x16 pixels (Table 5).
        norm: "layer" or "batch", in the column (Table B.3); the pooling always has layer norms.
        layer_scale: what each residual branch is multiplied by at the start, per channel.
        global_pool: timm's name for ``pooling``, which also knows "avg"; it wins where both are given.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of every block alike.

    Raises:
        ValueError: an unknown pooling, stem or norm, or one that does not go with another option.
    """

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
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if stem not in ("conv", "linear"):
            raise ValueError(f"unknown stem {stem!r}: PatchConvNet knows 'conv' and 'linear'.")
        if norm not in ("layer", "batch"):
            raise ValueError(f"unknown norm {norm!r}: PatchConvNet knows 'layer' and 'batch'.")
        if embed_dim < 8 or embed_dim % 8:
            raise ValueError(f"embed_dim={embed_dim}: the stem starts with an eighth of it. Give a multiple of 8.")
        self.in_chans = in_chans
        self.per_class = per_class
        self.heads = heads
        self.layer_scale = layer_scale
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.embed_dim = self.num_features = self.head_hidden_size = embed_dim
        self.feature_info = [{"num_chs": embed_dim, "reduction": 16, "module": f"blocks.{i}"} for i in range(depth)]

        self.stem = _conv_stem(in_chans, embed_dim) if stem == "conv" else _linear_stem(in_chans, embed_dim)
        self.blocks = nn.Sequential(
            *(
                ColumnBlock(embed_dim, norm=norm, layer_scale=layer_scale, drop_path=drop_path_rate)
                for _ in range(depth)
            )
        )
        self.head_drop = nn.Dropout(drop_rate)
        self.pooling = ""
        self.pool: nn.Module = nn.Identity()
        self._set_head(num_classes, _pooling(pooling if global_pool is None else global_pool))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return what the column makes of the patches, (B, C, H / 16, W / 16)."""
        x = self._embed(x)
        for block in self.blocks:
            x = self._run(block, x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K) of features (B, C, H, W), or the pooled features (B, C) before the classifier.

        With one class token per class, these are the mean over the tokens.
        """
        x = self.head_drop(self.pool(x))
        if pre_logits or self.num_classes == 0:
            return x.mean(1) if x.ndim == 3 else x
        return self.head(x)

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
        layers = {f"blocks.{i}": partial(self._run, block) for i, block in enumerate(self.blocks)}
        return run_with_intermediates(
            self._embed(x),
            layers,
            list(layers),
            indices=indices,
            stop_early=stop_early,
            output_fmt=output_fmt,
            intermediates_only=intermediates_only,
        )

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what is not needed for the intermediates at ``indices``, as timm does, and return them."""
        take, last = feature_take_indices(len(self.blocks), indices)
        self.blocks = self.blocks[: last + 1]
        if prune_head:
            self.reset_classifier(0, "")
        return take

    def get_classifier(self) -> nn.Module:
        """Return the classifier: a linear layer, logits of class tokens, or an identity without classes."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one, on the network's device, and the pooling where another is named.

        One class token per class starts from the mean of the present ones.

        Raises:
            ValueError: the pooling is unknown, or it is deployed and has one class token per class.
        """
        self._set_head(num_classes, self.pooling if global_pool is None else _pooling(global_pool))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the layers' groups, for layer-wise decay: the stem, each block, the pooling and classifier."""
        return {"stem": r"^stem", "blocks": [(r"^blocks\.(\d+)", None), (r"^pool", (99999,))]}

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay spares, beside biases, norms and LayerScales: the class tokens."""
        return {"pool.token"}

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict of the official code with our keys.

        With one class token per class, a network of one token is a start too: each class gets that token.
        """
        state = dict(state)
        if "cls_token" in state:
            state = {_rename(key): value for key, value in state.items()}
            state["pool.token"] = state["pool.token"][0]
            rows = sum(bool(re.fullmatch(r"head\.\d+\.weight", key)) for key in state)
            for part in ("weight", "bias") if rows else ():
                state[f"head.{part}"] = torch.cat([state.pop(f"head.{row}.{part}") for row in range(rows)])
        token = state.get("pool.token")
        if token is not None and self.per_class and len(token) == 1:
            state["pool.token"] = token.repeat(max(1, self.num_classes), 1)
        return state

    def _embed(self, x: Tensor) -> Tensor:
        # Convolutions, activations and additions keep this layout, and the layer norms want it: the channels of a
        # patch lie side by side.
        return self.stem(x.contiguous(memory_format=torch.channels_last))

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training:
            return checkpoint(block, x, use_reentrant=False)
        return block(x)

    def _set_head(self, num_classes: int, pooling: str) -> None:
        """Build the pooling, unless it is there, and the classifier."""
        if num_classes and pooling == "":
            raise ValueError("a classifier needs pooled features. Give num_classes=0, or a pooling.")
        if pooling != self.pooling:
            self.pool = self._new_pool(num_classes, pooling)
            self.pooling = pooling
        elif self.per_class and pooling == "attention":
            if not isinstance(self.pool, AttentionPool):
                raise ValueError(
                    "the classes of a deployed attention pooling with one class token per class are folded in. "
                    "Replace the classifier of the training form, train it, then `plainvision.fuse`."
                )
            self.pool.set_classes(max(1, num_classes))
        self.num_classes = num_classes
        self.head = _classifier(self.embed_dim, num_classes, self.per_class)
        parameter = next(self.stem.parameters())
        for module in (self.pool, self.head):
            module.to(device=parameter.device, dtype=parameter.dtype).train(self.training)

    def _new_pool(self, num_classes: int, pooling: str) -> nn.Module:
        if pooling == "attention":
            classes = max(1, num_classes) if self.per_class else None
            return AttentionPool(self.embed_dim, classes=classes, heads=self.heads, layer_scale=self.layer_scale)
        if pooling == "":
            return nn.Identity()
        if pooling != "average":
            raise ValueError(f"unknown pooling {pooling!r}: PatchConvNet knows 'attention', 'average' and '' for none.")
        if self.per_class:
            raise ValueError("average pooling has no class tokens. Leave per_class out, or pool by attention.")
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(self.embed_dim, eps=1e-6))


def _conv_stem(in_chans: int, channels: int) -> nn.Sequential:
    """Return four 3x3 convolutions of stride 2, from an eighth of the channels to all."""
    widths = [in_chans, channels // 8, channels // 4, channels // 2, channels]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), PatchGELU()]
    return nn.Sequential(*layers[:-1])


def _linear_stem(in_chans: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_chans, channels, 16, stride=16))


def _pooling(name: str) -> str:
    """Return our name of a pooling for timm's."""
    return "average" if name == "avg" else name


def _classifier(features: int, classes: int, per_class: bool) -> nn.Module:
    if classes == 0:
        return nn.Identity()
    if per_class:
        return ClassTokenLogits(features, classes)
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


def _rename(key: str) -> str:
    for pattern, ours in _OFFICIAL:
        key = re.sub(pattern, ours, key)
    return key


def _fit_pretrained(state: dict[str, Any], model: PatchConvNet) -> dict[str, Tensor]:
    """Return published weights for a network with other classes: the mean of the class tokens for each of them."""
    state = model.from_official(state.get("model", state))
    token = state.get("pool.token")
    if token is not None and isinstance(model.pool, AttentionPool) and len(token) != len(model.pool.token):
        state["pool.token"] = token.mean(0, keepdim=True).repeat(len(model.pool.token), 1)
    return state


def _cfg(variant: Variant) -> dict[str, Any]:
    return {
        "url": f"https://dl.fbaipublicfiles.com/deit/{variant.weights}.pth" if variant.weights else "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "min_input_size": (3, 16, 16),
        "pool_size": (14, 14),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "stem.0",
        "classifier": "head",
        "license": "apache-2.0",
        "paper_name": "Augmenting Convolutional networks with attention-based aggregation",
        "paper_ids": "arXiv:2112.13692",
        "origin_url": "https://github.com/facebookresearch/deit",
    }


default_cfgs = generate_default_cfgs({f"{name}.fb_in1k": _cfg(variant) for name, variant in _VARIANTS.items()})


def _register(name: str, variant: Variant) -> None:
    def build(pretrained: bool = False, **options: Any) -> PatchConvNet:  # timm's signature
        own = {key: getattr(variant, key) for key in ("embed_dim", "depth", "layer_scale", "per_class")}
        return build_model_with_cfg(
            PatchConvNet,
            name,
            pretrained,
            pretrained_filter_fn=_fit_pretrained,
            feature_cfg={"out_indices": options.pop("out_indices", 3), "feature_cls": "getter"},
            **{**own, **options},
        )

    build.__name__ = name
    register_model(build)


for _name, _variant in _VARIANTS.items():
    _register(_name, _variant)

add_family(
    "patchconvnet",
    {name: Published(variant.top1, f"arXiv:2112.13692, {variant.source}") for name, variant in _VARIANTS.items()},
)
