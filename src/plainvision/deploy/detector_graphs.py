"""Export torchvision's detectors: what their layers compute as ONNX graphs, what they choose in a file of numpy.

A detector as a whole can't be traced: which boxes go on depends on the image. So the graphs end where the choosing
begins, and `detector_script`, which becomes the folder's `predict.py`, chooses as torchvision does.

Shapes   B batch, C channels, H height, W width, A anchors at a place, K classes, N boxes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, RetinaNet
from torchvision.ops import MultiScaleRoIAlign, roi_align

from plainvision.deploy.detector_folder import Choice, Kind, Resizing
from plainvision.deploy.formats import save_onnx
from plainvision.deploy.torch_format import program

_AUTO = torch.export.Dim.AUTO
_LEAST_SIDE = 1e-2  # of a box, written into torchvision's RoIHeads
_USUAL = (224, 4)  # the side of a box that looks at level 4, written into `detector_script`


@dataclass(frozen=True)
class Graph:
    """A part of a detector that is traced."""

    file: str
    """Its name in the folder."""
    module: nn.Module
    example: tuple[Tensor, ...]
    """What it takes."""
    inputs: tuple[str, ...]
    """Their names."""
    outputs: tuple[str, ...]
    """The names of what it returns."""

    def write(self, folder: Path) -> None:
        """Write it, for any number and size of what it takes."""
        save_onnx(self._traced, folder / self.file, inputs=self.inputs, outputs=self.outputs)

    def _traced(self) -> torch.export.ExportedProgram:
        if len(self.example) == 1:
            return program(self.module, self.example[0], True)
        axes = ({0: _AUTO, 2: _AUTO, 3: _AUTO}, {0: _AUTO})
        return torch.export.export(self.module, self.example, dynamic_shapes=axes)


def kind_of(network: nn.Module) -> Kind:
    """Return which kind of detector this is.

    Raises:
        ValueError: one that cannot be exported.
    """
    name = type(network).__name__
    if isinstance(network, RetinaNet):
        kind: Kind = "retinanet"
    elif isinstance(network, MaskRCNN):
        kind = "mask_rcnn"
        pools = (network.roi_heads.box_roi_pool, network.roi_heads.mask_roi_pool)
        if any((one.canonical_scale, one.canonical_level) != _USUAL for one in pools) or (
            pools[0].featmap_names != pools[1].featmap_names
        ):
            raise ValueError(
                f"{name} pools boxes in levels of its own: predict.py knows those of torchvision's MaskRCNN. Build it "
                "with the usual box_roi_pool and mask_roi_pool."
            )
    else:
        raise ValueError(
            f"{name} is neither a RetinaNet nor a Mask R-CNN of torchvision, which can be exported. Build one by "
            "`plainvision.tasks.detector`; what classifies goes through `export`, what names pixels through "
            "`export_segmenter`."
        )
    if network.transform.fixed_size is not None:
        raise ValueError(
            f"{name} resizes to a fixed size. Leave fixed_size out: predict.py keeps the shape of an image."
        )
    return kind


def graphs_of(network: Any) -> list[Graph]:
    """Return the parts of a detector in eval mode, the one that takes images first."""
    multiple = network.transform.size_divisible
    side = -(-network.transform.min_size[-1] // multiple) * multiple
    images = torch.zeros(2, len(network.transform.image_mean), side, side + multiple)  # a square could be fixed as one
    heads = None if isinstance(network, RetinaNet) else network.roi_heads
    dense = Anchored(network, () if heads is None else heads.box_roi_pool.featmap_names).eval()
    levels = len(_anchor_generator(network).cell_anchors)
    outputs = [f"{what}_{level}" for level in range(levels) for what in ("logits", "boxes")]
    outputs += [f"feature_{level}" for level in range(len(dense.pooled))]
    graphs = [Graph("model.onnx", dense, (images,), ("images",), tuple(outputs))]
    if heads is not None:
        feature = torch.zeros(2, network.backbone.out_channels, side // 4, side // 4 + 1)
        given = (feature, torch.tensor([[0.0, 1.0, 1.0, 9.0, 9.0]] * 3))
        boxes = Pooled(heads.box_roi_pool, heads.box_head, heads.box_predictor).eval()
        masks = Pooled(heads.mask_roi_pool, heads.mask_head, heads.mask_predictor).eval()
        graphs.append(Graph("boxes.onnx", boxes, given, ("feature", "regions"), ("logits", "boxes")))
        graphs.append(Graph("masks.onnx", masks, given, ("feature", "regions"), ("logits",)))
    return graphs


def settings_of(network: Any) -> dict[str, Any]:
    """Return how a detector resizes images and chooses boxes, as fields of a `DetectorDescription`."""
    how = network.transform
    found: dict[str, Any] = {
        "resize": Resizing(how.min_size[-1], how.max_size, how.size_divisible),
        "mean": tuple(how.image_mean),
        "anchors": tuple(
            tuple(tuple(anchor) for anchor in level.tolist()) for level in _anchor_generator(network).cell_anchors
        ),
    }
    if isinstance(network, RetinaNet):
        return found | {
            "dense": Choice(
                above=network.score_thresh,
                overlap=network.nms_thresh,
                most=network.detections_per_img,
                candidates=network.topk_candidates,
                weights=network.box_coder.weights,
            )
        }
    rpn, heads = network.rpn, network.roi_heads
    return found | {
        "dense": Choice(
            above=rpn.score_thresh or -1.0,  # a score of 0 is kept
            overlap=rpn.nms_thresh,
            most=rpn.post_nms_top_n(),
            candidates=rpn.pre_nms_top_n(),
            weights=rpn.box_coder.weights,
            least_side=rpn.min_size,
        ),
        "heads": Choice(
            above=heads.score_thresh,
            overlap=heads.nms_thresh,
            most=heads.detections_per_img,
            weights=heads.box_coder.weights,
            least_side=_LEAST_SIDE,
        ),
        "scales": tuple(heads.box_roi_pool.scales),
    }


def classes_of(network: Any) -> int:
    """Return how many kinds of objects a detector knows, without the background."""
    if isinstance(network, RetinaNet):
        return network.head.classification_head.num_classes - 1
    return network.roi_heads.box_predictor.cls_score.out_features - 1


def _anchor_generator(network: Any) -> Any:
    return network.anchor_generator if isinstance(network, RetinaNet) else network.rpn.anchor_generator


class Anchored(nn.Module):
    """Images (B, C, H, W) in [0, 1] -> what a detector says at each anchor, before anything is chosen.

    For each level of the pyramid logits (B, H', W', A, K) and codes of boxes (B, H', W', A, 4), the finest first; of a
    Mask R-CNN the logits are of being an object at all (K = 1), and the features (B, C', H', W') of ``pooled`` follow.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, pooled: Sequence[str]) -> None:
        super().__init__()
        self.backbone, self.pooled = network.backbone, tuple(pooled)
        self.head = network.head if isinstance(network, RetinaNet) else network.rpn.head
        for name in ("mean", "std"):
            values = torch.tensor(getattr(network.transform, f"image_{name}"), dtype=torch.float32)
            self.register_buffer(name, values[:, None, None])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone((x - self.mean) / self.std)
        if isinstance(features, Tensor):  # of a backbone without a pyramid
            features = {"0": features}
        levels = [self._level(feature) for feature in features.values()]
        return tuple(one for level in levels for one in level) + tuple(features[name] for name in self.pooled)

    def _level(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        grid = feature.shape[2:]
        found = self.head([feature])
        if isinstance(found, dict):  # a RetinaNet's, places and anchors in one axis
            return found["cls_logits"].unflatten(1, (*grid, -1)), found["bbox_regression"].unflatten(1, (*grid, -1))
        (objects,), (codes,) = found
        return objects.permute(0, 2, 3, 1)[..., None], codes.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2)


class Pooled(nn.Module):
    """A feature (1, C, H, W) and regions (N, 5) of it, each behind a 0 -> what the heads say of each region."""

    def __init__(self, pool: MultiScaleRoIAlign, *heads: nn.Module) -> None:
        super().__init__()
        self.size, self.ratio, self.heads = pool.output_size, pool.sampling_ratio, nn.Sequential(*heads)

    def forward(self, feature: Tensor, regions: Tensor) -> Any:
        # In the feature's own pixels: a scale would be fixed in the graph, and each level has one of its own.
        return self.heads(roi_align(feature, regions, self.size, 1.0, self.ratio))
