"""Buffers losses: reading one synchronises the device, so it happens every `log_steps`."""

import math
import time
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from plainvision.training.run_folder import RunFolder
from plainvision.training.trackers import Trackers


class Diverged(ValueError):
    """A loss or a weight is not finite any more."""


class Losses:
    """Buffers the losses of ``interval`` steps, writes their means, and raises when one is not finite."""

    def __init__(self, folder: RunFolder, accelerator: Accelerator, interval: int, trackers: Trackers) -> None:
        self.folder, self.accelerator, self.interval, self.trackers = folder, accelerator, interval, trackers
        self._steps: list[tuple[Tensor, Tensor | None]] = []
        self._images = 0
        self.restart_clock()

    @property
    def due(self) -> bool:
        """Whether as many steps are buffered as the interval has."""
        return len(self._steps) >= self.interval

    def add(self, loss: Tensor, right: Tensor | None, images: int) -> None:
        """Buffer a step's loss and the number of this process's images that were answered right, if that counts."""
        self._steps.append((loss, right))
        self._images += images

    def read(self, step: int, learning_rate: float) -> dict[str, float] | None:
        """Write and return the means over the buffered steps, the last of which was ``step``; None where there is none.

        Raises:
            Diverged: a loss is not finite.
        """
        if not self._steps:
            return None
        counted = [right for _, right in self._steps if right is not None]
        columns = [torch.stack([loss for loss, _ in self._steps]), *([torch.stack(counted)] if counted else [])]
        losses, *right = self.accelerator.reduce(torch.stack(columns), "sum").tolist()
        processes = self.accelerator.num_processes
        losses = [loss / processes for loss in losses]
        images, seconds = self._images * processes, time.perf_counter() - self._since
        for i, loss in enumerate(losses):
            if not math.isfinite(loss):
                self.diverged(f"the loss is {loss} at step {step - len(losses) + 1 + i}")
        figures = {
            "loss": sum(losses) / len(losses),
            **({"accuracy": 100 * sum(right[0]) / images} if right else {}),
            "images_per_second": images / seconds,
        }
        self._steps, self._images = [], 0
        self.restart_clock()
        self.log({"step": step, "learning_rate": learning_rate, **figures})
        return figures

    def log(self, line: dict[str, Any]) -> None:
        """Write one line of numbers to the metrics, and hand it to the trackers."""
        if self.accelerator.is_main_process:
            self.folder.log(line)
            self.trackers.log(line)

    def restart_clock(self) -> None:
        """Begin to measure images per second: the time until now went into something else."""
        self._since = time.perf_counter()

    def diverged(self, what: str) -> None:
        """Raise a `Diverged` that says ``what`` and which checkpoint is kept."""
        kept = f"The last checkpoint of {self.folder.path} is from before and is kept."
        raise Diverged(
            f"{what}: training has diverged and was stopped. "
            f"{kept if self.folder.state_file.exists() else f'{self.folder.path} holds no checkpoint yet.'} Start anew "
            "with a lower lr, a longer warm-up or clip_grad; with precision fp16, try bf16."
        )
