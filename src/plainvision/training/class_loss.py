"""The loss of classification: mixing, smoothing and criteria are timm's."""

from collections.abc import Sequence

import torch
from timm.data.mixup import Mixup
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn

from plainvision.data.rows import Batch
from plainvision.training.class_weights import image_weights
from plainvision.training.recipe import Recipe

Part = tuple[Tensor, Tensor, Tensor]  # images (B, C, H, W), targets (B, K), labels (B,)


class ClassLoss:
    """The recipe's loss over ``classes``; with ``weights``, (K,), each image counts by that of its class."""

    def __init__(self, recipe: Recipe, classes: int, weights: Tensor | None = None) -> None:
        self.recipe, self.classes, self.weights = recipe, classes, weights
        self.mixup = mixup_of(recipe, classes=classes, smoothing=recipe.label_smoothing)

    def parts(self, batch: Batch, passes: int) -> Sequence[tuple[int, Part]]:
        """Return as many parts of the batch, mixed as the recipe says, each behind the number of its images."""
        images, targets = batch.images, self.targets(batch.labels)
        if self.mixup is not None:
            images, targets = self.mixup(images, batch.labels)
        split = zip(images.chunk(passes), targets.chunk(passes), batch.labels.chunk(passes), strict=True)
        return [(len(part[0]), part) for part in split]

    def answer(self, model: nn.Module, part: Part) -> Tensor:
        """Return the logits (B, K) of a part."""
        return model(part[0])

    def loss(self, answer: Tensor, part: Part) -> tuple[Tensor, Tensor]:
        """Return the mean loss, and how many images got their class: a mixed one, that of the image underneath."""
        _, targets, labels = part
        return self.criterion(answer.float(), targets), (answer.detach().argmax(1) == labels).sum()

    def criterion(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over the images, for logits and targets (B, K).

        The mean is over the number of images, not over their weights: each part of a batch, and each process, then has
        its right share.
        """
        weights = None
        if self.weights is not None:
            on_device = self.weights.to(targets.device)
            weights = image_weights(targets, on_device, self.recipe.label_smoothing)[:, None]
        if self.recipe.loss == "cross_entropy":  # which is linear in the targets
            return SoftTargetCrossEntropy()(logits, targets if weights is None else targets * weights)
        threshold = self.recipe.bce_threshold
        return BinaryCrossEntropy(smoothing=0.0, target_threshold=threshold, weight=weights)(logits, targets)

    def targets(self, labels: Tensor) -> Tensor:
        """Return (B, K) targets with the recipe's label smoothing; Mixup makes its own."""
        smoothing = self.recipe.label_smoothing
        targets = torch.full((len(labels), self.classes), smoothing / self.classes, device=labels.device)
        return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / self.classes)


def mixup_of(recipe: Recipe, *, classes: int, smoothing: float) -> Mixup | None:
    """Return what mixes the images of a batch by ``recipe``; None where it asks for no mixing."""
    augment = recipe.augment
    if not augment.mixup and not augment.cutmix:
        return None
    return Mixup(
        mixup_alpha=augment.mixup,
        cutmix_alpha=augment.cutmix,
        prob=augment.mix_probability,
        switch_prob=augment.switch_probability,
        label_smoothing=smoothing,
        num_classes=classes,
    )
