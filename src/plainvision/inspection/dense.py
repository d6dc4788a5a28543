"""Torchvision's detectors without what they choose: all that their layers say of an image, in one smooth pass.

Shapes   B batch, C channels, H height, W width
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet

Detector = RetinaNet | FasterRCNN  # a `MaskRCNN` is one of the latter


class DenseDetector(nn.Module):
    """Normalised images (B, C, H, W) -> what the heads of a detector say, before anything is chosen.

    A detector's own answer can jump where a score moves in its last digit: which boxes go on, and in which order. Here
    the heads for single boxes look at the whole finest feature instead, so that the answer follows from the image
    without a jump, and the number of boxes does not.

    Args:
        network: stays as it is, and in `network`.
        proposals: how many boxes of each image the second stage looks at, where there is one.
        masks: of how many it draws the mask.
    """

    def __init__(self, network: Any, proposals: int = 1, masks: int = 1) -> None:
        super().__init__()
        self.network, self._proposals, self._masks = network, proposals, masks

    def _get_name(self) -> str:  # what messages call it
        return self.network._get_name()

    def forward(self, x: Tensor) -> list[Any]:
        features = list(self.network.backbone(x).values())
        if isinstance(self.network, RetinaNet):
            return [self.network.head(features)]
        heads = self.network.roi_heads
        seen = self._boxes(features[0], heads.box_roi_pool, self._proposals)
        found = [heads.box_predictor(heads.box_head(seen)), self.network.rpn.head(features)]
        if heads.has_mask():
            drawn = self._boxes(features[0], heads.mask_roi_pool, self._masks)
            found.append(heads.mask_predictor(heads.mask_head(drawn)))
        return found

    @staticmethod
    def _boxes(feature: Tensor, pool: Any, number: int) -> Tensor:
        return F.adaptive_avg_pool2d(feature, pool.output_size).repeat_interleave(number, 0)
