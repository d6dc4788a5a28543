"""The device to use: one rule for training, evaluating, timing and explaining."""

import torch
from torch import nn


def default_device() -> torch.device:
    """Return the accelerator of this machine, a GPU of any maker, or the CPU where there is none."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def device_of(network: nn.Module) -> torch.device:
    """Return where a network's weights are; the CPU where it has none, as one in a file that a runtime runs."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def usable_device(device: torch.device | str | None = None) -> torch.device:
    """Return ``device`` with its index; None is the `default_device`.

    Raises:
        ValueError: it is not there, cannot compute, or is not one.
    """
    try:
        usable = torch.empty(0, device=default_device() if device is None else device).device
    except (RuntimeError, AssertionError) as error:  # torch asserts when it was built without CUDA
        raise ValueError(
            f"device={str(device)!r} is not on this machine: {error}. Give 'cpu' or one that is."
        ) from error
    if usable.type == "meta":
        raise ValueError(
            "a network on the meta device has no weights to compute with. Build it on a real device; "
            "`count_macs` and `count_parameters` work on meta."
        )
    return usable
