"""Tables 1, 2 and 3 of arXiv:2103.09891: top-1 of four networks on ImageNet's validation images, per cent."""

from collections.abc import Sequence
from typing import Any

NETWORKS = {
    "resnet50": "resnet50.tv_in1k",
    "resnext50": "resnext50_32x4d.tv_in1k",
    "mobilenetv2": "torchvision/mobilenet_v2",  # timm has other weights alone
    "densenet121": "densenet121.tv_in1k",
}
"""The paper's networks, with torchvision's first weights as it has them."""

_STATIC = {"resnet50": 76.5, "resnext50": 77.0, "mobilenetv2": 71.9, "densenet121": 74.5}
# Worst, median and best case.
_BOUNDS: dict[tuple[str, ...], tuple[float, float, float]] = {
    ("resnet50", "stride"): (0.1, 11.2, 93.7),
    ("resnet50", "dilation"): (21.6, 58.0, 88.9),
    ("resnet50", "size"): (0.0, 32.6, 90.7),
    ("resnext50", "stride"): (0.0, 1.8, 94.0),
    ("resnext50", "dilation"): (0.2, 4.8, 90.8),
    ("resnext50", "size"): (0.0, 6.2, 92.4),
    ("mobilenetv2", "stride"): (0.0, 0.4, 92.1),
    ("mobilenetv2", "dilation"): (0.0, 0.5, 83.7),
    ("mobilenetv2", "size"): (0.0, 0.1, 82.3),
    ("densenet121", "stride"): (0.0, 14.1, 93.2),
    ("densenet121", "dilation"): (18.9, 55.8, 87.5),
    ("densenet121", "size"): (0.0, 27.7, 88.5),
    ("resnet50", "stride", "dilation"): (0.4, 47.9, 95.0),
    ("resnet50", "stride", "size"): (0.0, 35.3, 95.8),
    ("resnet50", "dilation", "size"): (0.2, 43.0, 92.7),
    ("resnet50", "stride", "dilation", "size"): (0.1, 32.9, 94.7),
}
_FINETUNED: dict[tuple[str, ...], tuple[float, float, float]] = {
    ("resnet50", "stride"): (1.5, 57.6, 92.2),
    ("resnet50", "dilation"): (64.6, 76.0, 84.6),
    ("resnet50", "size"): (49.6, 75.3, 88.1),
}
# Of ResNet-50 alone: the paper counts no others.
_PERMUTATIONS: dict[tuple[str, ...], int] = {
    ("stride",): 361,
    ("dilation",): 625,
    ("size",): 625,
    ("stride", "dilation", "size"): 512,
}
_OF_TWO = 625


def published(network: str, attributes: Sequence[str], *, finetuned: bool = False) -> dict[str, Any] | None:
    """Return the published bounds of a network whose attributes change, None where there are none.

    "static" is None after fine-tuning, and "permutations" for all networks but ResNet-50: the paper does not say them.
    """
    bounds = (_FINETUNED if finetuned else _BOUNDS).get((network, *attributes))
    if bounds is None:
        return None
    counted = _PERMUTATIONS.get(tuple(attributes), _OF_TWO) if network == "resnet50" else None
    found = dict(zip(("worst", "median", "best"), bounds, strict=True))
    return {"static": None if finetuned else _STATIC[network], **found, "permutations": counted}
