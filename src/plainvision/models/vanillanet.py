"""VanillaNet: no shortcuts, no attention, one convolution per stage once fused.

Paper    Chen et al. 2023, https://arxiv.org/abs/2305.12972
Code     https://github.com/huawei-noah/VanillaNet (MIT); its checkpoints load, in both forms
Differs  the slope is part of the state; `pv.fuse` returns a new network and checks it; the pooling of
         vanillanet_13_x1_5_ada_pool has fixed windows, equal to the official adaptive ones at 224 pixels, so that it
         exports and keeps its stride at other sizes
Shapes   B batch, C channels, H height, W width, K classes
"""

import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import (
    feature_take_indices,
)  # timm's own, so that indices mean what timm's users expect
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from plainvision.layers.linear_pair import LinearPair
from plainvision.layers.series_activation import SeriesActivation
from plainvision.models.intermediates import run_with_intermediates
from plainvision.models.loading import OfficialLayout
from plainvision.models.registry import Published, add_family

Form = Literal["pairs", "single", "deployed"]
Shortcut = Literal["before", "after"] | None


class Window(NamedTuple):
    """What a convolution or a pooling looks at: kernel size, stride, padding."""

    kernel_size: int
    stride: int
    padding: int


POINT = Window(1, 1, 0)
HALVE = Window(2, 2, 0)
# What adaptive max pooling to half of an odd size does: 3x3 windows that overlap by one pixel.
HALVE_ODD = Window(3, 2, 1)


class Variant(NamedTuple):
    """One network: channels of the stem and of each stage, and each stage's pooling."""

    channels: tuple[int, ...]
    pools: tuple[Window | None, ...]
    width: float = 1.0
    stem: Window = Window(4, 4, 0)


def _deep(blocks: int) -> Variant:
    """Return VanillaNet-7 and deeper: they differ in how many stages work at stride 16 (paper, Table 6)."""
    channels = (512, 512, 1024, *[2048] * blocks, 4096, 4096)
    return Variant(channels, (None, HALVE, HALVE, *[None] * (blocks - 1), HALVE, None))


_VARIANTS = {
    "vanillanet_5": Variant((512, 1024, 2048, 4096), (HALVE, HALVE, HALVE)),
    "vanillanet_6": Variant((512, 1024, 2048, 4096, 4096), (HALVE, HALVE, HALVE, None)),
    **{f"vanillanet_{depth}": _deep(depth - 6) for depth in range(7, 14)},
    "vanillanet_13_x1_5": _deep(7)._replace(width=1.5),
    "vanillanet_13_x1_5_ada_pool": Variant(
        _deep(7).channels,
        (None, HALVE_ODD, HALVE, *[None] * 6, HALVE_ODD, None),
        width=1.5,
        stem=Window(4, 3, 1),
    ),
}


class ShortcutStage(nn.Module):
    """A stage with the shortcut of the paper's Table 3: (B, C, H, W) -> (B, out_channels, H', W').

    The paper does not say what bridges a change of shape; here it costs nothing: the stage's own pooling, and zeros
    for the added channels (He et al. 2016, option A).
    """

    def __init__(
        self,
        conv: nn.Module,
        pool: nn.Module,
        act: nn.Module,
        where: Literal["before", "after"],
        drop_path: float,
        added_channels: int,
    ) -> None:
        super().__init__()
        self.conv = conv
        self.pool = pool
        self.act = act
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.where = where
        self.added_channels = added_channels

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(self.pool(x), (0, 0, 0, 0, 0, self.added_channels))
        x = self.pool(self.conv(x))
        if self.where == "before":
            return self.act(self.drop_path(x) + shortcut)
        return self.drop_path(self.act(x)) + shortcut


class VanillaNet(OfficialLayout):
    """VanillaNet: images (B, in_chans, H, W) -> logits (B, K).

    Args:
        cfg: channels and pooling of each stage.
        num_classes: K; 0 returns the pooled features.
        width: multiplies the channels, rounded to multiples of 8.
        series: n of the series activation; 0 is a plain ReLU.
        linear_pairs: two convolutions in the place of one, for deep training.
        shortcut: None, or where a shortcut joins: before or after the activation (Table 3).
        deployed: build the fused form, of torch's own layers alone.
        global_pool: "avg", "max", or "" for none.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last stage, rising linearly from 0; needs a shortcut.
    """

    def __init__(
        self,
        cfg: Variant,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        width: float = 1.0,
        series: int = 3,
        linear_pairs: bool = True,
        shortcut: Shortcut = None,
        deployed: bool = False,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
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
        channels = [max(8, round(c * width * cfg.width / 8) * 8) for c in cfg.channels]
        form: Form = "deployed" if deployed else "pairs" if linear_pairs else "single"
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.num_features = self.head_hidden_size = channels[-1]

        self.stem = nn.Sequential(
            OrderedDict(
                conv=_conv(in_chans, channels[0], form, middle=channels[0], window=cfg.stem),
                act=_activation(channels[0], series, form),
            )
        )
        stages: list[nn.Module] = []
        reduction = cfg.stem.stride
        self.feature_info = [{"num_chs": channels[0], "reduction": reduction, "module": "stem.act"}]
        for i, (before, after, pool) in enumerate(zip(channels, channels[1:], cfg.pools, strict=False)):
            conv = _conv(before, after, form, middle=before)
            act = _activation(after, series, form)
            if shortcut is not None:
                drop_path = 0.0 if deployed else drop_path_rate * i / max(1, len(cfg.pools) - 1)
                pooling = nn.Identity() if pool is None else nn.MaxPool2d(*pool)
                stages.append(ShortcutStage(conv, pooling, act, shortcut, drop_path, after - before))
            else:
                parts = {"conv": conv} if pool is None else {"conv": conv, "pool": nn.MaxPool2d(*pool)}
                stages.append(nn.Sequential(OrderedDict(**parts, act=act)))
            if pool is not None:
                reduction *= pool.stride
                self.feature_info.append({})
            # One entry per resolution: the last stage that works at it.
            self.feature_info[-1] = {"num_chs": after, "reduction": reduction, "module": f"stages.{i}"}
        self.stages = nn.Sequential(*stages)

        self.global_pool = _pooling(global_pool)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = _classifier(self.num_features, num_classes, form)
        self.apply(_init_weights)

    @property
    def form(self) -> Form:
        """The form that the network is in, as its stem shows."""
        conv = self.stem.conv
        return "pairs" if isinstance(conv, LinearPair) else "deployed" if isinstance(conv, nn.Conv2d) else "single"

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's output, (B, C, H / 32, W / 32)."""
        x = self.stem(x)
        for stage in self.stages:
            x = self._run(stage, x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K) of features (B, C, H, W), or the pooled features (B, C) before the classifier."""
        x = self.head_drop(self.global_pool(x))
        if not pre_logits:
            x = self.head(x)
        return x if isinstance(self.global_pool, nn.Identity) else x.flatten(1)

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
        layers = {"stem.act": partial(self._run, self.stem)}
        layers |= {f"stages.{i}": partial(self._run, stage) for i, stage in enumerate(self.stages)}
        return run_with_intermediates(
            x,
            layers,
            [str(info["module"]) for info in self.feature_info],
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
        module = str(self.feature_info[last]["module"])
        self.stages = self.stages[: int(module.removeprefix("stages.")) + 1 if module.startswith("stages") else 0]
        if prune_head:
            self.reset_classifier(0, "")
        return take

    def get_classifier(self) -> nn.Module:
        """Return the classifier: a linear pair, a convolution, or an identity without classes."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one, in the network's form, on its device."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = _pooling(global_pool)
        parameter = next(self.parameters())
        head = _classifier(self.num_features, num_classes, self.form).apply(_init_weights)
        self.head = head.to(device=parameter.device, dtype=parameter.dtype).train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each stage in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the layers' groups, for layer-wise decay: the stem, each stage, the classifier."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)"}

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay spares, beside biases and norms: none."""
        return set()

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict of the official code with our keys; it is a finished network, so its slope is 1."""
        if "stem1.0.weight" in state:
            translated = {_rename(key, _OFFICIAL_TRAINING): value for key, value in state.items()}
            pairs = [key.removesuffix("first.0.weight") for key in translated if key.endswith("first.0.weight")]
            return translated | {f"{pair}slope": torch.ones(1) for pair in pairs}
        if "cls.2.weight" in state:
            return {_rename(key, _OFFICIAL_DEPLOYED): value for key, value in state.items()}
        return state if isinstance(state, dict) else dict(state)

    def _run(self, layer: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training:
            return checkpoint(layer, x, use_reentrant=False)
        return layer(x)


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


def _activation(channels: int, series: int, form: Form) -> nn.Module:
    if series == 0:
        return nn.ReLU()
    if form == "deployed":
        return nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 2 * series + 1, padding=series, groups=channels))
    return SeriesActivation(channels, series)


def _classifier(features: int, classes: int, form: Form) -> nn.Module:
    if classes == 0:
        return nn.Identity()
    if form != "pairs":
        return nn.Conv2d(features, classes, 1)
    return LinearPair(
        nn.Sequential(nn.Conv2d(features, classes, 1), nn.BatchNorm2d(classes, eps=1e-6)),
        nn.Sequential(nn.Conv2d(classes, classes, 1)),
    )


def _pooling(name: str) -> nn.Module:
    poolings = {"avg": nn.AdaptiveAvgPool2d(1), "max": nn.AdaptiveMaxPool2d(1), "": nn.Identity()}
    if name not in poolings:
        raise ValueError(f"unknown global_pool {name!r}: VanillaNet knows 'avg', 'max' and '' for none.")
    return poolings[name]


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


def _rename(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        if re.match(pattern, key):
            return re.sub(pattern, replacement, key)
    return key


def _fit_pretrained(state: dict[str, Any], model: VanillaNet) -> dict[str, Tensor]:
    """Return the weights of an official file for timm's ``pretrained=True``, less a classifier of other classes."""
    state = model.from_official(state.get("model_ema") or state.get("model") or state)
    classes = state["head.second.0.weight" if "head.second.0.weight" in state else "head.weight"].shape[0]
    if classes != model.num_classes:
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
    return state


def _cfg(name: str) -> dict[str, Any]:
    return {
        "url": f"https://github.com/huawei-noah/VanillaNet/releases/download/ckpt/{name}.pth",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.95 if name.startswith(("vanillanet_12", "vanillanet_13")) else 0.875,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "stem.conv.first.0",
        "classifier": "head",
        "license": "mit",
        "paper_name": "VanillaNet: the Power of Minimalism in Deep Learning",
        "paper_ids": "arXiv:2305.12972",
        "origin_url": "https://github.com/huawei-noah/VanillaNet",
    }


default_cfgs = generate_default_cfgs({f"{name}.in1k": _cfg(name) for name in _VARIANTS})


def _register(name: str, variant: Variant) -> None:
    def build(pretrained: bool = False, **options: Any) -> VanillaNet:  # timm's signature
        return build_model_with_cfg(
            VanillaNet,
            name,
            pretrained,
            model_cfg=variant,
            pretrained_filter_fn=_fit_pretrained,
            feature_cfg={"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
            **options,
        )

    build.__name__ = name
    register_model(build)


for _name, _variant in _VARIANTS.items():
    _register(_name, _variant)

_TOP1 = (72.49, 76.36, 77.98, 79.13, 79.87, 80.57, 81.08, 81.55, 82.05, 82.53, 83.11)
_SOURCE = "arXiv:2305.12972, Table 4, and the official model page"
add_family(
    "vanillanet",
    {name: Published(top1, _SOURCE, form={"deployed": True}) for name, top1 in zip(_VARIANTS, _TOP1, strict=True)},
)
