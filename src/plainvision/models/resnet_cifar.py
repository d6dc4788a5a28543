"""ResNets for images of 32 pixels, whose shortcuts have no parameters: 6n + 2 layers of 3x3 convolutions.

Paper    He et al. 2015, "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385, section 4.2
Code     our own; keys are those of https://github.com/akamaster/pytorch_resnet_cifar10 (BSD-2), so that weights load
Differs  new channels of a shortcut are zeros on both sides, as in those checkpoints; the paper leaves open where
Shapes   B batch, C channels, H height, W width, K classes
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices  # timm's own, so that indices mean what its users expect
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

from plainvision.layers.dynamic_conv import DynamicLayer, Option
from plainvision.layers.pooled_classifier import PooledClassifier
from plainvision.models.intermediates import run_with_intermediates
from plainvision.models.loading import OfficialLayout
from plainvision.models.registry import Published, add_family


class Variant(NamedTuple):
    """One network: n, the blocks of each of its three stages, and its published error on CIFAR-10, per cent."""

    blocks: int
    error: float
    remark: str = ""


_VARIANTS = {
    "resnet20_cifar": Variant(3, 8.75),
    "resnet32_cifar": Variant(5, 7.51),
    "resnet44_cifar": Variant(7, 7.17),
    "resnet56_cifar": Variant(9, 6.97),
    "resnet110_cifar": Variant(18, 6.43, ", the best of five runs"),
}


class PadShortcut(DynamicLayer):
    """Every s-th pixel, and zeros as new channels on both sides: (B, C, H, W) -> (B, C', ceil(H / s), ceil(W / s)).

    The stride may change at inference time. At 1/2 a zero follows each pixel in both directions, (B, C', 2 H, 2 W), as
    by a transposed 1x1 convolution of stride 2. Source: option A of section 4.1 of the paper.

    Args:
        before: C.
        after: C'; of an odd number of new channels the last side gets one more.
        stride: s.

    Raises:
        ValueError: fewer channels come out than go in.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        if after < before:
            raise ValueError(f"a shortcut from {before} to {after} channels would drop some. Give at least {before}.")
        self.first = (after - before) // 2
        self.last = after - before - self.first
        self.stride = stride

    @property
    def trained(self) -> Option:
        return Option(stride=self.stride)

    def forward(self, x: Tensor) -> Tensor:
        stride = self.stride if self.option.stride is None else self.option.stride
        if stride == 0.5:
            # Each pixel becomes the corner of a 2x2 square of zeros; pads are listed from the last axis.
            x = F.pad(x[:, :, :, None, :, None], (0, 1, 0, 0, 0, 1)).flatten(4).flatten(2, 3)
        else:
            x = x[:, :, :: int(stride), :: int(stride)]
        return F.pad(x, (0, 0, 0, 0, self.first, self.last))

    def extra_repr(self) -> str:
        return f"channels=+{self.first}+{self.last}, stride={self.stride}"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, added to what came in: (B, C, H, W) -> (B, C', ceil(H / s), ceil(W / s)).

    Args:
        before: C.
        after: C'.
        stride: s, of the first convolution and of the shortcut.
        drop_path: stochastic depth of the branch.
    """

    def __init__(self, before: int, after: int, *, stride: int, drop_path: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        same = stride == 1 and before == after
        self.shortcut: nn.Module = nn.Identity() if same else PadShortcut(before, after, stride)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.act(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        return self.act(self.drop_path(branch) + self.shortcut(x))


class ResNetCifar(OfficialLayout):
    """ResNet of basic blocks for small images: images (B, in_chans, H, W) -> logits (B, K).

    Args:
        depths: blocks of each stage; every stage after the first halves the image and doubles the channels.
        num_classes: K, 10 for checkpoints of CIFAR-10; 0 returns the pooled features.
        width: multiplies the channels, rounded to multiples of 8.
        global_pool: "avg", "max", or "" for none, without classes.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0.

    Raises:
        ValueError: an unknown ``global_pool``, a width that leaves no channels, or a stage without blocks.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int] = (3, 3, 3),
        num_classes: int = 1000,
        in_chans: int = 3,
        width: float = 1.0,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if not depths or min(depths) < 1:
            raise ValueError(f"depths={depths} has a stage without blocks. Give at least 1 for each, or fewer stages.")
        if width <= 0:
            raise ValueError(f"width={width} leaves no channels. Give a multiplier above zero, for instance 0.5.")
        channels = [max(8, round(16 * 2**stage * width / 8) * 8) for stage in range(len(depths))]
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.num_features = self.head_hidden_size = channels[-1]
        self.feature_info = [{"num_chs": channels[0], "reduction": 1, "module": "act"}]

        self.conv1 = nn.Conv2d(in_chans, channels[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.act = nn.ReLU()
        self.stage_names = [f"layer{stage + 1}" for stage in range(len(depths))]
        before, done = channels[0], 0
        for stage, (name, after, depth) in enumerate(zip(self.stage_names, channels, depths, strict=True)):
            blocks = []
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                drop_path = drop_path_rate * done / max(1, sum(depths) - 1)
                blocks.append(BasicBlock(before, after, stride=stride, drop_path=drop_path))
                before, done = after, done + 1
            self.add_module(name, nn.Sequential(*blocks))
            self.feature_info.append({"num_chs": after, "reduction": 2**stage, "module": name})
        self.head = PooledClassifier(self.num_features, 0, drop_rate=drop_rate)
        self.linear: nn.Module
        self.reset_classifier(num_classes, global_pool)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's output, (B, C, H / 4, W / 4)."""
        x = self._embed(x)
        for name in self.stage_names:
            x = self._run(name, x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K) of features (B, C, H, W), or the pooled features (B, C) before the classifier."""
        x = self.head(x)
        return x if pre_logits else self.linear(x)

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
        stages = {name: partial(self._run, name) for name in self.stage_names}
        return run_with_intermediates(
            x,
            {"act": self._embed, **stages},
            ["act", *stages],
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
        for name in self.stage_names[last:]:
            delattr(self, name)
        self.stage_names = self.stage_names[:last]
        if prune_head:
            self.reset_classifier(0, "")
        return take

    def get_classifier(self) -> nn.Module:
        """Return the classifier: a linear layer, or an identity without classes."""
        return self.linear

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one, on the network's device, and the pooling where another is named.

        Raises:
            ValueError: the pooling is unknown, or missing in front of classes.
        """
        self.head.reset(num_classes, global_pool, like=self.conv1.weight)
        # The checkpoints have the linear layer beside the stages, and no head.
        self.linear, self.head.linear = self.head.linear, nn.Identity()
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the layers' groups, for layer-wise decay: the stem, each block or stage, the classifier."""
        return {"stem": r"^(?:conv1|bn1)\.", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay spares, beside biases and norms: none."""
        return set()

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``state`` with the counters of batch norms, 0 where a file has none: torch had none at first."""
        norms = [key.removesuffix("running_mean") for key in state if key.endswith("running_mean")]
        return {**{f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms}, **state}

    def _embed(self, x: Tensor) -> Tensor:
        return self.act(self.bn1(self.conv1(x)))

    def _run(self, name: str, x: Tensor) -> Tensor:
        blocks = getattr(self, name)
        if self.grad_checkpointing and self.training:
            return checkpoint_sequential(blocks, len(blocks), x, use_reentrant=False)
        return blocks(x)


# He et al. publish no weights; those that others trained have 10 classes.
_CFG = {
    "url": "",
    "num_classes": 1000,
    "input_size": (3, 32, 32),
    "min_input_size": (3, 4, 4),
    "pool_size": (8, 8),
    "crop_pct": 1.0,
    "interpolation": "bilinear",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "first_conv": "conv1",
    "classifier": "linear",
    "paper_name": "Deep Residual Learning for Image Recognition",
    "paper_ids": "arXiv:1512.03385",
}

default_cfgs = generate_default_cfgs(dict.fromkeys(_VARIANTS, _CFG))


def _register(name: str, variant: Variant) -> None:
    def build(pretrained: bool = False, **options: Any) -> ResNetCifar:  # timm's signature
        return build_model_with_cfg(
            ResNetCifar,
            name,
            pretrained,
            feature_cfg={"out_indices": (0, 1, 2, 3), "feature_cls": "getter"},
            **{"depths": (variant.blocks,) * 3, **options},
        )

    build.__name__ = name
    register_model(build)


for _name, _variant in _VARIANTS.items():
    _register(_name, _variant)

add_family(
    "resnet_cifar",
    {
        name: Published(
            None,
            "Table 6 of arXiv:1512.03385",
            form={"num_classes": 10},
            image_size=32,
            note=f"{100 - variant.error:.2f} % on CIFAR-10{variant.remark}",
        )
        for name, variant in _VARIANTS.items()
    },
)
