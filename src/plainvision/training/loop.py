"""The training loop. It names no network, no technique and no task, and can stop and resume at any step.

No random state is carried from step to step: order, augmentation, mixing and dropout each follow from the recipe's seed
and the position in the run. A restart therefore needs the weights, the optimizer and the number of steps.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from timm.utils import distribute_bn
from torch import nn

from plainvision.data.locations import absolute
from plainvision.processes import TrainingInterrupted, stop_requested, threads
from plainvision.training.checks import all_finite, has_batch_norm
from plainvision.training.learner import Learner, accelerator_for
from plainvision.training.losses import Losses
from plainvision.training.progress import TrainingProgress
from plainvision.training.recipe import Recipe
from plainvision.training.resumable import dotted_fields, read_metrics
from plainvision.training.run_folder import RunFolder
from plainvision.training.state import restore, saved_state, whole_weights
from plainvision.training.task import Scores, StepBatch
from plainvision.training.trackers import Tracker, Trackers, check_trackers


@dataclass(frozen=True)
class Result:
    """A finished run."""

    folder: Path
    """The run's folder."""
    network: nn.Module
    """The network after the last epoch, or the average of its weights where the recipe keeps one, in eval mode."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    best_score: float
    """Highest validation score of an epoch in which the network had its final form, per cent: a classifier's top-1."""
    last: Any
    """The scores of `network`."""
    doubts: tuple[str, ...]
    """Reasons to doubt that the run learned what it could, a sentence each."""
    stopped_early: str | None
    """Why the run ended before the recipe's last epoch, in words; None where it did not."""

    @property
    def best_top1(self) -> float:
        """The best score of a classifier."""
        return self.best_score


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    trackers: Sequence[Tracker] = (),
) -> Result:
    """Train by ``recipe`` in the folder ``out``, alone or as one of many processes.

    Args:
        recipe: everything that decides the result.
        out: the run's folder, see `plainvision.training.run_folder`.
        resume: continue the run that is there, to the weights that it would have had without a break.
        console: where to show progress and each epoch's scores, for instance `rich.console.Console()`; None is nowhere.
        trackers: what else gets the metrics: "tensorboard", "wandb", "mlflow".

    Raises:
        ValueError: recipe, data and folder do not fit together, or the loss is not finite.
        OSError: the folder cannot be written, or a process that reads images was killed; the state is saved.
        ImportError: a tracker's package is not installed.
        TrainingInterrupted: Ctrl-C or SIGTERM came; the state is saved.
    """
    check_trackers(trackers)
    with threads(recipe.machine.threads), stop_requested() as stop, ExitStack() as held:
        run = _Run(recipe, out, resume, console, trackers, held)
        per_epoch = run.batches.steps_per_epoch
        with run.progress:
            for epoch in range(run.state.step // per_epoch, recipe.epochs):
                if run.stopped_early is not None:
                    break
                run.begin_epoch(epoch)
                stopped = False
                try:
                    for batch in run.batches.epoch(epoch, run.state.step - epoch * per_epoch):
                        run.step(batch)
                        if stopped := run.everyone_stops(stop.is_set()):
                            break
                    # What is saved at the end of an epoch has been evaluated: a resumed run begins with the next one.
                    if run.state.step == (epoch + 1) * per_epoch:
                        run.end_epoch()
                except ChildProcessError as error:
                    raise ChildProcessError(f"{error} Of this run, {run.keep()}") from error
                except KeyboardInterrupt:  # a second one, which may have cut the step in two
                    raise TrainingInterrupted(f"stopped after step {run.state.step}; {run.kept}") from None
                if stopped:
                    raise TrainingInterrupted(f"stopped at step {run.state.step} of {run.steps}; {run.keep()}")
        return run.finish()


class _Run:
    """A run in progress: its parts, and what `train` does with them."""

    def __init__(
        self,
        recipe: Recipe,
        out: str | Path,
        resume: bool,
        console: Console | None,
        trackers: Sequence[Tracker],
        held: ExitStack,
    ) -> None:
        for technique in recipe.techniques:
            technique.check(recipe)
        recipe = replace(recipe, techniques=tuple(technique.pinned() for technique in recipe.techniques))
        self.recipe = recipe
        # What is recorded is found from any folder.
        self.folder = RunFolder(out, replace(recipe, data=absolute(recipe.data)), resume=resume)
        self.accelerator = accelerator_for(recipe)
        share = {"rank": self.accelerator.process_index, "processes": self.accelerator.num_processes}
        self.batches, self.validation = recipe.task.splits(recipe, **share)
        self.classes, self.folder.drawn = self.batches.classes, self.batches.drawn
        self.steps = recipe.epochs * self.batches.steps_per_epoch
        if resume and self.accelerator.is_main_process:
            held.enter_context(self.folder.held())
        self.images = images = f"{self.batches.fingerprint} {self.validation.fingerprint}"
        saved = self.folder.load_state(images) if resume else None
        # The saved network has the form of the epoch of its last step; `begin_epoch` gives it the next one's.
        epoch = max(0, saved["step"] - 1) // self.batches.steps_per_epoch if saved else 0
        # Saved weights descend from those that the recipe starts from.
        self.learner = Learner(recipe, self.accelerator, self.batches, epoch=epoch, fresh=saved is None)
        self.state = self.learner.state
        if not resume and self.accelerator.is_main_process:
            held.enter_context(self.folder.held())
        self.accelerator.wait_for_everyone()
        if saved is not None:
            with self.folder.putting_back():
                if saved["step"] > self.steps:
                    raise ValueError(f"step is {saved['step']}, of {self.steps}")
                restore(saved, self.state, self.learner.optimization)
        if self.accelerator.is_main_process:
            self.folder.save_split()
            self.folder.rewind_metrics(self.state.step)
        self.saved = self.state.step
        main = self.accelerator.is_main_process
        self.progress = TrainingProgress(self.steps, self.state.step, console if main else None)
        settings = dotted_fields(recipe.to_dict())
        tracking = Trackers(trackers if main else (), self.folder.path, settings, self.state.step, self.progress.say)
        held.callback(tracking.finish)
        self.losses = Losses(self.folder, self.accelerator, recipe.machine.log_steps, tracking)
        self.progress.say(
            f"{recipe.brief()}\n"
            f"{len(self.classes)} classes, {self.batches.images_per_epoch} images an epoch, {self.steps} steps"
        )
        for line in recipe.task.first_lines(recipe, self.batches, self.validation):
            self.progress.say(line)
        if recipe.machine.accumulate > 1 and has_batch_norm(self.state.model):
            self.progress.say(
                f"machine.accumulate={recipe.machine.accumulate}: the network has batch norms, whose statistics are "
                f"those of each pass's {self.learner.images_per_pass} images; results differ from those of whole "
                "batches"
            )
        self.skipped: set[str] = set()
        self.evaluation: Scores | None = None

    def begin_epoch(self, epoch: int) -> None:
        """Give the network, and the one that is kept, the form of this epoch."""
        self.learner.reshape(epoch)
        if epoch > 0 and self._settled(epoch) and not self._settled(epoch - 1):
            self.state.best_score = -1.0  # what scored well in another form is not what will be deployed
        self.losses.restart_clock()

    def step(self, batch: StepBatch) -> None:
        """Take one optimizer step."""
        loss, right = self.learner.step(batch)
        for name in sorted(set(batch.skipped) - self.skipped):
            self.progress.say(f"skipped {name}")
        self.skipped |= set(batch.skipped)
        self.losses.add(loss, right, len(batch.names))
        if self.losses.due:
            self._read_losses()
        interval = self.recipe.machine.checkpoint_steps
        # The last step of an epoch is saved by `end_epoch`, together with what it writes.
        if interval and self.state.step % interval == 0 and self.state.step % self.batches.steps_per_epoch:
            self.save()

    def end_epoch(self) -> None:
        """Evaluate, and save the weights and the state."""
        self._read_losses()
        if self.accelerator.num_processes > 1:
            # Each process has its own batch-norm statistics; what is scored and saved has their mean. The order is the
            # same in all of them, as an exchange needs it; that of a set would not be.
            for network in self.state.networks:
                distribute_bn(network, self.accelerator.num_processes, reduce=True)
        self._check_weights()
        self.evaluation = scores = self._evaluate(self.state.best_network)
        for name, value in scores.figures.items():
            if not math.isfinite(value):
                self.losses.diverged(f"the {name.replace('_', ' ')} is {value} at step {self.state.step}")
        line = {"epoch": self.state.epoch, "step": self.state.step, **scores.figures, "skipped": len(self.skipped)}
        for technique in self.recipe.techniques:
            line |= technique.metrics(self.state)
        self.losses.log(line)
        self.progress.say(
            f"epoch {self.state.epoch + 1}/{self.recipe.epochs}  {scores.words}"
            + (f"  {len(self.skipped)} images skipped" if self.skipped else "")
        )
        kinds = ("best", "last") if scores.score > self.state.best_score else ("last",)
        counts = "best" not in kinds and self._settled(self.state.epoch)
        self.state.stale_epochs = self.state.stale_epochs + 1 if counts else 0
        self.state.best_score = max(self.state.best_score, scores.score)
        weights = whole_weights(self.state.best_network, self.accelerator)
        if self.accelerator.is_main_process:
            for kind in kinds:
                self.folder.save_weights(kind, weights, self.classes, self.state.epoch)
        self.save()

    def save(self) -> None:
        """Save the full state, once every loss and every weight up to it is known to be finite."""
        self._read_losses()
        self._check_weights()
        state = saved_state(self.state, self.learner.optimization)
        if self.accelerator.is_main_process:
            self.folder.save_state(state, self.images)
        self.saved = self.state.step

    def keep(self) -> str:
        """Save the state between two steps, and return in words how to go on."""
        if self.accelerator.num_processes == 1 and self.state.step % self.batches.steps_per_epoch:
            self.save()
        return self.kept

    @property
    def kept(self) -> str:
        """What is saved and how to go on, in words."""
        return self.folder.kept(self.saved, self.state.step)

    def everyone_stops(self, asked: bool) -> bool:
        """Return whether any process was asked to stop; processes exchange that as often as they read the loss."""
        if self.accelerator.num_processes == 1:
            return asked
        if self.state.step % self.recipe.machine.log_steps:
            return False
        flag = torch.tensor(float(asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item())

    @property
    def stopped_early(self) -> str | None:
        """Why no further epoch is to be trained, in words; None where all are."""
        stale, done = self.state.stale_epochs, self.state.step // self.batches.steps_per_epoch
        if self.recipe.patience is None or stale < self.recipe.patience or done == self.recipe.epochs:
            return None
        return (
            f"stopped early, after epoch {done} of {self.recipe.epochs}: {self.recipe.task.score_name} has not risen "
            f"above the {self.state.best_score:.2f} % of epoch {done - stale} for {stale} epoch{'s' * (stale > 1)} "
            f"(patience={self.recipe.patience})"
        )

    def finish(self) -> Result:
        """Write the report and return the result; a finished run that was resumed is evaluated again."""
        if self.stopped_early is not None:
            self.progress.say(self.stopped_early)
        evaluation = self.evaluation or self._evaluate(self.state.best_network)
        raw = self._evaluate(self.state.model) if self.state.kept else None
        found = self.recipe.task.doubts(evaluation, raw, read_metrics(self.folder.path))
        for doubt in found:
            self.progress.say(doubt)
        network = self.state.best_network.eval()
        best = self.state.best_score
        result = Result(self.folder.path, network, self.classes, best, evaluation, tuple(found), self.stopped_early)
        said = self.recipe.task.report(result, self.recipe, self.validation, self.accelerator.is_main_process)
        if said is not None:
            self.progress.say(said)
        return result

    def _settled(self, epoch: int) -> bool:
        return all(technique.settled(epoch) for technique in self.recipe.techniques)

    def _read_losses(self) -> None:
        figures = self.losses.read(self.state.step, self.learner.optimization.learning_rate)
        if figures is not None:
            self.progress.advance(self.state.epoch, self.state.step, **figures)

    def _check_weights(self) -> None:
        for network in self.state.networks:
            if self.accelerator.reduce(all_finite(network), "sum") < self.accelerator.num_processes:
                self.losses.diverged(f"weights are not finite after step {self.state.step}")

    def _evaluate(self, network: nn.Module) -> Scores:
        total = partial(self.accelerator.reduce, reduction="sum") if self.accelerator.num_processes > 1 else None
        device = self.accelerator.device
        with self.accelerator.autocast():
            return self.recipe.task.evaluate(network, self.validation, classes=self.classes, device=device, total=total)
