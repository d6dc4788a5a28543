"""One optimizer step: optimizer and schedule are timm's, the loss is the task's."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from timm.models._features import FeatureGetterNet
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn

from plainvision.models.trunk import trunks
from plainvision.seeds import seed_everything
from plainvision.training.recipe import Recipe
from plainvision.training.task import Objective, StepBatch


def _unchanged(loss: Tensor, answer: Any, part: Any) -> Tensor:
    return loss


class Optimization:
    """Takes optimizer steps on one network, which has no wrappers; one that changes its form gets a new one.

    What ``change`` returns for the loss, the answer and a part of a batch, as the objective has them, takes the place
    of that loss.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        accelerator: Accelerator,
        objective: Objective,
        steps_per_epoch: int,
        change: Callable[[Tensor, Any, Any], Tensor] = _unchanged,
    ) -> None:
        self.recipe, self.accelerator, self.objective, self.change = recipe, accelerator, objective, change
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

    def step(self, batch: StepBatch, step: int) -> tuple[Tensor, Tensor | None]:
        """Take one optimizer step; return the loss, and how many of this process's images were answered right.

        The network is in the mode that it is to train in, and the batch is this process's share. Random numbers follow
        from the recipe's seed, the step, counted from 0, and the process, so that a resumed run draws the same ones.
        """
        self.scheduler.step_update(step)
        seed_everything(self.recipe.seed, step, self.accelerator.process_index)
        parts = self.objective.parts(batch, self.recipe.machine.accumulate)
        device, images = self.accelerator.device, sum(count for count, _ in parts)
        loss, right = torch.zeros((), device=device), torch.zeros((), device=device)
        counted = True
        for i, (count, part) in enumerate(parts):
            last = i == len(parts) - 1
            # Processes exchange gradients once per step, with the last pass.
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    answer = self.objective.answer(self.model, part)
                mean, hits = self.objective.loss(answer, part)
                share = self.change(mean, answer, part) * (count / images)
                self.accelerator.backward(share)
            loss += share.detach()
            if hits is None:
                counted = False
            else:
                right += hits
        if self.recipe.clip_grad is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss, right if counted else None


def _optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    options = {"betas": recipe.betas, "eps": recipe.optimizer_eps}
    by_layer = recipe.layer_decay is not None and trunks(model)
    return create_optimizer_v2(
        _groups_around_trunks(model, recipe) if by_layer else model,
        opt=recipe.optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        layer_decay=None if by_layer else recipe.layer_decay,
        **{name: value for name, value in options.items() if value is not None},
    )


def _groups_around_trunks(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the parameters with their share of the rate: it falls from layer to layer of a trunk, and around it is 1.

    timm groups the layers of a network that it knows, and a detector is none.
    """
    rate = recipe.layer_decay
    assert rate is not None, "without layer-wise decay timm groups any network"
    groups = []
    around = {weight for weight in model.parameters() if weight.requires_grad}
    for trunk in trunks(model):
        network = trunk.model if isinstance(trunk, FeatureGetterNet) else trunk
        undecayed: Any = getattr(network, "no_weight_decay", tuple)()
        for group in param_groups_layer_decay(network, recipe.weight_decay, undecayed, layer_decay=rate):
            groups.append({**group, "lr_scale": group["lr_scale"] * rate})
        around -= set(network.parameters())
    for decay, wanted in ((recipe.weight_decay, True), (0.0, False)):
        share = [weight for weight in model.parameters() if weight in around and (weight.ndim > 1) == wanted]
        groups.append({"params": share, "lr_scale": 1.0, "weight_decay": decay})
    return groups


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
