"""ResNet-50 whose bottlenecks mix neighbouring pixels by max pooling instead of by convolutions.

Paper    Han et al. 2022, "Learning Features with Parameter-Free Layers", https://arxiv.org/abs/2202.02777
Code     https://github.com/naver-ai/PfLayer, resnet_pf.py (Apache-2.0); its checkpoints load
Differs  activations keep the channels_last layout, because a CPU pools others slowly; odd sizes go through the hybrid
         too: its average pooling rounds up, as the shortcut beside it; `width` also narrows the stem
Shapes   B batch, C channels, H height, W width, K classes
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from plainvision.layers.fusable import fold_sequence
from plainvision.layers.spatial_pool import ChannelsLast, check_output_stride, pooled_blocks, spatial_pool
from plainvision.models.backbone import Backbone, Groups, Stage, rename
from plainvision.models.family import Variant, register_family
from plainvision.models.registry import Published
from plainvision.models.vit_pf import PAPER

_EXPANSION = 4


class Bottleneck(nn.Module):
    """Reduce to ``middle`` channels, ``mix`` with the stride, expand, add the input: (B, C, H, W) -> (B, C', H', W').

    C is ``before`` and C' four times ``middle``; ``drop_path`` is the stochastic depth of the branch.
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


class ResNetPF(Backbone):
    """ResNet of bottlenecks with parameter-free layers: images (B, in_chans, H, W) -> logits (B, K).

    Args:
        depths: blocks of each stage.
        strided: what pooling blocks do where they halve the image: "pool" with a stride, or "conv", an average pooling
            and a 3x3 convolution, which is the paper's hybrid.
        op: what the others pool by, "max" or "avg".
        kernel_size: side of the pooling's window.
        pooled: which blocks pool, as in `pooled_blocks`; "none" is the paper's baseline. The others have a 3x3
            convolution.
        width: multiplies the channels, rounded to multiples of 8.
        output_stride: 8, 16 or 32; stages that would halve the image further are dilated instead.
        deployed: build the form that `plainvision.fuse` returns.

    Raises:
        ValueError: an unknown value of ``strided``, ``op``, ``pooled`` or ``global_pool``, an even window, a width
            that leaves no channels, a stage without blocks, or another ``output_stride``.
    """

    row = ("stem", "pool", "stages.*")
    groups = Groups(r"^stem", r"^stages\.(\d+)\.(\d+)", coarse=r"^stages\.(\d+)")

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
        output_stride: int = 32,
        deployed: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(in_chans, drop_rate)
        if strided not in ("pool", "conv"):
            raise ValueError(f"unknown strided {strided!r}: a block that halves the image does it by 'pool' or 'conv'.")
        if width <= 0:
            raise ValueError(f"width={width} leaves no channels. Give a multiplier above zero, for instance 0.25.")
        channels = [max(8, round(64 * 2**stage * width / 8) * 8) for stage in range(len(depths))]
        check_output_stride(output_stride)
        self.num_features = self.head_hidden_size = _EXPANSION * channels[-1]
        self.feature_info = [{"num_chs": channels[0], "reduction": 2, "module": "stem"}]

        # Images of one channel have no layout that the first convolution could keep.
        stem = {"conv": _conv_norm(in_chans, channels[0], 7, 2), "act": nn.ReLU(), "layout": ChannelsLast()}
        self.stem = nn.Sequential(OrderedDict(stem))
        self.pool: nn.Module = nn.MaxPool2d(3, 2, 1)
        stages, before, done, reduction, dilation = [], channels[0], 0, 4, 1
        for stage, (middle, pools) in enumerate(zip(channels, pooled_blocks(pooled, depths), strict=True)):
            stride = 2 if stage > 0 and 2 * reduction <= output_stride else 1
            reduction *= stride
            blocks = []
            for block, pool in enumerate(pools):
                first = stage > 0 and block == 0
                step = stride if first else 1
                mix: nn.Module
                if not pool:
                    conv = _conv_norm(middle, middle, 3, step, dilation)
                    mix = nn.Sequential(OrderedDict(conv=conv, act=nn.ReLU()))
                elif strided == "conv" and first:
                    mix = _average_and_convolution(middle, step, dilation)
                else:
                    mix = spatial_pool(op, kernel_size=kernel_size, stride=step, dilation=dilation)
                if first:
                    dilation *= 2 // stride  # what the first block left out, the layers behind it make up for
                drop_path = drop_path_rate * done / max(1, sum(depths) - 1)
                blocks.append(Bottleneck(before, middle, mix=mix, stride=step, drop_path=drop_path))
                before, done = _EXPANSION * middle, done + 1
            stages.append(Stage(*blocks))
            self.feature_info.append({"num_chs": before, "reduction": reduction, "module": f"stages.{stage}"})
        self.stages = nn.Sequential(*stages)
        self.reset_classifier(num_classes, global_pool)
        if deployed:
            for name, module in list(self.named_modules()):
                if any(isinstance(layer, nn.BatchNorm2d) for layer in module.children()):
                    assert isinstance(module, nn.Sequential)
                    self.set_submodule(name, fold_sequence(module)[0])

    def embed(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return rename(state, _OFFICIAL)


def _conv_norm(before: int, after: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return a convolution and its batch norm, which `plainvision.fuse` folds into it."""
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(before, after, kernel_size, stride, padding, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after))


def _average_and_convolution(channels: int, stride: int, dilation: int) -> nn.Sequential:
    # Rounding up keeps step with the shortcut, whose 1x1 convolution of stride 2 sees the last row of an odd size.
    pool: nn.Module = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
    if stride == 1:
        pool = nn.Sequential(nn.ReplicationPad2d((0, 1, 0, 1)), nn.AvgPool2d(2, 1))
    conv = _conv_norm(channels, channels, 3, dilation=dilation * 2 // stride)
    return nn.Sequential(OrderedDict(pool=pool, conv=conv, act=nn.ReLU()))


_OFFICIAL = (
    (r"^conv1\.", "stem.conv."),
    (r"^layer(\d)\.", lambda found: f"stages.{int(found[1]) - 1}."),
    (r"\.reduction_block\.", ".reduce."),
    (r"\.conv_block\.(?:1\.)?([01])\.(?=\w+$)", r".mix.conv.\1."),
    (r"\.expansion_block\.", ".expand."),
    (r"\.downsample\.", ".shortcut."),
    (r"^fc\.", "head.linear."),
)


_SOURCE = "the official model page of arXiv:2202.02777, after 90 epochs"

register_family(
    "resnet_pf",
    ResNetPF,
    {
        name: Variant({"strided": strided}, Published(top1, _SOURCE, note=f"{longer} after longer training"))
        for name, strided, top1, longer in (
            ("resnet50_max", "pool", 74.3, 75.5),
            ("resnet50_hybrid", "conv", 77.1, 78.0),
        )
    },
    tag="naver_in1k",
    cfg={"min_input_size": (3, 32, 32), "first_conv": "stem.conv.0", **PAPER},
    out_indices=(0, 1, 2, 3, 4),
)
