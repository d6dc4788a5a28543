"""VanillaNet: no shortcuts, no attention, one convolution per stage once fused.

Paper    Chen et al. 2023, https://arxiv.org/abs/2305.12972
Code     https://github.com/huawei-noah/VanillaNet (MIT); its checkpoints load, in both forms
Differs  the slope is part of the state; `pv.fuse` returns a new network and checks it; the pooling of
         vanillanet_13_x1_5_ada_pool has fixed windows, equal to the official adaptive ones at 224 pixels, so that it
         exports and keeps its stride at other sizes
Shapes   B batch, C channels, H height, W width, K classes
"""

import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from plainvision.layers.linear_pair import LinearPair
from plainvision.layers.series_activation import SeriesActivation
from plainvision.layers.spatial_pool import check_output_stride, max_pool
from plainvision.models.backbone import Backbone, Groups, rename
from plainvision.models.family import Variant, register_family
from plainvision.models.registry import Measured, Published

Form = Literal["pairs", "single", "deployed"]
Shortcut = Literal["before", "after"] | None


class Window(NamedTuple):
    """What a convolution or a pooling looks at: kernel size, stride, padding."""

    kernel_size: int
    stride: int
    padding: int


POINT = Window(1, 1, 0)
STEM = Window(4, 4, 0)
HALVE = Window(2, 2, 0)
# What adaptive max pooling to half of an odd size does: 3x3 windows that overlap by one pixel.
HALVE_ODD = Window(3, 2, 1)


class ShortcutStage(nn.Module):
    """A stage with the shortcut of the paper's Table 3: (B, C, H, W) -> (B, out_channels, H', W').

    The paper does not say what bridges a change of shape; here it costs nothing: the stage's own pooling, and zeros
    for the added channels (He et al. 2016, option A).
    """

    def __init__(
        self, conv: nn.Module, pool: nn.Module, act: nn.Module, where: Shortcut, drop_path: float, added_channels: int
    ) -> None:
        super().__init__()
        self.conv, self.pool, self.act = conv, pool, act
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.where = where
        self.added_channels = added_channels

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(self.pool(x), (0, 0, 0, 0, 0, self.added_channels))
        x = self.pool(self.conv(x))
        if self.where == "before":
            return self.act(self.drop_path(x) + shortcut)
        return self.drop_path(self.act(x)) + shortcut


class VanillaNet(Backbone):
    """VanillaNet: images (B, in_chans, H, W) -> logits (B, K).

    Args:
        channels: of the stem and of each stage.
        pools: each stage's pooling, None for none.
        stem: the window of the first convolution.
        width: multiplies the channels, rounded to multiples of 8.
        series: n of the series activation; 0 is a plain ReLU.
        linear_pairs: two convolutions in the place of one, for deep training.
        shortcut: None, or where a shortcut joins: before or after the activation (Table 3).
        deployed: build the fused form, of torch's own layers alone.
        output_stride: 8, 16 or 32; what would halve the image further dilates the layers behind it instead.
        drop_path_rate: stochastic depth of the last stage, rising linearly from 0; needs a shortcut.
    """

    pool: nn.Module
    row = ("stem", "stages.*")
    groups = Groups(r"^stem", r"^stages\.(\d+)")

    def __init__(
        self,
        *,
        channels: Sequence[int],
        pools: Sequence[Window | None],
        stem: Window = STEM,
        num_classes: int = 1000,
        in_chans: int = 3,
        width: float = 1.0,
        series: int = 3,
        linear_pairs: bool = True,
        shortcut: Shortcut = None,
        deployed: bool = False,
        global_pool: str = "avg",
        output_stride: int = 32,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(in_chans, drop_rate)
        if width <= 0:
            raise ValueError(f"width={width} leaves no channels. Give a multiplier above zero, for instance 0.25.")
        if shortcut not in (None, "before", "after"):
            raise ValueError(f"unknown shortcut {shortcut!r}: it joins 'before' or 'after' the activation, or is None.")
        if series < 0:
            raise ValueError(f"series={series}: it is how far a pixel looks, from 1 up; 0 is a plain ReLU.")
        if drop_path_rate > 0 and shortcut is None:
            warnings.warn(
                f"drop_path_rate={drop_path_rate} does nothing in a VanillaNet with no shortcut: there is no branch to "
                "drop. Give shortcut='before' or 'after', or leave it out.",
                stacklevel=2,
            )
        check_output_stride(output_stride)
        channels = [max(8, round(c * width / 8) * 8) for c in channels]
        form: Form = "deployed" if deployed else "pairs" if linear_pairs else "single"
        self.num_features = self.head_hidden_size = channels[-1]

        self.stem = nn.Sequential(
            OrderedDict(
                conv=_conv(in_chans, channels[0], form, middle=channels[0], window=stem),
                act=_activation(channels[0], series, form),
            )
        )
        stages: list[nn.Module] = []
        reduction, dilation = stem.stride, 1
        self.feature_info = [{"num_chs": channels[0], "reduction": reduction, "module": "stem"}]
        for i, (before, after, window) in enumerate(zip(channels, channels[1:], pools, strict=False)):
            conv, pool = _conv(before, after, form, middle=before), None
            if window is not None:
                stride = window.stride if reduction * window.stride <= output_stride else 1
                pool = max_pool(window.kernel_size, stride, window.padding, dilation=dilation)
                reduction, dilation = reduction * stride, dilation * (window.stride // stride)
                self.feature_info.append({})
            act = _activation(after, series, form, dilation)
            if shortcut is not None:
                drop_path = 0.0 if deployed else drop_path_rate * i / max(1, len(pools) - 1)
                stages.append(ShortcutStage(conv, pool or nn.Identity(), act, shortcut, drop_path, after - before))
            else:
                parts = {"conv": conv} if pool is None else {"conv": conv, "pool": pool}
                stages.append(nn.Sequential(OrderedDict(**parts, act=act)))
            # One entry per pooling: the last stage behind it.
            self.feature_info[-1] = {"num_chs": after, "reduction": reduction, "module": f"stages.{i}"}
        self.stages = nn.Sequential(*stages)
        self.reset_classifier(num_classes, global_pool)
        self.apply(_init_weights)

    @property
    def form(self) -> Form:
        """The form that the network is in, as its stem shows."""
        conv = self.stem.conv
        return "pairs" if isinstance(conv, LinearPair) else "deployed" if isinstance(conv, nn.Conv2d) else "single"

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.pool(x)
        if not pre_logits:
            x = self.head(x)
        return x.flatten(1) if self.global_pool else x

    def new_head(self, num_classes: int, global_pool: str) -> dict[str, nn.Module]:
        poolings = {"avg": nn.AdaptiveAvgPool2d(1), "max": nn.AdaptiveMaxPool2d(1), "": nn.Identity()}
        if global_pool not in poolings:
            raise ValueError(f"unknown global_pool {global_pool!r}: VanillaNet knows 'avg', 'max' and '' for none.")
        head = _classifier(self.num_features, num_classes, self.form).apply(_init_weights)
        return {"pool": nn.Sequential(poolings[global_pool], nn.Dropout(self.drop_rate)), "head": head}

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict of the official code with our keys; it is a finished network, so its slope is 1."""
        if "stem1.0.weight" in state:
            translated = rename(state, _OFFICIAL_TRAINING)
            pairs = [key.removesuffix("first.0.weight") for key in translated if key.endswith("first.0.weight")]
            return translated | {f"{pair}slope": torch.ones(1) for pair in pairs}
        if "cls.2.weight" in state:
            return rename(state, _OFFICIAL_DEPLOYED)
        return dict(state)


def _conv(before: int, after: int, form: Form, *, middle: int, window: Window = POINT) -> nn.Module:
    """Return a convolution in one of the forms; ``middle`` is the width between the two of a pair."""
    if form == "deployed":
        return nn.Conv2d(before, after, *window)
    if form == "single":
        return nn.Sequential(nn.Conv2d(before, after, *window), nn.BatchNorm2d(after, eps=1e-6))
    return LinearPair(
        nn.Sequential(nn.Conv2d(before, middle, *window), nn.BatchNorm2d(middle, eps=1e-6)),
        nn.Sequential(nn.Conv2d(middle, after, 1), nn.BatchNorm2d(after, eps=1e-6)),
    )


def _activation(channels: int, series: int, form: Form, dilation: int = 1) -> nn.Module:
    if series == 0:
        return nn.ReLU()
    activation = SeriesActivation(channels, series, dilation=dilation)
    return activation.fuse() if form == "deployed" else activation


def _classifier(features: int, classes: int, form: Form) -> nn.Module:
    if classes == 0:
        return nn.Identity()
    if form != "pairs":
        return nn.Conv2d(features, classes, 1)
    return LinearPair(
        nn.Sequential(nn.Conv2d(features, classes, 1), nn.BatchNorm2d(classes, eps=1e-6)),
        nn.Sequential(nn.Conv2d(classes, classes, 1)),
    )


def _init_weights(module: nn.Module) -> None:
    """Initialise as the paper's Table 7: truncated normal, 0.02 (the official code; the table prints 0.2)."""
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


_OFFICIAL_TRAINING = (
    (r"^stem1\.", "stem.conv.first."),
    (r"^stem2\.([01])\.", r"stem.conv.second.\1."),
    (r"^stem2\.2\.bn\.", "stem.act.norm."),
    (r"^stem2\.2\.weight", "stem.act.conv.weight"),
    (r"^(stages\.\d+)\.conv1\.", r"\1.conv.first."),
    (r"^(stages\.\d+)\.conv2\.", r"\1.conv.second."),
    (r"^(stages\.\d+)\.act\.bn\.", r"\1.act.norm."),
    (r"^(stages\.\d+)\.act\.weight", r"\1.act.conv.weight"),
    (r"^cls1\.2\.", "head.first.0."),
    (r"^cls1\.3\.", "head.first.1."),
    (r"^cls2\.0\.", "head.second.0."),
)
_OFFICIAL_DEPLOYED = (
    (r"^stem\.0\.", "stem.conv."),
    (r"^stem\.1\.", "stem.act.1."),
    (r"^(stages\.\d+)\.act\.", r"\1.act.1."),
    (r"^cls\.2\.", "head."),
)


def _fit_pretrained(state: dict[str, Any], model: VanillaNet) -> dict[str, Tensor]:
    """Return the weights of an official file for timm's ``pretrained=True``, less a classifier of other classes."""
    state = model.from_official(state.get("model_ema") or state.get("model") or state)
    own = model.state_dict()
    fits = all(key in own and own[key].shape == value.shape for key, value in state.items() if key.startswith("head."))
    return state if fits else {key: value for key, value in state.items() if not key.startswith("head.")}


def _deep(blocks: int, width: float = 1.0) -> dict[str, Any]:
    """Return VanillaNet-7 and deeper: they differ in how many stages work at stride 16 (paper, Table 6)."""
    channels = (512, 512, 1024, *[2048] * blocks, 4096, 4096)
    pools = (None, HALVE, HALVE, *[None] * (blocks - 1), HALVE, None)
    return {"channels": tuple(round(c * width) for c in channels), "pools": pools}


_OPTIONS: dict[str, dict[str, Any]] = {
    "vanillanet_5": {"channels": (512, 1024, 2048, 4096), "pools": (HALVE, HALVE, HALVE)},
    "vanillanet_6": {"channels": (512, 1024, 2048, 4096, 4096), "pools": (HALVE, HALVE, HALVE, None)},
    **{f"vanillanet_{depth}": _deep(depth - 6) for depth in range(7, 14)},
    "vanillanet_13_x1_5": _deep(7, width=1.5),
    "vanillanet_13_x1_5_ada_pool": {
        **_deep(7, width=1.5),
        "pools": (None, HALVE_ODD, HALVE, *[None] * 6, HALVE_ODD, None),
        "stem": Window(4, 3, 1),
    },
}
_TOP1 = (72.49, 76.36, 77.98, 79.13, 79.87, 80.57, 81.08, 81.55, 82.05, 82.53, 83.11)
# Milliseconds of a pass of the deployed form.
_A100 = (1.61, 2.01, 2.27, 2.56, 2.91, 3.24, 3.59, 3.82, 4.26, 7.83, 9.72)
_SOURCE = "arXiv:2305.12972, Table 4, and the official model page"


def _cfg(name: str) -> dict[str, Any]:
    return {
        "url": f"https://github.com/huawei-noah/VanillaNet/releases/download/ckpt/{name}.pth",
        "crop_pct": 0.95 if name.startswith(("vanillanet_12", "vanillanet_13")) else 0.875,
        "pool_size": (10, 10) if name.endswith("ada_pool") else (7, 7),
    }


register_family(
    "vanillanet",
    VanillaNet,
    {
        name: Variant(
            options,
            Published(top1, _SOURCE, form={"deployed": True}, latency=Measured(ms, "A100", 1, "no", _SOURCE)),
            _cfg(name),
        )
        for (name, options), top1, ms in zip(_OPTIONS.items(), _TOP1, _A100, strict=True)
    },
    tag="in1k",
    cfg={
        "first_conv": "stem.conv.first.0",
        "classifier": ("head.first.0", "head.second.0"),
        "license": "mit",
        "paper_name": "VanillaNet: the Power of Minimalism in Deep Learning",
        "paper_ids": "arXiv:2305.12972",
        "origin_url": "https://github.com/huawei-noah/VanillaNet",
    },
    out_indices=(0, 1, 2, 3),
    fit=_fit_pretrained,
)
