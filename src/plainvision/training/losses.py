"""Losses on their way to the metrics: looked at now and then, because a look waits for the device."""

import contextlib
import math
import time
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from plainvision.training.run_folder import RunFolder


class Losses:
    """Collects losses, writes them to the metrics and TensorBoard, and stops a run whose loss is not finite.

    Args:
        folder: where the metrics go.
        accelerator: sums over processes; only the main one writes.
        interval: steps between two looks.
    """

    def __init__(self, folder: RunFolder, accelerator: Accelerator, interval: int) -> None:
        self.folder = folder
        self.accelerator = accelerator
        self.interval = interval
        self._losses: list[Tensor] = []
        self._right: list[Tensor] = []
        self._images = 0
        self._since = time.perf_counter()
        self._board: Any = None

    @property
    def due(self) -> bool:
        """Whether it is time for a look."""
        return len(self._losses) >= self.interval

    def add(self, loss: Tensor, right: Tensor, images: int) -> None:
        """Take note of one step: its loss and how many of this process's images were answered right."""
        self._losses.append(loss)
        self._right.append(right)
        self._images += images

    def look(self, step: int, learning_rate: float) -> dict[str, float] | None:
        """Write the figures of the steps since the last look, of which ``step`` was the latest, and return them.

        Raises:
            ValueError: a loss is not finite.
        """
        if not self._losses:
            return None
        both = torch.stack([torch.stack(self._losses), torch.stack(self._right)])
        losses, right = self.accelerator.reduce(both, "sum").tolist()
        processes = self.accelerator.num_processes
        losses = [loss / processes for loss in losses]
        images, seconds = self._images * processes, time.perf_counter() - self._since
        for i, loss in enumerate(losses):
            if not math.isfinite(loss):
                self._stop(step - len(losses) + 1 + i, loss)
        figures = {
            "loss": sum(losses) / len(losses),
            "accuracy": 100 * sum(right) / images,
            "images_per_second": images / seconds,
        }
        self._losses, self._right, self._images = [], [], 0
        self._since = time.perf_counter()
        self.log({"step": step, "learning_rate": learning_rate, **figures})
        return figures

    def log(self, line: dict[str, Any]) -> None:
        """Write one line of figures to the metrics, and to TensorBoard where it is installed."""
        if not self.accelerator.is_main_process:
            return
        self.folder.log(line)
        if self._board is None:
            self._board = _tensorboard(self.folder)
        for name, value in line.items():
            if self._board and name not in ("epoch", "step"):
                self._board.add_scalar(name, value, line["step"])

    def restart_clock(self) -> None:
        """Leave the time since the last look out of the images per second: it went into something else."""
        self._since = time.perf_counter()

    def close(self) -> None:
        """Finish what TensorBoard has not written yet."""
        if self._board:
            self._board.close()

    def _stop(self, step: int, loss: float) -> None:
        raise ValueError(
            f"the loss is {loss} at step {step}: training has diverged and was stopped. The last checkpoint of "
            f"{self.folder.path} is from before and is kept. Start anew with a lower lr, a longer warm-up or "
            "clip_grad; with precision fp16, try bf16."
        )


def _tensorboard(folder: RunFolder) -> Any:
    with contextlib.suppress(ImportError):
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder.path / "tensorboard"))
    return False
