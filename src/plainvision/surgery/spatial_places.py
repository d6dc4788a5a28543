"""Find a network's spatial operations by how it is wired, on a pass of an image.

A spatial operation is a convolution with a kernel above 1x1, or self-attention as timm's ViTs have it, in a block.
The stem is none. It is the run of plain convolutions at the beginning, up to the first layer of a block: a 1x1 or a
depthwise convolution, a linear layer, attention, or a convolution on a branch, which a shortcut goes past.
"""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from timm.layers import Attention
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from plainvision.inspection.eval_mode import eval_mode
from plainvision.inspection.tracing import is_depthwise
from plainvision.layers.fusable import Fusable
from plainvision.surgery.spatial_layers import SpatialOp

Kind = Literal["conv", "depthwise", "attention"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, eq=False)
class Place:
    """A layer of a network that is a spatial operation."""

    name: str
    layer: nn.Module
    """A convolution, attention, or what a surgery put in its place."""
    patches: nn.Module | None = None
    """For attention: the convolution from which the tokens come; None where they are not those of its grid."""
    grid: tuple[int, int] = (0, 0)
    """For attention: height and width of that convolution's output."""
    prefix: int = 0
    """For attention: tokens in front of the patches."""

    @property
    def original(self) -> nn.Module:
        """The layer that the network was built with."""
        return self.layer.original if isinstance(self.layer, SpatialOp) else self.layer

    @property
    def kind(self) -> Kind:
        """What the network was built with here."""
        if isinstance(self.original, nn.Conv2d):
            return "depthwise" if is_depthwise(self.original) else "conv"
        return "attention"

    @property
    def op(self) -> str:
        """What is here now."""
        return self.layer.op if isinstance(self.layer, SpatialOp) else self.kind


def find_places(model: nn.Module, images: Tensor) -> list[Place]:
    """Return the spatial operations of ``model`` in the order of a pass of ``images`` (B, C, H, W).

    Images that the network does not take are a ValueError.
    """
    probe = _Probe(model)
    probe.run(model, images)
    begin = probe.end_of_stem()
    places: dict[str, Place] = {}
    for index, call in enumerate(probe.calls):
        # A layer may have several turns.
        if call.name in places or not _is_spatial(call.layer) or call.number < begin or call.of_images:
            continue
        place = Place(call.name, call.layer)
        patches = probe.patches_before(index) if isinstance(call.layer, Attention) else None
        if patches is not None:
            height, width = patches.output[-2:]
            place = Place(call.name, call.layer, patches.layer, (height, width), call.tokens - height * width)
        places[call.name] = place
    return [*places.values()]


@dataclass(eq=False)
class _Call:
    """A layer's turn in the forward pass."""

    name: str
    layer: nn.Module
    number: int  # of torch's functions that had been called before
    of_images: bool  # it reads the images, so it is in the stem, whatever stands beside it
    tokens: int
    output: tuple[int, ...] = ()


class _Probe(TorchFunctionMode):
    """Notes which layers a pass calls, and which of torch's functions are given the same tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        whole = Fusable | SpatialOp | Attention  # what is within them is theirs
        within = {part for module in model.modules() if isinstance(module, whole) for part in module.modules()}
        self.layers = {
            module: name
            for name, module in model.named_modules()
            if (isinstance(module, nn.Conv2d | nn.Linear) and module not in within)
            or isinstance(module, Attention | SpatialOp)
            if name
        }
        self.calls: list[_Call] = []
        self._functions = 0
        self._readers: dict[Tensor, list[int]] = {}  # of each tensor the numbers of the functions that read it
        self._images: Tensor | None = None

    def run(self, model: nn.Module, images: Tensor) -> None:
        """Pass ``images`` through ``model``, which stays as it is."""
        self._images = images = images.clone()  # a pass may write into what it is given
        try:
            with ExitStack() as hooks, eval_mode(model), torch.no_grad(), self:
                for layer in self.layers:
                    hooks.enter_context(layer.register_forward_pre_hook(self._enter))
                    hooks.enter_context(layer.register_forward_hook(self._leave))
                model(images)
        except (RuntimeError, AssertionError) as error:
            height, width = images.shape[2:]
            raise ValueError(
                f"cannot tell where the spatial operations of {type(model).__name__} are: it does not take an image "
                f"of {images.shape[1]}x{height}x{width}: {error}. Give the size that it takes with image_size."
            ) from error

    def end_of_stem(self) -> int:
        """Return how many functions had been called when the first block began."""
        within = [call.number for call in self.calls if not _is_plain(call.layer)]
        convolutions = [call.number for call in self.calls if isinstance(call.layer, nn.Conv2d)]
        # Two readers alone make no branch, as in x * sigmoid(x): there is one where a convolution comes between them.
        branches = [
            readers[0]
            for readers in self._readers.values()
            if any(readers[0] <= number < readers[-1] for number in convolutions)
        ]
        return min([*within, *branches], default=self._functions)

    def patches_before(self, index: int) -> _Call | None:
        """Return the convolution whose places are the tokens that attention, call number ``index``, is given."""
        before = [call for call in self.calls[:index] if isinstance(call.layer, nn.Conv2d) and len(call.output) == 4]
        if not before or math.prod(before[-1].output[2:]) > self.calls[index].tokens:
            return None
        return before[-1]

    def _enter(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0] if args else None
        tokens = x.shape[1] if isinstance(x, Tensor) and x.ndim == 3 else 0
        self.calls.append(_Call(self.layers[layer], layer, self._functions, x is self._images, tokens))

    def _leave(self, layer: nn.Module, _: object, output: Any) -> None:
        call = next(call for call in reversed(self.calls) if call.layer is layer)
        call.output = tuple(output.shape) if isinstance(output, Tensor) else ()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        first = result[0] if isinstance(result, tuple | list) and result else result
        if not isinstance(first, Tensor):  # a shape, for instance
            return result
        for value in (*args, *kwargs.values()):
            for tensor in value if isinstance(value, tuple | list) else (value,):
                # What works in place hands its tensor on; weights that are standardised first are read twice.
                if not isinstance(tensor, Tensor) or tensor is first or isinstance(tensor, nn.Parameter):
                    continue
                self._readers.setdefault(tensor, []).append(self._functions)
        self._functions += 1
        return result


def _is_spatial(layer: nn.Module) -> bool:
    return isinstance(layer, Attention | SpatialOp) or (isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1))


def _is_plain(layer: nn.Module) -> bool:
    """Return whether this is a convolution as stems have them: over pixels and channels at once."""
    return isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1) and not is_depthwise(layer)
