"""Accuracy of a network on a validation split: top-1, top-5, per class."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plainvision.confidences import check_temperature
from plainvision.data.batches import Batch, EvaluationBatches
from plainvision.inspection.eval_mode import eval_mode
from plainvision.inspection.foreign import Foreign
from plainvision.intervals import percent_interval
from plainvision.models.pretrained import preparation_of
from plainvision.training.recipe import Data


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image."""

    name: str
    """Path of the image within its data set."""
    label: str
    """Its class."""
    predicted: str
    """The predicted class."""
    confidence: float
    """The softmax probability of that class."""
    loss: float = math.nan
    """The cross-entropy: minus the logarithm of the probability of its class."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of a network on a data set, in per cent."""

    top1: float
    """Share of images whose class is predicted."""
    top5: float
    """Share of images whose class is among the five of highest logits, or among all where there are fewer."""
    loss: float
    """Mean cross-entropy."""
    images: int
    """Number of images."""
    largest_class: float
    """Share of the most frequent class: the top-1 of predicting it always."""
    per_class: dict[str, float]
    """Top-1 of each class that has images."""
    predictions: tuple[Prediction, ...] = field(repr=False, default=())
    """The predictions for this process's images, in their order."""
    skipped: tuple[str, ...] = ()
    """Images of this process that could not be read."""

    @property
    def top1_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of top-1."""
        return percent_interval(self.top1, self.images)

    @property
    def score(self) -> float:
        """Top-1, by which the best weights are chosen."""
        return self.top1

    @property
    def figures(self) -> dict[str, float]:
        """What the metrics of a run record."""
        return {"top1": self.top1, "top5": self.top5, "validation_loss": self.loss}

    @property
    def words(self) -> str:
        """The figures for the line of an epoch."""
        return f"top-1 {self.top1:.2f} %  loss {self.loss:.4f}"


def evaluate(
    model: nn.Module,
    data: Data | Iterable[Batch],
    *,
    classes: tuple[str, ...] | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    temperature: float = 1.0,
    total: Callable[[Tensor], Tensor] | None = None,
) -> Evaluation:
    """Return the scores of ``model``, which stays on its device and in its mode.

    Args:
        model: images (B, C, H, W) -> logits (B, K).
        data: the data whose validation split to read, or batches of it.
        classes: names of the K classes in the order of the logits; None takes the data's.
        batch_size: images per pass, when ``data`` is not in batches.
        device: where to compute; None is where the model is.
        temperature: divides the logits, for calibrated confidences; it never changes a class.
        total: sums a tensor over processes, when each sees a part of the images.

    Raises:
        ValueError: the model has another number of classes than the data, ``temperature`` can be none, or there is no
            image.
    """
    batches = EvaluationBatches(data, batch_size=batch_size, classes=classes) if isinstance(data, Data) else data
    names = classes or getattr(batches, "classes", None)
    if names is None:
        raise ValueError("batches without `classes` do not say what the logits mean: give `classes` too.")
    check_temperature(temperature)
    predictions: list[Prediction] = []
    skipped: list[str] = []
    with at_work(model, device) as place:
        exact = torch.float32 if place.type == "mps" else torch.float64  # Apple's GPUs have no float64
        # Rows: right at first, right among five, seen; one column per class. The loss is one more number.
        counts = torch.zeros(3, len(names), dtype=exact, device=place)
        loss = torch.zeros(1, dtype=exact, device=place)
        for batch in batches:
            skipped += batch.skipped
            if len(batch.labels):
                predictions += _score(model, batch, names, temperature, counts, loss)
    if total is not None:
        counts, loss = total(counts), total(loss)
    first, five, seen = counts.tolist()
    images = int(sum(seen))
    if not images:
        raise ValueError("no image to evaluate: every one was skipped, or the split is empty. Check data.root.")
    return Evaluation(
        top1=100 * sum(first) / images,
        top5=100 * sum(five) / images,
        loss=loss.item() / images,
        images=images,
        largest_class=100 * max(seen) / images,
        per_class={name: 100 * f / s for name, f, s in zip(names, first, seen, strict=True) if s},
        predictions=tuple(predictions),
        skipped=tuple(skipped),
    )


@contextmanager
def at_work(model: nn.Module, device: str | torch.device | None) -> Iterator[torch.device]:
    """Put ``model`` on ``device``, None being where it is, in eval mode and without gradients; then put it back."""
    home = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    # The runtime of a foreign one takes images on the CPU.
    used = home if device is None or isinstance(model, Foreign) else torch.device(device)
    try:
        model.to(used)
        with eval_mode(model), torch.inference_mode():
            yield used
    finally:
        model.to(home)


def checked_logits(model: nn.Module, batch: Batch, classes: tuple[str, ...], device: torch.device) -> Tensor:
    """Return the logits (B, K) of a batch in float32; another K than ``classes`` has is a `ValueError`."""
    logits = model(batch.images.to(device).clone()).float()  # a pass may write into what it is given
    if logits.shape[1] != len(classes):
        some = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
        raise ValueError(
            f"the network has {logits.shape[1]} classes and the data {len(classes)} ({some}): "
            "they do not belong together. Evaluate on the data it was trained for, or train it on this data."
        )
    return logits


def data_of(model: nn.Module) -> Data:
    """Return the preparation of images that a network's ``pretrained_cfg`` (timm's convention) describes.

    Raises:
        ValueError: it has none.
    """
    config: Any = getattr(model, "pretrained_cfg", None)
    if not config:
        raise ValueError(f"{type(model).__name__} does not say how its images are prepared. Give a `Data` yourself.")
    return Data(**preparation_of(config))


def _score(
    model: nn.Module, batch: Batch, classes: tuple[str, ...], temperature: float, counts: Tensor, loss: Tensor
) -> list[Prediction]:
    """Add a batch to ``counts`` and ``loss``, and return its predictions."""
    logits, labels = checked_logits(model, batch, classes, counts.device), batch.labels.to(counts.device)
    ranked = logits.topk(min(5, len(classes))).indices
    hits = ranked == labels[:, None]
    seen = F.one_hot(labels, len(classes)).to(counts.dtype)
    counts[0] += (seen * hits[:, :1]).sum(0)
    counts[1] += (seen * hits.any(1, keepdim=True)).sum(0)
    counts[2] += seen.sum(0)
    logits = logits / temperature
    losses = F.cross_entropy(logits, labels, reduction="none")
    loss += losses.sum().to(loss.dtype)
    confidence = logits.softmax(1).amax(1)
    rows = zip(batch.names, labels.tolist(), ranked[:, 0].tolist(), confidence.tolist(), losses.tolist(), strict=True)
    return [Prediction(name, classes[label], classes[best], share, lost) for name, label, best, share, lost in rows]
