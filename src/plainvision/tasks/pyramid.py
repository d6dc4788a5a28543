"""Features at the strides of a pyramid from any network, whatever strides it has itself.

Levels that a network lacks are made as plain vision transformers make them (Li et al. 2022, arXiv:2203.16527, the
simple feature pyramid): finer ones by transposed convolutions, coarser ones by max pooling. The widths stay those of
the network, as in the segmenters that arXiv:2112.13692 counts.

Shapes   B batch, C channels, H height, W width
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from timm.layers import LayerNorm2d, freeze_batch_norm_2d
from timm.models import FeatureInfo
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from plainvision.inspection.tracing import own_copy
from plainvision.models.registry import create_model
from plainvision.models.trunk import Trunk

STRIDES = (4, 8, 16, 32)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# By which timm's transformers take images of any size; each of its networks has one of them, or needs none.
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


class Pyramid(Trunk):
    """Normalised images (B, C, H, W) -> features (B, ``channels[i]``, about H / strides[i], W / strides[i]).

    Attributes:
        channels: of each feature.
        mean, std: how the network's images are normalised, one value per channel.

    Args:
        backbone: a network's name, or a network, which stays as it is.
        strides: of the features, powers of two.
        pretrained: start a network by name from its published weights.
        freeze_norms: turn batch norms into fixed scales and shifts.

    Raises:
        ValueError: there is no such network, or it has no features.
    """

    def __init__(
        self,
        backbone: str | nn.Module,
        strides: Sequence[int] = STRIDES,
        *,
        pretrained: bool = False,
        freeze_norms: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(backbone, str):
            network = of_any_size(backbone, pretrained=pretrained, num_classes=0)
        elif pretrained:
            raise ValueError("pretrained=True goes with a network's name. Load the weights into your network yourself.")
        else:
            network = own_copy(backbone)
        infos = _feature_infos(network)
        config: Mapping[str, Any] = getattr(network, "pretrained_cfg", None) or {}
        self.mean, self.std = tuple(config.get("mean", _MEAN)), tuple(config.get("std", _STD))
        # The last feature of each level counts; a level is the nearest power of two of its stride.
        at = {round(math.log2(info["reduction"])): place for place, info in enumerate(infos)}
        sources = [_source(round(math.log2(stride)), at) for stride in strides]
        self.channels = tuple(infos[at[level]]["num_chs"] for level in sources)
        used = sorted({at[level] for level in sources})
        whole = isinstance(network.feature_info, FeatureInfo)  # it returns all its features already
        self._places = [at[level] if whole else used.index(at[level]) for level in sources]
        features = network if whole else FeatureGetterNet(network, used)
        self.network = freeze_batch_norm_2d(features) if freeze_norms else features
        self.resize = nn.ModuleList(
            _resized(channels, level - round(math.log2(stride)))
            for channels, level, stride in zip(self.channels, sources, strides, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        found = self.network(x)
        found = list(found.values()) if isinstance(found, Mapping) else found
        return [resize(found[place]) for place, resize in zip(self._places, self.resize, strict=True)]


def _source(level: int, at: Mapping[int, int]) -> int:
    """Return the level whose feature becomes that of ``level``: its own, the next finer, or else the next coarser."""
    return max((found for found in at if found <= level), default=min(at))


def _resized(channels: int, doublings: int) -> nn.Module:
    """Return what enlarges a feature by two as often as said, or halves it where that is negative."""
    if doublings <= 0:
        return nn.MaxPool2d(2**-doublings) if doublings else nn.Identity()
    layers: list[nn.Module] = []
    for _ in range(doublings):
        layers += [nn.ConvTranspose2d(channels, channels, 2, stride=2), LayerNorm2d(channels), nn.GELU()]
    return nn.Sequential(*layers[:-2])


def _feature_infos(network: nn.Module) -> Sequence[Mapping[str, Any]]:
    infos: Any = getattr(network, "feature_info", None)
    if isinstance(infos, FeatureInfo):
        return infos.get_dicts(keys=["num_chs", "reduction"])
    if not infos or not callable(getattr(network, "forward_intermediates", None)):
        raise ValueError(
            f"{type(network).__name__} has no features to detect or segment with: it lacks timm's feature_info or "
            "forward_intermediates. Give a network of `plainvision.list_models()`, or one of timm's, also with "
            "features_only=True."
        )
    return infos


def of_any_size(name: str, **options: Any) -> nn.Module:
    """Build the network called ``name`` so that it takes images of any size, where it can be asked to.

    Raises:
        ValueError: there is no such network, or it has no such option.
    """
    for extra in _ANY_SIZE:
        try:
            return create_model(name, **{**extra, **options})
        except ValueError as error:
            if not extra or f"no option {next(iter(extra))!r}" not in str(error):
                raise
    raise AssertionError("the last of the options is none")
