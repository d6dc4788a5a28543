"""Circumstances of a measurement: sizes, device, precision."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from plainvision.inspection.devices import usable_device

Precision = Literal["no", "bf16", "fp16", "amp"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Circumstances:
    """The circumstances of a measurement, checked when they are made."""

    image_size: tuple[int, int]
    channels: int
    batch_size: int
    runs: int
    warmup: int
    device: torch.device
    precision: Precision
    channels_last: bool
    compile: bool
    seconds: float | None

    def __post_init__(self) -> None:
        for name, least in {"batch_size": 1, "runs": 1, "warmup": 0}.items():
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name}={value} is too small. Give {least} or more.")
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"seconds={self.seconds} leaves no time to measure. Give more, or None for no limit.")
        if self.precision not in get_args(Precision):
            raise ValueError(f"unknown precision {self.precision!r}. Give one of {', '.join(get_args(Precision))}.")

    @property
    def autocast(self) -> torch.dtype | None:
        """What layers compute in that autocast casts for; None where nothing is cast."""
        if self.precision != "amp":
            return DTYPES.get(self.precision)
        return torch.bfloat16 if self.device.type == "cpu" else torch.float16

    def place(self, model: nn.Module) -> nn.Module:
        """Return ``model``, or a copy of it where device, type or memory layout have to change."""
        moves = any(tensor.device != self.device for tensor in _tensors(model))
        if not moves and self.precision in ("no", "amp") and not self.channels_last:
            return model
        return self.copy_of(model, DTYPES.get(self.precision))

    def copy_of(self, model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
        """Return a copy of ``model`` on the device and in the layout, its weights in ``dtype`` if given."""
        placed = copy.deepcopy(model).to(self.device, dtype)
        return placed.to(memory_format=torch.channels_last) if self.channels_last else placed

    def images(self, dtype: torch.dtype) -> Tensor:
        """Return (B, C, H, W) of uniform noise, the same each time."""
        shape = (self.batch_size, self.channels, *self.image_size)
        images = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(self.device, dtype)
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def synchronize(self) -> None:
        """Wait until the device has done all its work."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)


def networks_by_name(models: nn.Module | Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return networks by name; one alone is called by its class.

    Raises:
        ValueError: there is none, or something else among them.
    """
    if isinstance(models, nn.Module):
        return {type(models).__name__: models}
    if not (isinstance(models, Mapping) and models and all(isinstance(one, nn.Module) for one in models.values())):
        raise ValueError(
            f"cannot measure {models!r}: it holds no networks by name. Give one nn.Module, or a dict such as "
            "{'resnet18': network}."
        )
    return dict(models)


def device_for(networks: Mapping[str, nn.Module], device: torch.device | str | None) -> torch.device:
    """Return the device to run on, with its index; None means where ``networks`` are.

    Raises:
        ValueError: the networks are on several devices, or it is one that `usable_device` refuses.
    """
    found = {str(tensor.device) for network in networks.values() for tensor in _tensors(network)}
    if device is None and len(found) > 1:
        raise ValueError(
            f"the networks lie on several devices ({', '.join(sorted(found))}). Give device= to measure all on one of "
            "them."
        )
    return usable_device(next(iter(found), "cpu") if device is None else device)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def floating_dtype(model: nn.Module) -> torch.dtype:
    """Return the type that ``model`` computes in, which its images should have."""
    return next((tensor.dtype for tensor in _tensors(model) if tensor.is_floating_point()), torch.float32)
