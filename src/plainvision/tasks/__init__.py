"""Other uses of a network: torchvision's detectors and segmentation_models_pytorch's decoder on it, probes of it.

Names load when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plainvision.tasks.anchors import fit_anchors
    from plainvision.tasks.detection import detector, detector_macs
    from plainvision.tasks.finding import find_areas, find_objects
    from plainvision.tasks.learning import Detection, Segmentation
    from plainvision.tasks.loaded import load
    from plainvision.tasks.probing import probe
    from plainvision.tasks.segmentation import segmenter

_WHERE = {
    "Detection": "learning",
    "Segmentation": "learning",
    "detector": "detection",
    "detector_macs": "detection",
    "find_areas": "finding",
    "find_objects": "finding",
    "fit_anchors": "anchors",
    "load": "loaded",
    "probe": "probing",
    "segmenter": "segmentation",
}

__all__ = [
    "Detection",
    "Segmentation",
    "detector",
    "detector_macs",
    "find_areas",
    "find_objects",
    "fit_anchors",
    "load",
    "probe",
    "segmenter",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
