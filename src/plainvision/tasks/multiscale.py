"""Testing a segmenter at several scales and mirrored: the mean of what it answers (as mmsegmentation's `aug_test`)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

# Of the published multi-scale scores.
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def class_shares(network: nn.Module, images: Tensor, *, scales: Sequence[float] = (1.0,), flip: bool = False) -> Tensor:
    """Return the probability (B, K, H, W) of each class, the mean over the images at each of ``scales``.

    Args:
        network: images (B, C, H, W) in [0, 1] -> logits (B, K, H, W), in eval mode.
        images: as the network takes them.
        scales: multiply the images' sides.
        flip: ask for the mirrored images too.

    Raises:
        ValueError: there is no scale, or one that is not above zero.
    """
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales={tuple(scales)} must be numbers above zero, for instance {SCALES}.")
    size = images.shape[2:]
    total = None
    for scale in scales:
        sides = [max(1, round(side * scale)) for side in size]
        scaled = images if scale == 1 else F.interpolate(images, sides, mode="bilinear", antialias=True)
        for turned in (False, True) if flip else (False,):
            logits = network(scaled.flip(3) if turned else scaled).float()
            logits = logits.flip(3) if turned else logits
            shares = F.interpolate(logits, size, mode="bilinear").softmax(1)
            total = shares if total is None else total + shares
    assert total is not None
    return total / (len(scales) * (1 + flip))
