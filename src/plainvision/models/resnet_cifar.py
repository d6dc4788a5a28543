"""ResNets for images of 32 pixels, whose shortcuts have no parameters: 6n + 2 layers of 3x3 convolutions.

Paper    He et al. 2015, "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385, section 4.2
Code     our own; keys are those of https://github.com/akamaster/pytorch_resnet_cifar10 (BSD-2), so that weights load
Differs  new channels of a shortcut are zeros on both sides, as in those checkpoints; the paper leaves open where
Shapes   B batch, C channels, H height, W width, K classes
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from plainvision.layers.dynamic_conv import DynamicLayer, Option
from plainvision.layers.fusable import fold_batch_norm
from plainvision.models.backbone import Backbone, Groups, Stage
from plainvision.models.family import Variant, register_family
from plainvision.models.registry import Published


class PadShortcut(DynamicLayer):
    """Every s-th pixel, and zeros as new channels on both sides: (B, C, H, W) -> (B, C', ceil(H / s), ceil(W / s)).

    The stride may change at inference time. At 1/2 a zero follows each pixel in both directions, (B, C', 2 H, 2 W), as
    by a transposed 1x1 convolution of stride 2. Source: option A of section 4.1 of the paper.

    C is ``before``, C' ``after``, which must not be fewer; of an odd number of new channels the last side gets one
    more.
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

    C is ``before``, C' ``after``; the stride s is that of the first convolution and of the shortcut. ``drop_path`` is
    the stochastic depth of the branch.
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


class ResNetCifar(Backbone):
    """ResNet of basic blocks for small images: images (B, in_chans, H, W) -> logits (B, K).

    Args:
        depths: blocks of each stage; every stage after the first halves the image and doubles the channels.
        num_classes: K, 10 for checkpoints of CIFAR-10; 0 returns the pooled features.
        width: multiplies the channels, rounded to multiples of 8.
        deployed: build the form that `plainvision.fuse` returns.

    Raises:
        ValueError: an unknown ``global_pool``, a width that leaves no channels, or a stage without blocks.
    """

    linear: nn.Module
    row: tuple[str, ...] = ("conv1", "bn1", "act")  # and the stages
    groups = Groups(r"^(?:conv1|bn1)\.", r"^layer(\d+)\.(\d+)", coarse=r"^layer(\d+)")

    def __init__(
        self,
        *,
        depths: Sequence[int] = (3, 3, 3),
        num_classes: int = 1000,
        in_chans: int = 3,
        width: float = 1.0,
        global_pool: str = "avg",
        deployed: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(in_chans, drop_rate)
        if not depths or min(depths) < 1:
            raise ValueError(f"depths={depths} has a stage without blocks. Give at least 1 for each, or fewer stages.")
        if width <= 0:
            raise ValueError(f"width={width} leaves no channels. Give a multiplier above zero, for instance 0.5.")
        channels = [max(8, round(16 * 2**stage * width / 8) * 8) for stage in range(len(depths))]
        self.num_features = self.head_hidden_size = channels[-1]
        self.feature_info = [{"num_chs": channels[0], "reduction": 1, "module": "act"}]

        self.conv1 = nn.Conv2d(in_chans, channels[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.act = nn.ReLU()
        before, done = channels[0], 0
        for stage, (after, depth) in enumerate(zip(channels, depths, strict=True)):
            name, blocks = f"layer{stage + 1}", []
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                drop_path = drop_path_rate * done / max(1, sum(depths) - 1)
                blocks.append(BasicBlock(before, after, stride=stride, drop_path=drop_path))
                before, done = after, done + 1
            self.add_module(name, Stage(*blocks))
            self.row = (*self.row, name)
            self.feature_info.append({"num_chs": after, "reduction": 2**stage, "module": name})
        self.reset_classifier(num_classes, global_pool)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

        for name, norm in list(self.named_modules()) if deployed else ():
            if isinstance(norm, nn.BatchNorm2d):  # bn1 goes into conv1
                conv: Any = self.get_submodule(name.replace("bn", "conv"))
                self.set_submodule(name.replace("bn", "conv"), fold_batch_norm(conv, norm))
                self.set_submodule(name, nn.Identity())

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.head(x)
        return x if pre_logits else self.linear(x)

    def new_head(self, num_classes: int, global_pool: str) -> dict[str, nn.Module]:
        head: Any = super().new_head(num_classes, global_pool)["head"]
        # The checkpoints have the linear layer beside the stages, and no head.
        linear, head.linear = head.linear, nn.Identity()
        return {"head": head, "linear": linear}

    def get_classifier(self) -> nn.Module:
        return self.linear

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``state`` with the counters of batch norms, 0 where a file has none: torch had none at first."""
        norms = [key.removesuffix("running_mean") for key in state if key.endswith("running_mean")]
        return {**{f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms}, **state}


def _variant(blocks: int, error: float, remark: str = "") -> Variant:
    """Return the network of n ``blocks`` a stage, with its published error on CIFAR-10 in per cent."""
    note = f"{100 - error:.2f} % on CIFAR-10{remark}"
    form = {"num_classes": 10}
    published = Published(None, "Table 6 of arXiv:1512.03385", form=form, image_size=32, note=note)
    return Variant({"depths": (blocks,) * 3}, published)


register_family(
    "resnet_cifar",
    ResNetCifar,
    {
        "resnet20_cifar": _variant(3, 8.75),
        "resnet32_cifar": _variant(5, 7.51),
        "resnet44_cifar": _variant(7, 7.17),
        "resnet56_cifar": _variant(9, 6.97),
        "resnet110_cifar": _variant(18, 6.43, ", the best of five runs"),
    },
    tag="",
    cfg={
        # No url: He et al. publish no weights; those that others trained have 10 classes.
        "input_size": (3, 32, 32),
        "min_input_size": (3, 4, 4),
        "pool_size": (8, 8),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "first_conv": "conv1",
        "classifier": "linear",
        "paper_name": "Deep Residual Learning for Image Recognition",
        "paper_ids": "arXiv:1512.03385",
    },
    out_indices=(0, 1, 2, 3),
)
