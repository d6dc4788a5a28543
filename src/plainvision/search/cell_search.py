"""Cell search: a step for the architecture, a step for the weights, each on its own half of the training images.

Paper    Liu et al. 2019, "DARTS", https://arxiv.org/abs/1806.09055, algorithm 1 with ξ = 0 (first order)
Differs  the learning rate falls with every step, not with every epoch

Nothing random is remembered between steps: a restart needs the parameters, the optimizers and the number of steps.

    search.json      what was asked for
    metrics.jsonl    one line per epoch
    genotype.json    the cells after the last whole epoch
    state.pt         everything that a restart needs
"""

import math
import os
import time
from contextlib import ExitStack
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from plainvision.data.rows import Batch
from plainvision.genotype import Genotype, load_genotype
from plainvision.inspection.devices import default_device
from plainvision.processes import TrainingInterrupted, stop_requested
from plainvision.search.choices import parameter_free_share
from plainvision.search.halves import Halves
from plainvision.search.settings import CellSearch
from plainvision.search.supernet import Supernet
from plainvision.seeds import seed_everything
from plainvision.training.checks import all_finite
from plainvision.training.progress import TrainingProgress
from plainvision.training.resumable import ResumableFolder

# Depthwise convolutions of few channels and pooling take a CPU less than half the time in this memory layout.
_LAYOUT = torch.channels_last
# What of a search has a state of its own.
_PARTS = ("net", "weights", "architecture")


class SearchFolder(ResumableFolder):
    """The files of one search.

    Raises:
        ValueError: the folder holds another search, this one without ``resume``, or nothing to resume.
    """

    file = "search.json"
    noun = "search"
    this = "this search"
    other = "another search"
    advice = "the settings of that search"
    free = ("data.workers", "checkpoint_steps")  # how the search uses the machine


def search_cells(
    settings: CellSearch, out: str | Path, *, resume: bool = False, console: Console | None = None
) -> Genotype:
    """Search cells in the folder ``out`` and return those of the last epoch.

    Args:
        settings: everything that decides the result.
        out: the search's folder.
        resume: continue the search that is there, to the cells that it would have found without a break.
        console: where to show progress; None is nowhere.

    Raises:
        ValueError: settings, data and folder do not fit together, or a loss is not finite.
        OSError: the folder cannot be written.
        TrainingInterrupted: Ctrl-C or SIGTERM came; the state is saved.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("a search runs in one process. Start it without a launcher; one GPU is enough.")
    folder = SearchFolder(out, settings.to_dict(), resume=resume)
    with ExitStack() as held, stop_requested() as stop:
        if resume:
            held.enter_context(folder.held())
        search = _Search(settings, folder, resume, console)
        if not resume:
            held.enter_context(folder.held())
        folder.rewind_metrics(search.step)
        per_epoch = search.halves.steps_per_epoch
        with search.progress:
            for epoch in range(search.step // per_epoch, settings.epochs):
                try:
                    for weights, architecture in search.halves.epoch(epoch, search.step - epoch * per_epoch):
                        search.advance(epoch, weights, architecture)
                        if stop.is_set():
                            break
                except ChildProcessError as error:
                    raise ChildProcessError(f"{error} Of this search, {search.keep()}") from error
                except KeyboardInterrupt:  # a second one, which may have cut the step in two
                    raise TrainingInterrupted(
                        f"stopped at step {search.step} of {search.steps}; {search.kept}"
                    ) from None
                if search.step == (epoch + 1) * per_epoch:
                    search.end_epoch(epoch)
                if stop.is_set():
                    raise TrainingInterrupted(f"stopped at step {search.step} of {search.steps}; {search.keep()}")
    return load_genotype(folder.path / "genotype.json", space=settings.space)


class _Search:
    """A search in progress."""

    def __init__(
        self, settings: CellSearch, folder: SearchFolder, resume: bool, console: Console | None = None
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.halves = Halves(settings)
        self.steps = settings.epochs * self.halves.steps_per_epoch
        self.device = default_device()
        seed_everything(settings.seed)
        self.net = Supernet(
            settings.space,
            channels=settings.channels,
            num_classes=len(self.halves.classes),
            in_chans=settings.data.channels,
            stem_stride=settings.stem_stride,
        )
        self.net.to(self.device).to(memory_format=_LAYOUT)
        self.weights = torch.optim.SGD(
            self.net.weights(), settings.lr, settings.momentum, weight_decay=settings.weight_decay
        )
        self.architecture = torch.optim.Adam(
            self.net.architecture(),
            settings.architecture_lr,
            settings.architecture_betas,
            weight_decay=settings.architecture_weight_decay,
        )
        self.step = self.saved = 0
        # Of the epoch so far, for the weights and for the architecture: losses, right answers, images.
        self.sums = torch.zeros(2, 3, dtype=torch.float64)
        if resume and (state := folder.load_state(self.halves.fingerprint)):
            with folder.putting_back():
                if state["step"] > self.steps:
                    raise ValueError(f"step is {state['step']}, of {self.steps}")
                for name in _PARTS:
                    getattr(self, name).load_state_dict(state[name])
                self.sums.copy_(state["sums"])
            self.step = self.saved = state["step"]
        self.progress = TrainingProgress(self.steps, self.step, console)
        space = settings.space
        self.progress.say(
            f"{len(self.halves.classes)} classes, {self.halves.images[0]} + {self.halves.images[1]} images, "
            f"{space.depth} {space.cells} cells of {space.nodes} nodes, {self.steps} steps"
        )

    def advance(self, epoch: int, weights: Batch, architecture: Batch) -> None:
        """Take one step of both."""
        begin = time.perf_counter()
        self.net.train()
        for group in self.weights.param_groups:
            group["lr"] = 0.5 * self.settings.lr * (1 + math.cos(math.pi * self.step / self.steps))
        # The architecture first, as in algorithm 1: its gradient is that of the weights as they are.
        figures = [
            self._descend(self.architecture, architecture, None),
            self._descend(self.weights, weights, self.settings.clip_grad),
        ]
        self.step += 1
        self.sums += torch.tensor([(loss * n, right, n) for loss, right, n in reversed(figures)], dtype=torch.float64)
        loss, right, images = figures[1]
        if not all(math.isfinite(figure[0]) for figure in figures):
            self._diverged(f"the loss is {loss} for the weights and {figures[0][0]} for the architecture")
        for name in dict.fromkeys(weights.skipped + architecture.skipped):
            self.progress.say(f"skipped {name}")
        speed = (images + figures[0][2]) / (time.perf_counter() - begin)
        self.progress.advance(epoch, self.step, loss, 100 * right / images, speed)
        interval = self.settings.checkpoint_steps
        # The last step of an epoch is saved by `end_epoch`, together with what it writes.
        if interval and self.step % interval == 0 and self.step % self.halves.steps_per_epoch:
            self._save()

    def keep(self) -> str:
        """Save what can be saved between two steps, and say how to go on."""
        if self.step % self.halves.steps_per_epoch:
            self._save()
        return self.kept

    @property
    def kept(self) -> str:
        """What is saved, and how to go on."""
        return self.folder.kept(self.saved, self.step)

    def end_epoch(self, epoch: int) -> None:
        """Write the cells, the epoch's figures and the state."""
        self._check_weights()
        genotype = self.net.genotype({"epoch": epoch + 1, "search": self.settings.to_dict()})
        genotype.save(self.folder.path / "genotype.json")
        figures: dict[str, float] = {"epoch": epoch, "step": self.step}
        for half, (loss, right, images) in zip(("weights", "architecture"), self.sums.tolist(), strict=True):
            figures |= {f"{half}_loss": loss / images, f"{half}_accuracy": 100 * right / images}
        share = parameter_free_share(genotype)
        self.folder.log(figures | {"parameter_free": share})
        self.sums.zero_()
        self.progress.say(
            f"epoch {epoch + 1}/{self.settings.epochs}  {figures['weights_accuracy']:.1f} % of the weights' half "
            f"right, {figures['architecture_accuracy']:.1f} % of the architecture's; {100 * share:.0f} % of normal "
            "operations without parameters"
        )
        self._save()

    def _descend(self, optimizer: torch.optim.Optimizer, batch: Batch, clip: float | None) -> tuple[float, int, int]:
        """Move the optimizer's parameters alone, and return loss, right answers and images."""
        images, labels = batch.images.to(self.device, memory_format=_LAYOUT), batch.labels.to(self.device)
        parameters: list[Tensor] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        logits = self.net(images)
        loss = F.cross_entropy(logits, labels)
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item(), int((logits.argmax(1) == labels).sum()), len(labels)

    def _check_weights(self) -> None:
        if not all_finite(self.net):
            self._diverged("weights are not finite")

    def _diverged(self, what: str) -> None:
        kept = f"Step {self.saved} is saved in {self.folder.path}" if self.saved else "Nothing is saved yet"
        raise ValueError(
            f"{what} at step {self.step}: the search has diverged and was stopped. {kept}. Start anew with a lower lr "
            "or architecture_lr."
        )

    def _save(self) -> None:
        self._check_weights()
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        self.folder.save_state({"step": self.step, **parts, "sums": self.sums}, self.halves.fingerprint)
        self.saved = self.step
