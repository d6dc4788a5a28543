"""Trace how a network's layers are wired, find images that it takes, and replace layers."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from types import CodeType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.optim.swa_utils import AveragedModel

from plainvision.inspection.eval_mode import eval_mode
from plainvision.layers.attention_pool import Pooling
from plainvision.layers.dynamic_conv import DynamicLayer
from plainvision.layers.fusable import BatchNorm, Fusable


class _Tracer(fx.Tracer):
    """Traces down to torch's own layers, ours, and what extends a convolution or a batch norm."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if any(isinstance(part, DynamicLayer) for part in m.modules()):  # a site within is a node of the graph
            return isinstance(m, DynamicLayer)
        leaves = Fusable | Pooling | BatchNorm | nn.Conv2d
        return isinstance(m, leaves) or super().is_leaf_module(m, module_qualified_name)


class _Shallow(fx.Tracer):
    """Traces one forward pass and no layer within."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def own_copy(model: nn.Module) -> nn.Module:
    """Return a copy of ``model`` without what wraps it, or parts of it, for several devices, compiling or averages."""
    while isinstance(model, _WRAPPERS):
        model = _wrapped(model)
    # Weights that hooks compute, as pruning does, are part of a graph, and torch copies none.
    values = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    model = copy.deepcopy(model, {id(value): value.detach().clone() for value in values if not value.is_leaf})
    wrappers = [module for module in model.modules() if isinstance(module, _WRAPPERS)]
    for wrapper in reversed(wrappers):  # those within others first
        replace_layers(model, {wrapper: _wrapped(wrapper)})
    return model


_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, OptimizedModule, AveragedModel)


def _wrapped(model: nn.Module) -> nn.Module:
    return model._orig_mod if isinstance(model, OptimizedModule) else model.module  # type: ignore[return-value]


def trace_graph(model: nn.Module) -> fx.Graph | None:
    """Return the graph of the layers of ``model``, or None where its forward pass cannot be traced."""
    try:
        return _Tracer().trace(model)
    except Exception:  # what a forward pass may do while being traced, and raise, has no common type
        return None


def trace_alone(layer: nn.Module) -> fx.Graph | None:
    """Trace the forward of ``layer`` without its optional arguments; its submodules stay leaves.

    None where that cannot be traced, or differs between training and evaluation, of which a graph has one.
    """
    parameters = inspect.signature(layer.forward).parameters.values()
    optional = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    graphs, found = [], layer.training
    try:
        for training in (True, False):
            layer.training = training
            graphs.append(_Shallow().trace(layer, optional))
    except Exception:  # as above
        return None
    finally:
        layer.training = found
    return graphs[0] if str(graphs[0]) == str(graphs[1]) else None


def trace_parts(model: nn.Module) -> list[tuple[str, fx.Graph]]:
    """Return the graphs of the largest parts of ``model`` that can be traced, each with the part's name."""
    graph = trace_graph(model)
    if graph is not None:
        return [("", graph)]
    parts = {name: part for name, part in model.named_children() if any(True for _ in part.children())}
    return [(f"{own}.{name}" if name else own, g) for own, part in parts.items() for name, g in trace_parts(part)]


def read_elsewhere(model: nn.Module, parts: Sequence[tuple[str, fx.Graph]] | None = None) -> set[nn.Module]:
    """Return the layers whose weights code outside of them reads, or may read.

    ``parts`` are those of `trace_parts`, where they are known.
    """
    found: set[nn.Module] = set()
    owners: dict[nn.Parameter, list[nn.Module]] = {}
    for module in model.modules():
        asked = _WEIGHTS & _asked(type(module))  # type: ignore[arg-type]  # classes can be hashed
        if asked - module._parameters.keys() - module._buffers.keys() and not isinstance(module, Fusable | Pooling):
            found.update(module.modules())
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(parameter, []).append(module)
    for name, graph in trace_parts(model) if parts is None else parts:
        part = model.get_submodule(name)
        paths = [str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"]
        found.update(part.get_submodule(path) for path in paths if path)
    return found.union(*(layers for layers in owners.values() if len(layers) > 1))


_WEIGHTS = {"weight", "bias", "running_mean", "running_var"}


@cache
def _asked(kind: type) -> frozenset[str]:
    """Return the attributes that a pass of this class asks for, in its own methods."""
    classes = kind.__mro__[: kind.__mro__.index(nn.Module)]
    names: set[str] = set()
    waiting: list[Any] = [vars(owner).get("forward") for owner in classes]
    while waiting:
        found = waiting.pop()
        code = found if isinstance(found, CodeType) else getattr(found, "__code__", None)
        if code is not None:
            new = set(code.co_names) - names
            names |= new
            waiting += [*code.co_consts, *(vars(owner).get(name) for owner in classes for name in new)]
    return frozenset(names)


def computes_as(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Return whether ``layer`` is exactly one of ``kinds``: no subclass, no hooks, no pass of its own."""
    return type(layer) in kinds and is_untouched(layer)


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Return whether each output channel of ``conv`` reads one input channel."""
    return conv.groups > 1 and conv.groups == conv.in_channels


def is_untouched(layer: nn.Module) -> bool:
    """Return whether ``layer`` runs its class's forward, without hooks."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return not any(hooks) and "forward" not in vars(layer)


def example_input(
    model: nn.Module, batch: int, image_size: int | tuple[int, int] | None = None, channels: int | None = None
) -> Tensor:
    """Return random images (batch, C, H, W) that ``model`` takes, on its device and in its dtype.

    C is ``channels``, else what timm's ``pretrained_cfg`` says, else that of a convolution: where these disagree, the
    first with which a pass succeeds. H and W are ``image_size``, else what ``pretrained_cfg`` says, else 224.
    """
    cfg = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None) or {}  # timm's convention
    expected = tuple(cfg.get("input_size", ()))
    size = image_size or expected[1:] or 224
    height, width = (size, size) if isinstance(size, int) else size
    parameter = next(model.parameters(), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)

    def images(batch: int, channels: int) -> Tensor:
        found = torch.randn(batch, channels, height, width, generator=generator)
        return found.to(device=parameter.device, dtype=parameter.dtype)

    if channels is None:
        convolutions = [m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
        possible = list(dict.fromkeys([*expected[:1], *convolutions[:1], 3, 1, *convolutions[1:]]))
        if {*expected[:1], *convolutions[:1]} == {3}:
            possible = [3]
        fitting = (c for c in possible if len(possible) == 1 or takes(model, images(1, c)))
        channels = next(fitting, possible[0])
        generator.manual_seed(0)
    return images(batch, channels)


def takes(model: nn.Module, images: Tensor) -> bool:
    """Return whether ``model`` runs on images (B, C, H, W)."""
    try:
        with eval_mode(model), torch.no_grad():
            model(images.clone())
    except Exception:  # a forward pass may raise anything
        return False
    return True


def output_shapes(
    model: nn.Module, images: Tensor, wanted: Callable[[nn.Module], bool]
) -> dict[nn.Module, list[torch.Size]]:
    """Return the output shapes of each wanted layer in one pass of ``images``, in the order of its calls."""
    shapes: dict[nn.Module, list[torch.Size]] = {}

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        shapes.setdefault(module, []).append(output.shape)

    with ExitStack() as hooks, eval_mode(model), torch.no_grad():
        for module in filter(wanted, model.modules()):
            hooks.enter_context(module.register_forward_hook(note))
        model(images.clone())
    return shapes


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put ``layer`` where ``model`` has the layer called ``name``, under all names that it has."""
    replace_layers(model, {model.get_submodule(name): layer})


def replace_layers(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Return ``model`` with each layer of ``new`` replaced under all its names; ``model`` itself may be one."""
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if child is not None and child in new:
                setattr(module, name, new[child])
    return new.get(model, model)
