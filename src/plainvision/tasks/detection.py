"""Detectors: torchvision's RetinaNet and Mask R-CNN on a feature pyramid over any network.

Papers   Lin et al. 2017, https://arxiv.org/abs/1708.02002; He et al. 2017, https://arxiv.org/abs/1703.06870
Shapes   B batch, C channels, H height, W width, K kinds of objects
"""

from collections import OrderedDict
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from plainvision.inspection.counting import count_macs
from plainvision.inspection.dense import DenseDetector
from plainvision.tasks.anchors import LEVELS, RATIOS, AnchorSizes, checked_sizes, default_sizes
from plainvision.tasks.pyramid import STRIDES, Pyramid

Kind = Literal["retinanet", "mask_rcnn"]
# Such heads start with weights of standard deviation 0.01. With fewer channels a signal fades from layer to layer:
# narrow heads start as He et al. 2015 do, and learn from the first epoch on. The features of a trained backbone may be
# large, and the loss would start at many times its value: there the last layers start smaller.
_PAPER_WIDTH = 256
_STRIDES = {"retinanet": STRIDES[1:], "mask_rcnn": STRIDES}  # the finest feature is too large to search densely


class PyramidFeatures(nn.Module):
    """Normalised images (B, C, H, W) -> features (B, width, H', W') by name, the finest first.

    Args:
        pyramid: the network and its features.
        kind: a RetinaNet has two features above the coarsest, made from the network's own; a Mask R-CNN has one, a
            subsample.
    """

    def __init__(self, pyramid: Pyramid, kind: Kind, width: int) -> None:
        super().__init__()
        self.pyramid, self.out_channels = pyramid, width
        channels = list(pyramid.channels)
        above = LastLevelP6P7(channels[-1], width) if kind == "retinanet" else LastLevelMaxPool()
        self.fpn = FeaturePyramidNetwork(channels, width, above)

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        return self.fpn(OrderedDict((str(place), feature) for place, feature in enumerate(self.pyramid(x))))


def detector(
    backbone: str | nn.Module,
    kind: Kind = "retinanet",
    *,
    num_classes: int,
    width: int = 256,
    pretrained: bool = False,
    freeze_norms: bool | None = None,
    anchor_sizes: AnchorSizes | None = None,
    rois_per_image: int = 512,
    min_size: int = 800,
    max_size: int = 1333,
) -> nn.Module:
    """Return torchvision's detector on ``backbone``: a `RetinaNet` or a `MaskRCNN`, to use as torchvision's are.

    In training, a list of images (C, H, W) in [0, 1] and one of targets -> losses by name; in eval mode, the images ->
    a dict of boxes, labels, scores, and masks for each. It resizes the images, and normalises them as the network's
    are. Labels run from 1 to K. Its `anchor_sizes` are those of each level, in pixels of the resized image.

    Args:
        backbone: a network's name, or a network of ours, of timm's, or with ``features_only``; it stays as it is.
        kind: "retinanet" for boxes, "mask_rcnn" for boxes and masks.
        num_classes: K, without the background.
        width: channels of the feature pyramid and of the heads on it, four times as many in the layers that classify a
            Mask R-CNN's proposals; papers have 256.
        pretrained: start a network by name from its published weights.
        freeze_norms: fix the batch norms of the backbone, as is right for a trained network: a detector's batches are
            too small for statistics of their own. None is ``pretrained``; say True for a trained network that you give.
        anchor_sizes: of each of five levels; None takes torchvision's, `fit_anchors` those of your boxes.
        rois_per_image: proposals of each image that a Mask R-CNN learns boxes and masks from; fewer are faster.
        min_size: the shorter side of an image is resized to this.
        max_size: unless the longer one would get longer than this.

    Raises:
        ValueError: an unknown kind, no classes, a backbone without features, or anchors that do not fit.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"unknown kind {kind!r}: a detector is 'retinanet' for boxes or 'mask_rcnn' for masks too.")
    if num_classes < 1 or width < 1:
        raise ValueError(
            f"num_classes={num_classes} with width={width} leaves nothing to detect. Give how many kinds of objects "
            "there are, and channels above zero."
        )
    frozen = pretrained if freeze_norms is None else freeze_norms
    pyramid = Pyramid(backbone, _STRIDES[kind], pretrained=pretrained, freeze_norms=frozen)
    features = PyramidFeatures(pyramid, kind, width)
    per_level = LEVELS[kind].per_level
    sizes = default_sizes(per_level) if anchor_sizes is None else checked_sizes(anchor_sizes, per_level, kind)
    anchors = AnchorGenerator(sizes, (RATIOS,) * len(sizes))
    how: dict[str, Any] = {
        "min_size": min_size,
        "max_size": max_size,
        "image_mean": pyramid.mean,
        "image_std": pyramid.std,
    }
    network: Any
    if kind == "retinanet":
        network = RetinaNet(features, num_classes + 1, anchor_generator=anchors, **how)
        towers = [network.head.classification_head.conv, network.head.regression_head.conv]
        last = [network.head.classification_head.cls_logits, network.head.regression_head.bbox_reg]
    else:
        # torchvision's heads have the papers' 1024 and 256 channels whatever the width.
        network = MaskRCNN(
            features,
            rpn_anchor_generator=anchors,
            box_head=TwoMLPHead(width * 7 * 7, 4 * width),
            box_predictor=FastRCNNPredictor(4 * width, num_classes + 1),
            box_batch_size_per_image=rois_per_image,
            mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(width, width, num_classes + 1),
            **how,
        )
        towers = [network.rpn.head.conv]
        last = [network.rpn.head.cls_logits, network.rpn.head.bbox_pred]
    if width < _PAPER_WIDTH:
        for layer in (layer for tower in towers for layer in tower.modules() if isinstance(layer, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for layer in last if frozen else ():
            nn.init.normal_(layer.weight, std=0.001)
    network.anchor_sizes = sizes
    return network


def detector_macs(
    network: nn.Module, image_size: tuple[int, int] = (800, 1280), *, proposals: int = 1000, masks: int = 100
) -> int:
    """Return the multiply-adds of a `detector` for an image of (H, W) as the backbone sees it, counted as mmdet does.

    A Mask R-CNN looks at ``proposals`` boxes and draws ``masks``, whatever the image shows. A network on the meta
    device is counted without computing anything.
    """
    dense = DenseDetector(network, proposals, masks)
    return count_macs(dense, image_size, len(dense.network.transform.image_mean))
