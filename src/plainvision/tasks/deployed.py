"""Detectors and segmenters in deployed folders, as the networks that the commands and `find_objects` ask.

Shapes   B batch, C channels, H height, W width, K classes, N objects
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plainvision.data.settings import Data
from plainvision.deploy.detector_folder import DeployedDetector, is_detector, load_detector
from plainvision.deploy.folder import Deployed, load
from plainvision.tasks.learning import Detection, Segmentation


class FileDetector(nn.Module):
    """A list of images (C, H, W) in [0, 1] -> a dict of boxes, labels, scores, and masks for each, as torchvision's."""

    def __init__(self, deployed: DeployedDetector) -> None:
        super().__init__()
        self._deployed = deployed

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        found = self._deployed.find([image.permute(1, 2, 0).cpu().numpy() for image in images])
        answers = [{name: torch.from_numpy(value) for name, value in one.items()} for one in found]
        return [one | ({"masks": one["masks"][:, None]} if "masks" in one else {}) for one in answers]


class FileSegmenter(nn.Module):
    """Images (B, C, H, W) in [0, 1] -> logits (B, K, H, W); a file for one size gets them in that size."""

    def __init__(self, deployed: Deployed) -> None:
        super().__init__()
        self._network, about = deployed.module(), deployed.description
        self._side = None if about.any_size else about.preprocessing.image_size

    def forward(self, images: Tensor) -> Tensor:
        size, given = images.shape[2:], images.cpu()
        if self._side is not None:
            given = F.interpolate(given, (self._side, self._side), mode="bilinear", antialias=True)
        logits = self._network(given.contiguous()).to(images.device)
        return F.interpolate(logits, size, mode="bilinear") if logits.shape[2:] != size else logits


def load_deployed(folder: Path) -> tuple[nn.Module, Detection | Segmentation, tuple[str, ...], Data]:
    """Return what a `LoadedTask` has, of a deployed folder.

    Raises:
        FileNotFoundError, ValueError: there is no such network, its files are damaged, or it is a classifier's.
        ImportError: its runtime is not installed.
    """
    if is_detector(folder):
        detector = load_detector(folder)
        about: Any = detector.description
        data = Data(image_size=about.resize.min_size, channels=1 if len(about.mean) == 1 else 3)
        return FileDetector(detector), Detection(about.kind), about.classes, _plain(data)
    deployed = load(folder)
    about = deployed.description
    if about.task != "segmentation":
        raise ValueError(
            f"{folder} neither detects nor segments: it classifies. `plainvision.deploy.load` reads it, and the "
            "commands without detect and segment."
        )
    how = about.preprocessing
    return (
        FileSegmenter(deployed),
        Segmentation(),
        about.classes,
        _plain(Data(image_size=how.image_size, channels=how.channels)),
    )


def _plain(data: Data) -> Data:
    """Return settings of images that the network itself normalises."""
    return replace(data, mean=(0.0,) * data.channels, std=(1.0,) * data.channels)
