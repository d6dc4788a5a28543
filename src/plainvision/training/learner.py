"""A recipe's network that learns step by step: without a folder, and without being scored."""

from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import Tensor, nn

from plainvision.processes import process_group
from plainvision.seeds import seed_everything
from plainvision.training.optimization import Optimization
from plainvision.training.recipe import Recipe
from plainvision.training.state import State
from plainvision.training.task import StepBatch, TrainingSplit
from plainvision.training.weights_file import build_network


class Learner:
    """The network of ``recipe`` in the form that it has in ``epoch``, with its optimizer and its techniques.

    A ``fresh`` one has the weights that the recipe starts from; otherwise they are put back afterwards.

    Attributes:
        state: the moving parts.
        optimization: takes the optimizer's steps.

    Raises:
        ValueError: there is no such network, or it cannot take such images.
        FileNotFoundError: the weights to start from are not there.
    """

    def __init__(
        self, recipe: Recipe, accelerator: Accelerator, batches: TrainingSplit, *, epoch: int = 0, fresh: bool = True
    ) -> None:
        self.recipe, self.accelerator = recipe, accelerator
        self._steps_per_epoch = batches.steps_per_epoch
        seed_everything(recipe.seed)
        network = build_network(recipe, len(batches.classes), epoch).to(accelerator.device)
        self.state = State(network, epoch=epoch, classes=batches.classes, data=recipe.data)
        if fresh:
            recipe.task.load_start(self.state.model, recipe)
        recipe.task.check_network(self.state.model, recipe, len(batches.classes), self.images_per_pass)
        self._objective = recipe.task.objective(recipe, batches)
        self.optimization = self._optimization()
        for technique in recipe.techniques:
            technique.start(self.state)

    @property
    def images_per_pass(self) -> int:
        """How many images this process passes through the network at a time."""
        return self.recipe.batch_size // self.accelerator.num_processes // self.recipe.machine.accumulate

    def reshape(self, epoch: int) -> None:
        """Give the network, and the one that is kept, the form of ``epoch``."""
        self.state.epoch = epoch
        model = self.state.model
        for technique in self.recipe.techniques:
            model = technique.reshape(model, epoch)
            if self.state.kept is not None:
                self.state.kept = technique.reshape(self.state.kept, epoch)
        if model is not self.state.model:
            self.state.model = model
            self.optimization = self._optimization()

    def step(self, batch: StepBatch) -> tuple[Tensor, Tensor | None]:
        """Take one step; return the loss, and how many of this process's images were answered right."""
        here = batch.on(self.accelerator.device, channels_last=self.recipe.machine.channels_last)
        self.optimization.model.train()
        for technique in self.recipe.techniques:
            technique.step_start(self.state)
        loss, right = self.optimization.step(here, self.state.step)
        self.state.step += 1
        for technique in self.recipe.techniques:
            technique.step_end(self.state)
        return loss, right

    def _optimization(self) -> Optimization:
        model = self.state.model.to(self.accelerator.device)
        if self.recipe.machine.channels_last:
            model = model.to(memory_format=torch.channels_last)
        if self.recipe.machine.sync_batch_norm:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.state.model = model
        return Optimization(self.recipe, model, self.accelerator, self._objective, self._steps_per_epoch, self._changed)

    def _changed(self, loss: Tensor, answer: Any, part: Any) -> Tensor:
        """Return the loss of a part of a batch with what techniques make of it."""
        for technique in self.recipe.techniques:
            loss = technique.loss(self.state, part, answer, loss)
        return loss


def trial_batches(recipe: Recipe) -> TrainingSplit:
    """Return the batches of a trial in one process that is thrown away; of a cross-validation, its first fold's.

    Raises:
        FileNotFoundError, ValueError: the images are not there, or recipe and data do not fit together.
    """
    data = recipe.data
    fold = 1 if data.folds is not None and data.fold is None else data.fold
    batches, _ = recipe.task.splits(replace(recipe, data=replace(data, fold=fold)), 0, 1)
    return batches


def accelerator_for(recipe: Recipe) -> Accelerator:
    """Return what runs the recipe on this machine, alone or as one of many processes.

    Raises:
        ValueError: the machine cannot do what ``recipe.machine`` asks for.
    """
    machine = recipe.machine
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2) if machine.fsdp else None
    process_group()
    # Accelerate remembers the settings of the process's first run, and would refuse others; the group stays.
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=machine.precision, fsdp_plugin=plugin)
    if machine.fsdp and accelerator.num_processes == 1:
        raise ValueError(
            "machine.fsdp shards parameters over processes, and there is only one. Start with `accelerate launch` or "
            "`torchrun`, or drop machine.fsdp."
        )
    if machine.sync_batch_norm and accelerator.device.type == "cpu":
        raise ValueError("machine.sync_batch_norm needs a GPU in each process; torch has none for CPUs. Drop it.")
    return accelerator
