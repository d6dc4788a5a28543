"""AlexNet, in its one-column form: the first network on which VanillaNet's paper tries its two techniques (Table 2).

Paper    Krizhevsky 2014, https://arxiv.org/abs/1404.5997
Code     torchvision's; its checkpoint loads, because the keys are the same
Differs  any input size of at least 63 pixels, and timm's surface
Shapes   B batch, H height, W width, K classes
"""

from torch import Tensor, nn

from plainvision.layers.spatial_pool import check_output_stride
from plainvision.models.backbone import Backbone, Groups
from plainvision.models.family import Variant, register_family
from plainvision.models.registry import Published


class AlexNet(Backbone):
    """AlexNet: images (B, in_chans, H, W) -> logits (B, K).

    Args:
        num_classes: K; 0 returns the features before the classifier's last layer.
        width: multiplies the channels, rounded to multiples of 8.
        drop_rate: dropout before the two hidden layers of the classifier.
        drop_path_rate: accepted as every network's; there is no residual branch that it could drop.
        original: the channels of 2012, 96, 256, 384, 384 and 256, without its groups, as in VanillaNet's paper; else
            those of 2014.
        global_pool: only "avg", to a grid of 6x6; "" without classes returns the features.
        output_stride: 8, 16 or 32; what would halve the image further dilates the layers behind it instead.
    """

    classifier: nn.Sequential
    row = ("features.*",)
    groups = Groups(r"^features\.0\.", r"^features\.(\d+)")

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        width: float = 1.0,
        drop_rate: float = 0.5,
        drop_path_rate: float = 0.0,
        original: bool = False,
        global_pool: str = "avg",
        output_stride: int = 32,
    ) -> None:
        super().__init__(in_chans, drop_rate)
        channels = (96, 256, 384, 384, 256) if original else (64, 192, 384, 256, 256)
        c1, c2, c3, c4, c5, hidden = (max(8, round(c * width / 8) * 8) for c in (*channels, 4096))
        self.num_features = c5
        self.head_hidden_size = hidden
        check_output_stride(output_stride)
        # Of the poolings behind the strides 4, 8 and 16: how far each still goes, and what the layers before have to
        # be dilated by.
        second, third, last = (2 if 2 * 4 * 2**pool <= output_stride else 1 for pool in range(3))
        once, twice = 2 // second, 4 // (second * third)
        self.feature_info = [
            {"num_chs": c1, "reduction": 4, "module": "features.1"},
            {"num_chs": c2, "reduction": 4 * second, "module": "features.4"},
            {"num_chs": c5, "reduction": 4 * second * third, "module": "features.11"},
        ]
        self.features = nn.Sequential(
            nn.Conv2d(in_chans, c1, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, second),
            nn.Conv2d(c1, c2, 5, padding=2 * once, dilation=once),
            nn.ReLU(),
            nn.MaxPool2d(3, third, dilation=once),
            nn.Conv2d(c2, c3, 3, padding=twice, dilation=twice),
            nn.ReLU(),
            nn.Conv2d(c3, c4, 3, padding=twice, dilation=twice),
            nn.ReLU(),
            nn.Conv2d(c4, c5, 3, padding=twice, dilation=twice),
            nn.ReLU(),
            nn.MaxPool2d(3, last, dilation=twice),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.reset_classifier(num_classes, global_pool)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K) of features (B, C, H, W), or the hidden layer's output before the last one."""
        if not self.global_pool:
            return x
        x = self.avgpool(x).flatten(1)
        for layer in list(self.classifier)[:-1]:  # a slice would be a new layer, which no tracer knows
            x = layer(x)
        return x if pre_logits else self.classifier[-1](x)

    def new_head(self, num_classes: int, global_pool: str) -> dict[str, nn.Module]:
        """Return the classifier; its hidden layers stay where they fit."""
        if global_pool not in ("avg", "") or (num_classes and not global_pool):
            raise ValueError(
                f"global_pool={global_pool!r}: AlexNet's hidden layers need the 6x6 grid of its average pooling. Use "
                "`forward_features` for features without it."
            )
        if not global_pool:
            return {"classifier": nn.Sequential(nn.Identity())}
        hidden = self.head_hidden_size
        last = nn.Linear(hidden, num_classes) if num_classes else nn.Identity()
        if "classifier" in self._modules and len(self.classifier) > 1:
            return {"classifier": nn.Sequential(*list(self.classifier)[:-1], last)}
        first = [nn.Dropout(self.drop_rate), nn.Linear(self.num_features * 36, hidden), nn.ReLU()]
        second = [nn.Dropout(self.drop_rate), nn.Linear(hidden, hidden), nn.ReLU()]
        return {"classifier": nn.Sequential(*first, *second, last)}

    def get_classifier(self) -> nn.Module:
        return self.classifier[-1]


_SOURCE = "arXiv:2305.12972, Table 2, without deep training and series activation"

register_family(
    "alexnet",
    AlexNet,
    {
        "alexnet": Variant(
            {},
            Published(57.52, _SOURCE, note="torchvision's weights score 56.5 %"),
            {"url": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"},
        )
    },
    tag="tv_in1k",
    cfg={
        "min_input_size": (3, 63, 63),
        "pool_size": (6, 6),
        "interpolation": "bilinear",
        "first_conv": "features.0",
        "classifier": "classifier.6",
        "license": "bsd-3-clause",
        "paper_ids": "arXiv:1404.5997",
        "origin_url": "https://github.com/pytorch/vision",
    },
    out_indices=(0, 1, 2),
)
