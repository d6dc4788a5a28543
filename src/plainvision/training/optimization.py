"""One optimizer step: optimizer, schedule, loss and mixing are timm's."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from timm.data.mixup import Mixup
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn

from plainvision.seeds import seed_everything
from plainvision.training.class_weights import image_weights
from plainvision.training.recipe import Recipe


def _unchanged(loss: Tensor, answer: Any, part: Any) -> Tensor:
    return loss


class Optimization:
    """Takes optimizer steps on one network, which has no wrappers; one that changes its form gets a new one.

    With ``weights``, (K,), each image counts by that of its class. What ``change`` returns for the loss, the logits and
    a part (images, targets, labels) takes the place of that loss.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        accelerator: Accelerator,
        classes: int,
        steps_per_epoch: int,
        weights: Tensor | None = None,
        change: Callable[[Tensor, Any, Any], Tensor] = _unchanged,
    ) -> None:
        self.recipe, self.accelerator, self.classes, self.change = recipe, accelerator, classes, change
        self.weights = None if weights is None else weights.to(accelerator.device)
        self.mixup = _mixup(recipe, classes)
        optimizer = _optimizer(recipe, model)
        if recipe.machine.compile:
            model.compile()
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        # Accelerate also makes the network's own forward enter autocast, for good; `step` enters it instead, so that
        # copies of the network (averages, fused forms) compute in their own precision.
        accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.scheduler = _scheduler(recipe, self.optimizer.optimizer, steps_per_epoch)

    @property
    def learning_rate(self) -> float:
        """The highest learning rate of all layers, at the last step."""
        return max(group["lr"] for group in self.optimizer.param_groups)

    def step(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Take one optimizer step; return the loss and the number of this process's images that were classified right.

        The network is in the mode that it is to train in. Images (B, C, H, W) and labels (B,) are this process's
        share. Random numbers follow from the recipe's seed, the step, counted from 0, and the process, so that a
        resumed run draws the same ones. A mixed image is classified right by the class of the image underneath.
        """
        self.scheduler.step_update(step)
        seed_everything(self.recipe.seed, step, self.accelerator.process_index)
        targets = self._targets(labels)
        if self.mixup is not None:
            images, targets = self.mixup(images, labels)
        passes = self.recipe.machine.accumulate
        loss, right = torch.zeros((), device=images.device), torch.zeros((), device=images.device)
        parts = zip(images.chunk(passes), targets.chunk(passes), labels.chunk(passes), strict=True)
        for i, (part, wanted, label) in enumerate(parts):
            last = i == passes - 1
            # Processes exchange gradients once per step, with the last pass.
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    logits = self.model(part)
                mean = self.change(self.criterion(logits.float(), wanted), logits, (part, wanted, label))
                share = mean * (len(part) / len(images))
                self.accelerator.backward(share)
            loss += share.detach()
            right += (logits.detach().argmax(1) == label).sum()
        if self.recipe.clip_grad is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss, right

    def criterion(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over the images, for logits and targets (B, K).

        The mean is over the number of images, not over their weights: each part of a batch, and each process, then has
        its right share.
        """
        weights = None
        if self.weights is not None:
            weights = image_weights(targets, self.weights, self.recipe.label_smoothing)[:, None]
        if self.recipe.loss == "cross_entropy":  # which is linear in the targets
            return SoftTargetCrossEntropy()(logits, targets if weights is None else targets * weights)
        threshold = self.recipe.bce_threshold
        return BinaryCrossEntropy(smoothing=0.0, target_threshold=threshold, weight=weights)(logits, targets)

    def _targets(self, labels: Tensor) -> Tensor:
        """Return (B, K) targets with the recipe's label smoothing; Mixup makes its own."""
        smoothing = self.recipe.label_smoothing
        targets = torch.full((len(labels), self.classes), smoothing / self.classes, device=labels.device)
        return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / self.classes)


def _mixup(recipe: Recipe, classes: int) -> Mixup | None:
    augment = recipe.augment
    if not augment.mixup and not augment.cutmix:
        return None
    return Mixup(
        mixup_alpha=augment.mixup,
        cutmix_alpha=augment.cutmix,
        prob=augment.mix_probability,
        switch_prob=augment.switch_probability,
        label_smoothing=recipe.label_smoothing,
        num_classes=classes,
    )


def _optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    options = {"betas": recipe.betas, "eps": recipe.optimizer_eps}
    return create_optimizer_v2(
        model,
        opt=recipe.optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        layer_decay=recipe.layer_decay,
        **{name: value for name, value in options.items() if value is not None},
    )


def _scheduler(recipe: Recipe, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Scheduler:
    # timm has no constant schedule in every version that we allow; steps that change nothing are one.
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine" if recipe.schedule == "cosine" else "step",
        num_epochs=recipe.epochs - recipe.warmup_epochs,
        decay_epochs=recipe.decay_epochs,
        decay_rate=0.1 if recipe.schedule == "step" else 1.0,
        min_lr=recipe.min_lr,
        warmup_epochs=recipe.warmup_epochs,
        warmup_lr=recipe.warmup_lr,
        # Steps are counted from the run's beginning, as in torchvision and timm; a cosine begins behind the warm-up.
        warmup_prefix=recipe.schedule != "step",
        step_on_epochs=False,
        updates_per_epoch=steps_per_epoch,
    )
    return scheduler
