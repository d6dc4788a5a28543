"""Other uses of a network: torchvision's detectors and segmentation_models_pytorch's decoder on it, probes of it.

Names load when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plainvision.tasks.anchors import fit_anchors
    from plainvision.tasks.detection import detector, detector_macs
    from plainvision.tasks.probing import probe
    from plainvision.tasks.segmentation import segmenter

__all__ = ["detector", "detector_macs", "fit_anchors", "probe", "segmenter"]

_WHERE = {
    "detector": "detection",
    "detector_macs": "detection",
    "fit_anchors": "anchors",
    "probe": "probing",
    "segmenter": "segmentation",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
