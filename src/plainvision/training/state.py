"""What a training run has in hand; techniques read and write it."""

from dataclasses import dataclass

from timm.utils.model_ema import ModelEmaV3
from torch import nn

from plainvision.layers.dynamic_conv import Option


@dataclass
class State:
    """The moving parts of a run."""

    model: nn.Module
    """The network that trains, without any wrapper."""
    average: ModelEmaV3 | None = None
    """The running average of its weights, when a technique keeps one."""
    epoch: int = 0
    """The epoch that is running, from 0."""
    step: int = 0
    """Optimizer steps taken since the run began."""
    best_top1: float = -1.0
    """Highest validation top-1 so far in the network's present form, per cent; -1 before the first."""
    permutations: tuple[dict[str, Option], ...] = ()
    """The options by site that a step may have, when a technique changes them."""

    @property
    def best_network(self) -> nn.Module:
        """The network to evaluate and keep: the average where there is one."""
        return self.model if self.average is None else self.average.module
