"""The norm and the activation directly behind layers of a network, found on a pass of an image."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import FrozenBatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from plainvision.inspection.eval_mode import eval_mode

_NORMS = (_BatchNorm, FrozenBatchNorm2d, FrozenBatchNormAct2d, nn.GroupNorm, nn.LayerNorm)
_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.Sigmoid),
)
# What they have passed once, they pass again as it is, and so they do what was pooled of it.
_IDEMPOTENT = (nn.ReLU, nn.ReLU6)


class Dropped(nn.Identity):
    """Stands in the place of a layer that a surgery dropped; ``original``, which is no submodule, can come back."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self._original = (original,)

    @property
    def original(self) -> nn.Module:
        """The layer that the network was built with."""
        return self._original[0]


@dataclass(frozen=True)
class Behind:
    """The norm and the activation behind a layer."""

    names: tuple[str, ...] = ()
    """Their names, also of those that are dropped."""
    dropped: bool = False
    """Whether they are."""
    shared: str | None = None
    """The name of one that serves other layers too, and so can't be dropped."""

    def differs(self, dropped: bool) -> bool:
        """Return whether something is to change for them to be dropped, or to be there."""
        return bool(self.names) and self.dropped != dropped


@dataclass(eq=False)
class _Call:
    """A layer's turn in the forward pass."""

    name: str
    layer: nn.Module
    given: Tensor
    left: Tensor


def layers_behind(model: nn.Module, images: Tensor, layers: Sequence[str]) -> dict[str, Behind]:
    """Return what stands directly behind each of ``layers``, which may be nothing, on a pass of ``images``.

    Only what is a layer of its own is found, and not a function in the network's forward pass. A ReLU that serves
    several layers counts as nothing where it has passed the layer's input already: behind a pooling it changes nothing.
    """
    calls = _calls(model, images, layers)
    chains = [(call, _chain(calls[place + 1 :], call.left)) for place, call in enumerate(calls) if call.name in layers]
    turns = Counter(call.name for call in calls)
    served = Counter(behind.name for _, chain in chains for behind in chain)
    found: dict[str, Behind] = {}
    for call, chain in chains:
        shared = [one for one in chain if turns[one.name] > served[one.name]]
        idle = [one for one in shared if _has_passed(calls, one.layer, call.given)]
        first = next((one.name for one in shared if one not in idle), None)
        names = tuple(one.name for one in chain if one not in idle)
        found.setdefault(call.name, Behind(names, any(isinstance(one.layer, Dropped) for one in chain), first))
    return {layer: found.get(layer, Behind()) for layer in layers}


def _chain(calls: Sequence[_Call], left: Tensor) -> list[_Call]:
    """Return the turns of a norm and an activation that begin with ``left``, one of each at most."""
    found: list[_Call] = []
    for call in calls:
        if call.given is not left:
            continue
        norm = isinstance(call.layer, _NORMS) and not any(isinstance(one.layer, _NORMS) for one in found)
        if norm or isinstance(call.layer, (Dropped, *_ACTIVATIONS)):
            found.append(call)
        elif type(call.layer) is not nn.Identity:
            break
        if isinstance(call.layer, _ACTIVATIONS) or not isinstance(
            getattr(call.layer, "act", nn.Identity()), nn.Identity
        ):
            break
        left = call.left
    return found


def _has_passed(calls: Sequence[_Call], layer: nn.Module, values: Tensor) -> bool:
    """Return whether values come from an activation of the kind of ``layer``, which would not change them again."""
    return isinstance(layer, _IDEMPOTENT) and any(
        type(call.layer) is type(layer) and call.left is values for call in calls
    )


def _calls(model: nn.Module, images: Tensor, layers: Sequence[str]) -> list[_Call]:
    """Return the turns of ``layers``, of norms, activations and what does nothing, on a pass of ``images``."""
    calls: list[_Call] = []

    def hook(name: str) -> Any:
        def note(layer: nn.Module, given: tuple[Any, ...], left: Any) -> None:
            if given and isinstance(given[0], Tensor) and isinstance(left, Tensor):
                calls.append(_Call(name, layer, given[0], left))

        return note

    with ExitStack() as hooks, eval_mode(model), torch.no_grad():
        for name, layer in model.named_modules():
            if name in layers or isinstance(layer, (nn.Identity, *_NORMS, *_ACTIVATIONS)):
                hooks.enter_context(layer.register_forward_hook(hook(name)))
        model(images.clone())
    return calls
