"""A network of a single bottleneck, to compare spatial operations with nothing else around them.

Paper    Han et al. 2022, "Learning Features with Parameter-Free Layers", https://arxiv.org/abs/2202.02777, section 3
Differs  of its networks only the bottlenecks are known: ResNet's reduces to a quarter of the channels, the inverted one
         expands six times. The stem, a 3x3 convolution with a stride, and the head, a mean and a linear layer, are ours
Use      plainvision.create_model("single_bottleneck", kind="inverted", channels=32). It is no family of `list_models`:
         nobody would put it to work
Shapes   B batch, C channels, H height, W width, K classes
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._efficientnet_blocks import InvertedResidual
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

from plainvision.models.study_network import StudyNetwork

_EXPANSION = 6


class SingleBottleneck(StudyNetwork):
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
