"""AlexNet, in its one-column form: the first network on which VanillaNet's paper tries its two techniques (Table 2).

Paper    Krizhevsky 2014, https://arxiv.org/abs/1404.5997
Code     torchvision's; its checkpoint loads, because the keys are the same
Differs  any input size of at least 63 pixels, and timm's surface
Shapes   B batch, H height, W width, K classes
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

from plainvision.models.intermediates import run_with_intermediates
from plainvision.models.registry import Published, add_family

# The last layer of each resolution's block, in `features`.
_TAPS = (1, 4, 11)


class AlexNet(nn.Module):
    """AlexNet: images (B, in_chans, H, W) -> logits (B, K).

    Args:
        num_classes: K; 0 returns the features before the classifier's last layer.
        width: multiplies the channels, rounded to multiples of 8.
        drop_rate: dropout before the two hidden layers of the classifier.
        drop_path_rate: accepted as every network's; there is no residual branch that it could drop.
        global_pool: only "avg", to a grid of 6x6.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        width: float = 1.0,
        drop_rate: float = 0.5,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        c1, c2, c3, c4, c5, hidden = (max(8, round(c * width / 8) * 8) for c in (64, 192, 384, 256, 256, 4096))
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.num_features = c5
        self.head_hidden_size = hidden
        self.grad_checkpointing = False
        self.feature_info = [
            {"num_chs": c1, "reduction": 4, "module": "features.1"},
            {"num_chs": c2, "reduction": 8, "module": "features.4"},
            {"num_chs": c5, "reduction": 16, "module": "features.11"},
        ]
        self.features = nn.Sequential(
            nn.Conv2d(in_chans, c1, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(c1, c2, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(c2, c3, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c3, c4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c4, c5, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(drop_rate),
            nn.Linear(c5 * 36, hidden),
            nn.ReLU(),
            nn.Dropout(drop_rate),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Identity(),
        )
        self.reset_classifier(num_classes, global_pool)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features after the last pooling, (B, C, H / 32, W / 32)."""
        if self.grad_checkpointing and self.training:
            return checkpoint_sequential(self.features, 3, x, use_reentrant=False)
        return self.features(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, K) of features (B, C, H, W), or the hidden layer's output before the last one."""
        x = self.avgpool(x).flatten(1)
        x = self.classifier[:-1](x)
        return x if pre_logits else self.classifier[-1](x)

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
        layers = {f"features.{i}": layer for i, layer in enumerate(self.features)}
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
        take, last = feature_take_indices(len(_TAPS), indices)
        self.features = self.features[: _TAPS[last] + 1]
        if prune_head:
            self.reset_classifier(0)
        return take

    def get_classifier(self) -> nn.Module:
        """Return the last layer of the classifier."""
        return self.classifier[-1]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer of the classifier by a new one.

        Raises:
            ValueError: another pooling than "avg", because the hidden layers are sized for its 6x6 grid.
        """
        if global_pool not in (None, "avg"):
            raise ValueError(
                f"global_pool={global_pool!r}: AlexNet's hidden layers need the 6x6 grid of its average pooling. Use "
                "`forward_features` for features without it."
            )
        self.num_classes = num_classes
        parameter = next(self.parameters())
        last = nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()
        self.classifier[-1] = last.to(device=parameter.device, dtype=parameter.dtype).train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the convolutions in the backward pass instead of keeping their activations."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the layers' groups, for layer-wise decay: the first convolution, each other one, the classifier."""
        return {"stem": r"^features\.0\.", "blocks": r"^features\.(\d+)"}

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay spares, beside biases and norms: none."""
        return set()


default_cfgs = generate_default_cfgs(
    {
        "alexnet.tv_in1k": {
            "url": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "min_input_size": (3, 63, 63),
            "pool_size": (6, 6),
            "crop_pct": 0.875,
            "interpolation": "bilinear",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "features.0",
            "classifier": "classifier.6",
            "license": "bsd-3-clause",
            "paper_ids": "arXiv:1404.5997",
            "origin_url": "https://github.com/pytorch/vision",
        }
    }
)


@register_model
def alexnet(pretrained: bool = False, **options: Any) -> AlexNet:
    """AlexNet as torchvision has it: 61.1 M parameters, 0.71 G multiply-adds at 224 pixels."""
    return build_model_with_cfg(
        AlexNet,
        "alexnet",
        pretrained,
        feature_cfg={"out_indices": (0, 1, 2), "flatten_sequential": True},
        **options,
    )


add_family(
    "alexnet",
    {
        "alexnet": Published(
            57.52,
            "arXiv:2305.12972, Table 2, without deep training and series activation",
            note="torchvision's weights score 56.5 %",
        )
    },
)
