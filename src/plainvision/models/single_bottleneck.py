"""A network of a single bottleneck, to compare spatial operations with nothing else around them.

Paper    Han et al. 2022, "Learning Features with Parameter-Free Layers", https://arxiv.org/abs/2202.02777, section 3
Differs  of its networks only the bottlenecks are known: ResNet's reduces to a quarter of the channels, the inverted one
         expands six times. The stem, a 3x3 convolution with a stride, and the head, a mean and a linear layer, are ours
Use      plainvision.create_model("single_bottleneck", kind="inverted", channels=32). It is no family of `list_models`:
         nobody would put it to work
Shapes   B batch, C channels, H height, W width, K classes
"""

from typing import Any

import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._efficientnet_blocks import InvertedResidual
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

_EXPANSION = 6


class SingleBottleneck(nn.Module):
    """Stem, bottleneck and classifier for images of any size: (B, in_chans, H, W) -> (B, K).

    Args:
        kind: "resnet", whose spatial operation is a 3x3 convolution, or "inverted", a depthwise 3x3 convolution.
        channels: of the bottleneck's input and output.
        num_classes: K; 0 leaves the classifier out.
        in_chans: channels of the images.
        stem_stride: stride of the stem.
        drop_rate: dropout before the classifier.

    Raises:
        ValueError: an unknown kind, or channels that the bottleneck cannot have.
    """

    def __init__(
        self,
        *,
        kind: str = "resnet",
        channels: int = 64,
        num_classes: int = 1000,
        in_chans: int = 3,
        stem_stride: int = 2,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if kind not in ("resnet", "inverted"):
            raise ValueError(f"unknown kind {kind!r} of bottleneck: give 'resnet' or 'inverted'.")
        if channels < 4 or (kind == "resnet" and channels % 4):
            raise ValueError(f"channels={channels}: give 4 or more, for ResNet's bottleneck a multiple of 4.")
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, channels, 3, stem_stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.block: nn.Module = (
            Bottleneck(channels, channels // Bottleneck.expansion)
            if kind == "resnet"
            else InvertedResidual(channels, channels, exp_ratio=_EXPANSION, act_layer=nn.ReLU6)
        )
        self.num_features = self.head_hidden_size = channels
        self.drop_rate = drop_rate
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the bottleneck's output: (B, in_chans, H, W) -> (B, channels, H', W')."""
        return self.block(self.stem(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of `forward_features`, or with ``pre_logits`` the mean over all places."""
        x = F.dropout(x.mean((2, 3)), self.drop_rate, self.training)
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer by a new one; 0 classes leave it out. The only ``global_pool`` is "avg"."""
        if global_pool not in (None, "avg"):
            raise ValueError(f"global_pool={global_pool!r}: this network pools by average. Leave it out.")
        self.num_classes = num_classes
        last = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.classifier: nn.Module = last.to(next(self.parameters()))


default_cfgs = generate_default_cfgs(
    {
        "single_bottleneck.untrained": {
            "input_size": (3, 64, 64),
            "num_classes": 1000,
            "pool_size": None,
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "stem.0",
            "classifier": "classifier",
            "paper_ids": "arXiv:2202.02777",
        }
    }
)


@register_model
def single_bottleneck(pretrained: bool = False, **options: Any) -> SingleBottleneck:
    """Return a network of a single bottleneck."""
    return build_model_with_cfg(SingleBottleneck, "single_bottleneck", pretrained, **options)
