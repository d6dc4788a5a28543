"""The losses of detection and segmentation, as the training loop asks for them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plainvision.tasks.label_maps import IGNORED
from plainvision.tasks.scenes import SceneBatch


def parts_of(batch: SceneBatch, passes: int) -> Sequence[tuple[int, SceneBatch]]:
    """Return as many parts of a batch, each behind the number of its images."""
    size = -(-len(batch.images) // passes)
    cuts = (slice(first, first + size) for first in range(0, len(batch.images), size))
    found = [replace(batch, images=batch.images[c], targets=batch.targets[c], names=batch.names[c]) for c in cuts]
    return [(len(part.images), part) for part in found]


class DetectionLoss:
    """The sum of torchvision's losses of a detector; nothing counts as right."""

    parts = staticmethod(parts_of)

    def answer(self, model: nn.Module, part: SceneBatch) -> dict[str, Tensor]:
        """Return the losses by name."""
        return model(list(part.images), [dict(target) for target in part.targets])

    def loss(self, answer: dict[str, Tensor], part: SceneBatch) -> tuple[Tensor, None]:
        """Return their sum."""
        return torch.stack([one.float() for one in answer.values()]).sum(), None


class SegmentationLoss:
    """Cross-entropy over the pixels that have a class; right is the share of them that gets it, an image counting 1."""

    parts = staticmethod(parts_of)

    def __init__(self, smoothing: float) -> None:
        self._smoothing = smoothing

    def answer(self, model: nn.Module, part: SceneBatch) -> Tensor:
        """Return the logits (B, K, H, W)."""
        return model(torch.stack(part.images))

    def loss(self, answer: Tensor, part: SceneBatch) -> tuple[Tensor, Tensor]:
        """Return the mean over the pixels, which is 0 where none has a class."""
        labels = torch.stack([_plain(target["labels"]) for target in part.targets])
        counts = (labels != IGNORED).sum()
        total = F.cross_entropy(
            answer.float(), labels, ignore_index=IGNORED, label_smoothing=self._smoothing, reduction="sum"
        )
        hits = (answer.detach().argmax(1) == labels).sum()
        return total / counts.clamp(min=1), len(labels) * hits / counts.clamp(min=1)


def _plain(value: Any) -> Tensor:
    return value.as_subclass(Tensor)
