"""What a training run has in hand, and that as tensors and plain numbers, which a restart needs."""

from dataclasses import dataclass, field
from typing import Any, cast

from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from plainvision.data.settings import Data
from plainvision.training.optimization import Optimization
from plainvision.training.techniques import Technique

# Under FSDP2 each process holds a part of every tensor: gather them on the main process, spread them from there.
_GATHER = StateDictOptions(full_state_dict=True, cpu_offload=True)
_SPREAD = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


@dataclass
class State:
    """The moving parts of a run; techniques read and write them."""

    model: nn.Module
    """The network that trains, without any wrapper."""
    kept: nn.Module | None = None
    """A second network of the same form, which a technique computes to be evaluated and saved instead of `model`."""
    epoch: int = 0
    """The epoch that is running, from 0."""
    step: int = 0
    """Optimizer steps taken since the run began."""
    best_score: float = -1.0
    """Highest validation score so far in the network's present form, per cent; -1 before the first."""
    stale_epochs: int = 0
    """Epochs in the network's final form since `best_score` last rose."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the logits."""
    data: Data = field(default_factory=Data)
    """How the images of a step are prepared."""
    notes: dict[type[Technique], Any] = field(default_factory=dict)
    """What techniques compute in `Technique.start` and use in each step, by their class; it is not saved."""

    @property
    def networks(self) -> list[nn.Module]:
        """The network that trains and, where there is one, the one that is kept."""
        return [self.model] if self.kept is None else [self.model, self.kept]

    @property
    def best_network(self) -> nn.Module:
        """The network to evaluate and save."""
        return self.networks[-1]


def whole_weights(model: nn.Module, accelerator: Accelerator) -> dict[str, Tensor]:
    """Return the state dict of ``model`` with whole tensors; every process must call this."""
    if accelerator.is_fsdp2:
        return cast(dict[str, Tensor], get_model_state_dict(model, options=_GATHER))
    return model.state_dict()


def saved_state(state: State, optimization: Optimization) -> dict[str, Any]:
    """Return what a restart needs; every process must call this."""
    accelerator, optimizer = optimization.accelerator, optimization.optimizer.optimizer
    return {
        "step": state.step,
        "best_top1": state.best_score,  # the name that the files of every version have
        "stale_epochs": state.stale_epochs,
        "model": whole_weights(state.model, accelerator),
        "kept": None if state.kept is None else state.kept.state_dict(),
        "optimizer": (
            get_optimizer_state_dict(state.model, optimizer, options=_GATHER)
            if accelerator.is_fsdp2
            else optimizer.state_dict()
        ),
        "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
    }


def restore(saved: dict[str, Any], state: State, optimization: Optimization) -> None:
    """Put back what `saved_state` returned, into networks of the same form."""
    accelerator, optimizer = optimization.accelerator, optimization.optimizer.optimizer
    state.step = saved["step"]
    state.best_score = float(saved["best_top1"])
    state.stale_epochs = int(saved.get("stale_epochs", 0))  # earlier versions had no patience
    if accelerator.is_fsdp2:
        set_model_state_dict(state.model, saved["model"], options=_SPREAD)
        set_optimizer_state_dict(state.model, optimizer, saved["optimizer"], options=_SPREAD)
    else:
        state.model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    if state.kept is not None:
        state.kept.load_state_dict(saved["kept"])
    if accelerator.scaler is not None and saved["scaler"] is not None:  # None: the first part ran without fp16
        accelerator.scaler.load_state_dict(saved["scaler"])
