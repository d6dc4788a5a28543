"""ResNet-50 whose bottlenecks mix neighbouring pixels by max pooling instead of by convolutions.

Paper    Han et al. 2022, "Learning Features with Parameter-Free Layers", https://arxiv.org/abs/2202.02777
Code     https://github.com/naver-ai/PfLayer, resnet_pf.py (Apache-2.0); its checkpoints load
Differs  activations keep the channels_last layout, because a CPU pools others slowly; odd sizes go through the hybrid
         too: its average pooling rounds up, as the shortcut beside it; `width` also narrows the stem
Shapes   B batch, C channels, H height, W width, K classes
"""

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from timm.layers import DropPath
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices  # timm's own, so that indices mean what its users expect
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

from plainvision.layers.pooled_classifier import PooledClassifier
from plainvision.layers.spatial_pool import pooled_blocks, spatial_pool
from plainvision.models.intermediates import run_with_intermediates
from plainvision.models.loading import OfficialLayout
from plainvision.models.registry import Published, add_family


class Variant(NamedTuple):
    """One network: what it does where it halves the image, and its top-1 accuracy after 90 epochs and after more."""

    strided: Literal["pool", "conv"]
    top1: float
    top1_long: float


_VARIANTS = {
    "resnet50_max": Variant("pool", 74.3, 75.5),
    "resnet50_hybrid": Variant("conv", 77.1, 78.0),
}
_EXPANSION = 4


class Bottleneck(nn.Module):
    """Reduce the channels, mix neighbouring pixels, expand, and add what came in: (B, C, H, W) -> (B, C', H', W').

    Args:
        before: C.
        middle: channels that are mixed; four times as many come out.
        mix: what mixes them, with the stride.
        stride: 1 or 2.
        drop_path: stochastic depth of the branch.
    """

    def __init__(self, before: int, middle: int, *, mix: nn.Module, stride: int, drop_path: float) -> None:
        super().__init__()
        after = _EXPANSION * middle
        self.reduce = _conv_norm(before, middle, 1)
        self.mix = mix
        self.expand = _conv_norm(middle, after, 1)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.shortcut = _conv_norm(before, after, 1, stride) if stride > 1 or before != after else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.expand(self.mix(self.act(self.reduce(x))))
        return self.act(self.drop_path(branch) + self.shortcut(x))


class ResNetPF(OfficialLayout):
    """ResNet of bottlenecks with parameter-free layers: images (B, in_chans, H, W) -> logits (B, K).

    Args:
        depths: blocks of each stage.
        strided: what pooling blocks do where they halve the image: "pool" with a stride, or "conv", an average pooling
            and a 3x3 convolution, which is the paper's hybrid.
        op: what the others pool by, "max" or "avg".
        kernel_size: side of the pooling's window.
        pooled: which blocks pool: "all"; "none", the paper's baseline; "odd" or "even" ones of each stage; or the
            numbers of blocks, from 0. The others have a 3x3 convolution.
        num_classes: K; 0 returns the pooled features.
        width: multiplies the channels, rounded to multiples of 8.
        global_pool: "avg", "max", or "" for none, without classes.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0.

    Raises:
        ValueError: an unknown value of ``strided``, ``op``, ``pooled`` or ``global_pool``, an even window, a width
            that leaves no channels, or a stage without blocks.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int] = (3, 4, 6, 3),
        strided: Literal["pool", "conv"] = "pool",
        op: str = "max",
        kernel_size: int = 3,
        pooled: str | Collection[int] = "all",
        num_classes: int = 1000,
        in_chans: int = 3,
        width: float = 1.0,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if strided not in ("pool", "conv"):
            raise ValueError(f"unknown strided {strided!r}: a block that halves the image does it by 'pool' or 'conv'.")
        if width <= 0:
            raise ValueError(f"width={width} leaves no channels. Give a multiplier above zero, for instance 0.25.")
        channels = [max(8, round(64 * 2**stage * width / 8) * 8) for stage in range(len(depths))]
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.num_features = self.head_hidden_size = _EXPANSION * channels[-1]
        self.feature_info = [{"num_chs": channels[0], "reduction": 2, "module": "stem"}]

        self.stem = nn.Sequential(OrderedDict(conv=_conv_norm(in_chans, channels[0], 7, 2), act=nn.ReLU()))
        self.pool = nn.MaxPool2d(3, 2, 1)
        stages, before, done = [], channels[0], 0
        for stage, (middle, pools) in enumerate(zip(channels, pooled_blocks(pooled, depths), strict=True)):
            blocks = []
            for block, pool in enumerate(pools):
                stride = 2 if stage > 0 and block == 0 else 1
                mix: nn.Module
                if not pool:
                    mix = _convolution(middle, stride)
                elif strided == "conv" and stride > 1:
                    mix = _average_and_convolution(middle)
                else:
                    mix = spatial_pool(op, kernel_size=kernel_size, stride=stride)
                drop_path = drop_path_rate * done / max(1, sum(depths) - 1)
                blocks.append(Bottleneck(before, middle, mix=mix, stride=stride, drop_path=drop_path))
                before, done = _EXPANSION * middle, done + 1
            stages.append(nn.Sequential(*blocks))
            self.feature_info.append({"num_chs": before, "reduction": 4 * 2**stage, "module": f"stages.{stage}"})
        self.stages = nn.Sequential(*stages)
        self.head = PooledClassifier(self.num_features, num_classes, pooling=global_pool, drop_rate=drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's output, (B, C, H / 32, W / 32)."""
        x = self._embed(x)
        for stage in range(len(self.stages)):
            x = self._run(stage, x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K) of features (B, C, H, W), or the pooled features (B, C) before the classifier."""
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
        stages = {f"stages.{stage}": partial(self._run, stage) for stage in range(len(self.stages))}
        return run_with_intermediates(
            x,
            {"stem": self._embed, **stages},
            ["stem", *stages],
            indices=indices,
            stop_early=stop_early,
            output_fmt=output_fmt,
            intermediates_only=intermediates_only,
        )

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what is not needed for the intermediates at ``indices``, as timm does, and return them."""
        take, last = feature_take_indices(len(self.feature_info), indices)
        self.stages = self.stages[:last]
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
        self.head.reset(num_classes, global_pool, like=next(self.stem.parameters()))
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the layers' groups, for layer-wise decay: the stem, each block or stage, the classifier."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay spares, beside biases and norms: none."""
        return set()

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict of the official code with our keys."""
        return {_rename(key): value for key, value in state.items()}

    def _embed(self, x: Tensor) -> Tensor:
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        # Images of one channel have no layout that the stem could keep; all others are in it already.
        return x.contiguous(memory_format=torch.channels_last)

    def _run(self, stage: int, x: Tensor) -> Tensor:
        if stage == 0:
            x = self.pool(x)
        blocks = self.stages[stage]
        assert isinstance(blocks, nn.Sequential)
        if self.grad_checkpointing and self.training:
            return checkpoint_sequential(blocks, len(blocks), x, use_reentrant=False)
        return blocks(x)


def _conv_norm(before: int, after: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution and its batch norm, which `plainvision.fuse` folds into it."""
    conv = nn.Conv2d(before, after, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after))


def _convolution(channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=_conv_norm(channels, channels, 3, stride), act=nn.ReLU()))


def _average_and_convolution(channels: int) -> nn.Sequential:
    # Rounding up keeps step with the shortcut, whose 1x1 convolution of stride 2 sees the last row of an odd size.
    pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
    return nn.Sequential(OrderedDict(pool=pool, conv=_conv_norm(channels, channels, 3), act=nn.ReLU()))


_OFFICIAL = (
    (r"^conv1\.", "stem.conv."),
    (r"^layer(\d)\.", lambda found: f"stages.{int(found[1]) - 1}."),
    (r"\.reduction_block\.", ".reduce."),
    (r"\.conv_block\.(?:1\.)?([01])\.(?=\w+$)", r".mix.conv.\1."),
    (r"\.expansion_block\.", ".expand."),
    (r"\.downsample\.", ".shortcut."),
    (r"^fc\.", "head.linear."),
)


def _rename(key: str) -> str:
    for pattern, ours in _OFFICIAL:
        key = re.sub(pattern, ours, key)
    return key


# The official weights are on Google Drive, from where no program can load them.
_CFG = {
    "url": "",
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "min_input_size": (3, 32, 32),
    "pool_size": (7, 7),
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "first_conv": "stem.conv.0",
    "classifier": "head.linear",
    "license": "apache-2.0",
    "paper_name": "Learning Features with Parameter-Free Layers",
    "paper_ids": "arXiv:2202.02777",
    "origin_url": "https://github.com/naver-ai/PfLayer",
}

default_cfgs = generate_default_cfgs({f"{name}.naver_in1k": _CFG for name in _VARIANTS})


def _register(name: str, variant: Variant) -> None:
    def build(pretrained: bool = False, **options: Any) -> ResNetPF:  # timm's signature
        return build_model_with_cfg(
            ResNetPF,
            name,
            pretrained,
            feature_cfg={"out_indices": (0, 1, 2, 3, 4), "feature_cls": "getter"},
            **{"strided": variant.strided, **options},
        )

    build.__name__ = name
    register_model(build)


for _name, _variant in _VARIANTS.items():
    _register(_name, _variant)

add_family(
    "resnet_pf",
    {
        name: Published(
            variant.top1,
            "the official model page of arXiv:2202.02777, after 90 epochs",
            note=f"{variant.top1_long} after longer training",
        )
        for name, variant in _VARIANTS.items()
    },
)
