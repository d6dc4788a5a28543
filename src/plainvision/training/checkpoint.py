"""The state of a run as tensors and plain numbers, whole on the main process however the network is spread."""

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

from plainvision.training.optimization import Optimization
from plainvision.training.state import State

# Under FSDP2 each process holds a part of every tensor: gather them on the main process, spread them from there.
_GATHER = StateDictOptions(full_state_dict=True, cpu_offload=True)
_SPREAD = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


def whole_weights(model: nn.Module, accelerator: Accelerator) -> dict[str, Tensor]:
    """Return the state dict of ``model`` with whole tensors; every process must call this."""
    if accelerator.is_fsdp2:
        return cast(dict[str, Tensor], get_model_state_dict(model, options=_GATHER))
    return model.state_dict()


def training_state(state: State, optimization: Optimization) -> dict[str, Any]:
    """Return what a restart needs; every process must call this."""
    accelerator, optimizer = optimization.accelerator, optimization.optimizer.optimizer
    return {
        "step": state.step,
        "best_top1": state.best_top1,
        "model": whole_weights(state.model, accelerator),
        "average": None if state.average is None else state.average.module.state_dict(),
        "optimizer": (
            get_optimizer_state_dict(state.model, optimizer, options=_GATHER)
            if accelerator.is_fsdp2
            else optimizer.state_dict()
        ),
        "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
    }


def load_training_state(saved: dict[str, Any], state: State, optimization: Optimization) -> None:
    """Put back what `training_state` returned, into networks of the same form."""
    accelerator, optimizer = optimization.accelerator, optimization.optimizer.optimizer
    state.step = saved["step"]
    state.best_top1 = float(saved["best_top1"])
    if accelerator.is_fsdp2:
        set_model_state_dict(state.model, saved["model"], options=_SPREAD)
        set_optimizer_state_dict(state.model, optimizer, saved["optimizer"], options=_SPREAD)
    else:
        state.model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    if state.average is not None:
        state.average.module.load_state_dict(saved["average"])
    if accelerator.scaler is not None and saved["scaler"] is not None:  # None: the first part ran without fp16
        accelerator.scaler.load_state_dict(saved["scaler"])
