"""What a network with a set of labels for each image says of a validation split."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from plainvision.data.batches import Batch
from plainvision.training.evaluation import at_work, checked_logits
from plainvision.training.label_scores import LabelFigures, LabelPredictions


@dataclass(frozen=True)
class LabelEvaluation:
    """The labels that a network gives to images of a data set, and those that they have."""

    classes: tuple[str, ...]
    """Names of the K labels, in the order of the logits."""
    names: tuple[str, ...] = field(repr=False)
    """The images."""
    predictions: LabelPredictions = field(repr=False)
    """Of all images, in this order."""
    losses: np.ndarray = field(repr=False)
    """(N,) the mean binary cross-entropy over the labels."""
    skipped: tuple[str, ...] = ()
    """Images that could not be read."""

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.names)

    @property
    def map(self) -> float:
        """Mean average precision, over the labels that images have, per cent."""
        return self.predictions.map

    @property
    def loss(self) -> float:
        """Mean binary cross-entropy over images and labels."""
        return float(self.losses.mean())

    @property
    def score(self) -> float:
        """The mean average precision, by which the best weights are chosen."""
        return self.map

    @cached_property
    def detailed(self) -> LabelFigures:
        """The figures with their intervals."""
        return self.predictions.figures()

    @property
    def figures(self) -> dict[str, float]:
        """What the metrics of a run record."""
        macro, micro = self.predictions.f1
        return {"map": self.map, "macro_f1": macro, "micro_f1": micro, "validation_loss": self.loss}

    @property
    def words(self) -> str:
        """The figures for the line of an epoch."""
        macro, micro = self.predictions.f1
        return f"mAP {self.map:.2f} %  F1 {macro:.2f} % (macro) {micro:.2f} % (micro)  loss {self.loss:.4f}"

    def labels_of(self, index: int) -> tuple[str, ...]:
        """Return the labels that an image has."""
        return self._named(self.predictions.truth[index])

    def given_to(self, index: int) -> tuple[str, ...]:
        """Return the labels that the network gives to an image."""
        return self._named(self.predictions.given[index])

    def _named(self, marks: np.ndarray) -> tuple[str, ...]:
        return tuple(self.classes[place] for place in np.flatnonzero(marks))


def evaluate_labels(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    classes: tuple[str, ...],
    threshold: float,
    device: str | torch.device | None = None,
    temperature: float = 1.0,
    shared: bool = False,
) -> LabelEvaluation:
    """Return what ``model`` says of the images; the model stays on its device and in its mode.

    Args:
        model: images (B, C, H, W) -> logits (B, K).
        batches: images whose labels are (B, K), 0 or 1.
        classes: names of the K labels in the order of the logits.
        threshold: a label of this confidence or more is given.
        device: where to compute; None is where the model is.
        temperature: divides the logits, for calibrated confidences.
        shared: whether other processes read other images; then each returns what all have seen.

    Raises:
        ValueError: the model has another number of classes than the data, or there is no image.
    """
    names: list[str] = []
    skipped: list[str] = []
    truth, confidences, losses = [], [], []
    with at_work(model, device) as place:
        for batch in batches:
            skipped += batch.skipped
            if not len(batch.labels):
                continue
            logits = checked_logits(model, batch, classes, place) / temperature
            labels = batch.labels.to(place)
            names += batch.names
            truth.append(labels.bool().cpu().numpy())
            confidences.append(logits.sigmoid().cpu().numpy())
            losses.append(F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1).cpu().numpy())
    parts: list[tuple[list[Any], ...]] = [(names, skipped, truth, confidences, losses)]
    if shared:
        from accelerate.utils import gather_object

        parts = gather_object(parts)
    names, skipped, truth, confidences, losses = ([one for part in parts for one in part[i]] for i in range(5))
    if not names:
        raise ValueError("no image to evaluate: every one was skipped, or the split is empty. Check data.root.")
    found = LabelPredictions(np.concatenate(truth), np.concatenate(confidences), threshold)
    return LabelEvaluation(classes, tuple(names), found, np.concatenate(losses), tuple(skipped))
