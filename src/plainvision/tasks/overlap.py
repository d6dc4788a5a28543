"""Intersection over union of the classes of pixels, by a confusion matrix."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plainvision.inspection.devices import device_of
from plainvision.inspection.eval_mode import eval_mode
from plainvision.tasks.label_maps import IGNORED
from plainvision.tasks.multiscale import class_shares
from plainvision.tasks.scenes import SceneBatch

_STEP = 32  # both sides of a resized image are multiples of the coarsest stride


@dataclass(frozen=True)
class SegmentationScores:
    """How well a segmenter names the pixels of a data set, per cent."""

    miou: float
    """Mean intersection over union, over the classes that are there or were named."""
    pixel_accuracy: float
    """Share of the pixels that get their class."""
    per_class: dict[str, float]
    """Intersection over union of each of these classes."""
    images: int
    skipped: tuple[str, ...] = ()
    """Images of this process that could not be read."""

    @property
    def score(self) -> float:
        """Mean intersection over union, by which the best weights are chosen."""
        return self.miou

    @property
    def figures(self) -> dict[str, float]:
        """What the metrics of a run record."""
        return {"miou": self.miou, "pixel_accuracy": self.pixel_accuracy}

    @property
    def words(self) -> str:
        """The figures for the line of an epoch."""
        return f"mIoU {self.miou:.2f} %  pixels {self.pixel_accuracy:.2f} %"


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return how many pixels (K, K) of each class, by row, got the name of each, by column; `IGNORED` ones count not.

    ``predicted`` and ``labels`` are maps of one shape.
    """
    counts = labels != IGNORED
    pairs = labels[counts].long() * classes + predicted[counts].long()
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def overlap_scores(
    matrix: Tensor, classes: Sequence[str], images: int, skipped: Sequence[str] = ()
) -> SegmentationScores:
    """Return the scores of a `confusion` matrix (K, K).

    Raises:
        ValueError: no pixel has a class.
    """
    hits, union = matrix.diagonal().double(), (matrix.sum(0) + matrix.sum(1) - matrix.diagonal()).double()
    if not matrix.any():
        raise ValueError("no pixel to evaluate: every image was skipped, or every pixel is ignored. Check data.root.")
    there = union > 0
    each = 100 * hits[there] / union[there]
    named = dict(
        zip([name for name, one in zip(classes, there.tolist(), strict=True) if one], each.tolist(), strict=True)
    )
    return SegmentationScores(
        each.mean().item(), 100 * (hits.sum() / matrix.sum()).item(), named, images, tuple(skipped)
    )


def evaluate_segmenter(
    network: nn.Module,
    batches: Iterable[SceneBatch],
    classes: Sequence[str],
    *,
    size: int,
    device: torch.device,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    total: Callable[[Tensor], Tensor] | None = None,
) -> SegmentationScores:
    """Return the scores of a segmenter, which stays on its device and in its mode.

    An image is resized so that its short side has ``size`` pixels, and the answer back to the image. ``total`` sums a
    tensor over processes, when each sees a part of the images.

    Raises:
        ValueError: no image could be read, or no pixel has a class.
    """
    home = device_of(network)
    matrix = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    images, skipped = torch.zeros(1, dtype=torch.int64), list[str]()
    try:
        network.to(device)
        with eval_mode(network), torch.inference_mode():
            for batch in batches:
                skipped += batch.skipped
                for image, target in zip(batch.images, batch.targets, strict=True):
                    named = class_map(network, image.to(device), size=size, scales=scales, flip=flip)
                    matrix += confusion(named.cpu(), target["labels"].as_subclass(Tensor), len(classes))
                    images += 1
    finally:
        network.to(home)
    if total is not None:
        matrix, images = total(matrix.to(device)).cpu(), total(images.to(device))
    return overlap_scores(matrix, classes, int(images), skipped)


def class_map(
    network: nn.Module, image: Tensor, *, size: int, scales: Sequence[float] = (1.0,), flip: bool = False
) -> Tensor:
    """Return the class (H, W) of each pixel of an image (C, H, W) in [0, 1], its short side resized to ``size``."""
    factor = size / min(image.shape[1:])
    sides = [max(_STEP, round(side * factor / _STEP) * _STEP) for side in image.shape[1:]]
    resized = F.interpolate(image[None], sides, mode="bilinear", antialias=True)
    shares = class_shares(network, resized, scales=scales, flip=flip)
    return F.interpolate(shares, image.shape[1:], mode="bilinear")[0].argmax(0)
