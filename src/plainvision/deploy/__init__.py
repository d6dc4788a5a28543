"""From a trained network to a folder that a runtime loads, with proof that its answers are the network's.

Names load when first used: a runtime takes a second to import.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plainvision.deploy.detector_exporting import DetectorReport, export_detector
    from plainvision.deploy.detector_folder import DeployedDetector, load_detector
    from plainvision.deploy.examination import Examination
    from plainvision.deploy.exporting import GateError, export, export_segmenter
    from plainvision.deploy.folder import Deployed, load
    from plainvision.deploy.gate import Gate
    from plainvision.deploy.preprocessing import Preprocessing
    from plainvision.deploy.tuned import TunedForm, Tuning
    from plainvision.deploy.tuning import tune
    from plainvision.deploy.writing import ExportReport

__all__ = [
    "Deployed",
    "DeployedDetector",
    "DetectorReport",
    "Examination",
    "ExportReport",
    "Gate",
    "GateError",
    "Preprocessing",
    "TunedForm",
    "Tuning",
    "export",
    "export_detector",
    "export_segmenter",
    "load",
    "load_detector",
    "tune",
]

_WHERE = {
    "Deployed": "folder",
    "DeployedDetector": "detector_folder",
    "DetectorReport": "detector_exporting",
    "Examination": "examination",
    "ExportReport": "writing",
    "Gate": "gate",
    "GateError": "exporting",
    "Preprocessing": "preprocessing",
    "TunedForm": "tuned",
    "Tuning": "tuned",
    "export": "exporting",
    "export_detector": "detector_exporting",
    "export_segmenter": "exporting",
    "load": "folder",
    "load_detector": "detector_folder",
    "tune": "tuning",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
