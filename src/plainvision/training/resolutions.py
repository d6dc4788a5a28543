"""Accuracy at several image sizes, and of their mean answer (arXiv:2112.13692, Figure 6)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plainvision.bench.sizes import at_size
from plainvision.data.batches import EvaluationBatches
from plainvision.data.kept import kept, network_facts, stamps
from plainvision.deploy.preprocessing import Preprocessing
from plainvision.intervals import percent_interval
from plainvision.training.evaluation import at_work, checked_logits
from plainvision.training.recipe import Data

# Probabilities of all images are held, to be averaged; in half precision, a hundred thousand of a thousand classes.
_MOST_VALUES = 10**8


@dataclass(frozen=True)
class AtSize:
    """Top-1 at an image size, or of the mean of all."""

    image_size: int | None
    """Side in pixels; None is the mean of the probabilities at all sizes."""
    top1: float
    """Per cent."""
    images: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of top-1, per cent."""
        return percent_interval(self.top1, self.images)

    def __str__(self) -> str:
        where = "mean answer of these sizes" if self.image_size is None else f"{self.image_size} px"
        low, high = self.interval
        return f"{where}: top-1 {self.top1:.2f} % ({low:.1f} to {high:.1f} %)"


def evaluate_sizes(
    model: nn.Module,
    data: Data,
    sizes: Sequence[int],
    *,
    classes: tuple[str, ...] | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    keep: Path | None = None,
    found: Callable[[AtSize], object] = lambda one: None,
) -> tuple[list[AtSize], dict[int, str]]:
    """Return top-1 at each of the ``sizes``, then of their mean where there are several, and why others cannot be.

    The crop keeps its share of the image, so that a size shows the same part in more or fewer pixels.

    Args:
        model: images (B, C, H, W) -> logits (B, K); it stays as it is.
        data: the data whose validation split to read.
        sizes: sides of the images, in pixels.
        classes: names of the K classes; None takes the data's.
        batch_size: images per pass.
        device: where to compute; None is where the model is.
        keep: folder in which the answers at each size are kept, so that the same call after a kill goes on.
        found: called with each result as it is known.

    Raises:
        OSError: ``keep`` cannot be written.
        ValueError: a size is there twice, none can be computed, or the model has another number of classes.
    """
    if not sizes or len(set(sizes)) < len(sizes):
        raise ValueError(f"sizes={tuple(sizes)} must be one or more sides of images, each once.")
    rows: list[AtSize] = []
    refused: dict[int, str] = {}
    total: Tensor | None = None
    for size in sizes:
        fitting, why = at_size({"": model}, size, data.channels)
        if why:
            refused[size] = why[""]
            continue
        sized = replace(data, image_size=size)
        images = EvaluationBatches(sized, batch_size=batch_size, classes=classes)
        shares, labels = kept(
            keep,
            {} if keep is None else facts_about(model, sized, images),
            partial(_probabilities, fitting[""], images, device),
            taken_apart=lambda pair: ({"shares": pair[0], "labels": pair[1]}, {}),
            put_together=lambda tensors, _: (tensors["shares"], tensors["labels"]),
        )
        if shares.numel() > _MOST_VALUES and len(sizes) > 1:
            raise ValueError(
                f"{len(labels):,} images of {shares.shape[1]:,} classes are too many to average over sizes. Give fewer "
                "with data.validation_per_class, or one size at a time."
            )
        rows.append(_row(size, shares, labels))
        found(rows[-1])
        total = shares.float() if total is None else total + shares
    if total is None:
        raise ValueError(f"the network runs at none of the sizes: {next(iter(refused.values()))}. Give its own.")
    if len(rows) > 1:
        rows.append(_row(None, total, labels))
        found(rows[-1])
    return rows, refused


def facts_about(model: nn.Module, data: Data, images: EvaluationBatches) -> dict[str, Any]:
    """Return all that decides what a network answers for images, as JSON has it."""
    return {
        "network": network_facts(model),
        "images": [images.fingerprint, *stamps(data)],
        "classes": images.classes,
        "preparation": [asdict(Preprocessing.of(data)), data.max_pixels, data.corrupt],
    }


def _row(size: int | None, shares: Tensor, labels: Tensor) -> AtSize:
    return AtSize(size, 100 * float((shares.argmax(1) == labels).double().mean()), len(labels))


def _probabilities(
    model: nn.Module, images: EvaluationBatches, device: str | torch.device | None
) -> tuple[Tensor, Tensor]:
    """Return the probabilities (N, K) of all images that can be read, and their labels (N,)."""
    shares, labels = [], []
    with at_work(model, device) as place:
        for batch in images:
            shares.append(checked_logits(model, batch, images.classes, place).softmax(1).cpu())
            labels.append(batch.labels)
    return torch.cat(shares), torch.cat(labels)
