"""The loss of sets of labels: binary cross-entropy for each label; mixing is timm's."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plainvision.data.rows import Batch
from plainvision.training.class_loss import mixup_of
from plainvision.training.recipe import Recipe

Part = tuple[Tensor, Tensor]  # images (B, C, H, W), targets (B, K)


class LabelLoss:
    """The recipe's loss; with ``weights``, (K,), an image that has a label counts so often in the loss of the label."""

    def __init__(self, recipe: Recipe, weights: Tensor | None = None) -> None:
        self.recipe, self.weights = recipe, weights
        self.mixup = mixup_of(recipe, classes=1, smoothing=0.0)

    def parts(self, batch: Batch, passes: int) -> Sequence[tuple[int, Part]]:
        """Return as many parts of the batch, mixed as the recipe says, each behind the number of its images."""
        images, targets = batch.images, batch.labels
        if self.mixup is not None:
            # Asked to mix the numbers of the images, it says how much of which image is in each: (B, B).
            self.mixup.num_classes = len(images)
            images, shares = self.mixup(images, torch.arange(len(images), device=images.device))
            targets = shares @ targets
        split = zip(images.chunk(passes), self.targets(targets).chunk(passes), strict=True)
        return [(len(part[0]), part) for part in split]

    def answer(self, model: nn.Module, part: Part) -> Tensor:
        """Return the logits (B, K) of a part."""
        return model(part[0])

    def loss(self, answer: Tensor, part: Part) -> tuple[Tensor, None]:
        """Return the mean loss over images and labels; how many images are right says little of sets."""
        weight = None if self.weights is None else self.weights.to(answer.device)
        return F.binary_cross_entropy_with_logits(answer.float(), part[1], pos_weight=weight), None

    def targets(self, shares: Tensor) -> Tensor:
        """Return targets for shares of labels (B, K): by the threshold 0 or 1, then softened by the label smoothing."""
        threshold, smoothing = self.recipe.bce_threshold, self.recipe.label_smoothing
        marks = shares if threshold is None else (shares > threshold).to(shares.dtype)
        return marks * (1 - smoothing) + smoothing / 2


def rare_weights(sets: np.ndarray) -> Tensor:
    """Return (K,) how many images lack a label for each that has it, so that both weigh the same; 1 where none has it.

    ``sets`` is (N, K) bool. It is the ``pos_weight`` of `torch.nn.BCEWithLogitsLoss`.
    """
    has = sets.sum(0)
    weights = np.divide(len(sets) - has, has, out=np.ones(sets.shape[1]), where=has > 0)
    return torch.tensor(weights, dtype=torch.float32)
