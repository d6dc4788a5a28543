"""Segmenters: segmentation_models_pytorch's UPerNet on any network.

Paper    Xiao et al. 2018, https://arxiv.org/abs/1807.10221
Shapes   B batch, C channels, H height, W width, K classes
"""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plainvision.tasks.pyramid import Pyramid

Kind = Literal["upernet"]


class Segmenter(nn.Module):
    """Images (B, C, H, W) in [0, 1] -> logits (B, K, H, W); `segmenter` builds it.

    It normalises the images as the network's are. In training it needs at least two: the decoder pools an image to one
    pixel, and normalises over the batch.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, pyramid: Pyramid, decoder: nn.Module, width: int, num_classes: int) -> None:
        super().__init__()
        self.pyramid, self.decoder = pyramid, decoder
        self.head = nn.Conv2d(width, num_classes, 1)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(pyramid, name))[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) < 2:
            raise ValueError(
                "one image at a time cannot train an UPerNet: it pools an image to one pixel, and its batch norms "
                "would have one value to normalise by. Give batches of two or more."
            )
        features = self.pyramid((x - self.mean) / self.std)
        # The decoder passes over two finer features, which encoders of segmentation_models_pytorch have.
        logits = self.head(self.decoder([x, x, *features]))
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)


def segmenter(
    backbone: str | nn.Module,
    kind: Kind = "upernet",
    *,
    num_classes: int,
    width: int = 512,
    pretrained: bool = False,
    freeze_norms: bool | None = None,
) -> Segmenter:
    """Return a segmenter on ``backbone``: images (B, C, H, W) in [0, 1] -> logits (B, K, H, W).

    Args:
        backbone: a network's name, or a network of ours, of timm's, or with ``features_only``; it stays as it is.
        kind: "upernet".
        num_classes: K.
        width: channels of the decoder; papers have 512, the library's default is 256.
        pretrained: start a network by name from its published weights.
        freeze_norms: fix the batch norms of the backbone; None is ``pretrained``.

    Raises:
        ValueError: an unknown kind, no classes, or a backbone without features.
        ImportError: segmentation_models_pytorch is not installed.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"unknown kind {kind!r}: a segmenter is an 'upernet'.")
    if num_classes < 1 or width < 1:
        raise ValueError(f"num_classes={num_classes} and width={width} must be above zero.")
    frozen = pretrained if freeze_norms is None else freeze_norms
    pyramid = Pyramid(backbone, pretrained=pretrained, freeze_norms=frozen)
    # Two more channels stand for the features that the decoder passes over.
    channels = (0, 0, *pyramid.channels)
    return Segmenter(pyramid, _decoder()(channels, encoder_depth=5, decoder_channels=width), width, num_classes)


def _decoder() -> Any:
    try:
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
    except ImportError as error:
        raise ImportError(
            "segmentation needs the package `segmentation_models_pytorch`, which is not installed. "
            'pip install "plainvision[tasks]"'
        ) from error
    return UPerNetDecoder
