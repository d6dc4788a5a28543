"""How a network's layers are wired: a symbolic trace, and the shapes that pass."""

import copy
import inspect
from collections.abc import Callable

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn

from plainvision.layers.attention_pool import Pooling
from plainvision.layers.dynamic_conv import DynamicLayer
from plainvision.layers.eval_mode import eval_mode
from plainvision.layers.fusable import Fusable


class _Tracer(fx.Tracer):
    """Traces down to torch's own layers, ours, and timm's batch norm that holds its activation."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaves = Fusable | Pooling | DynamicLayer | BatchNormAct2d
        return isinstance(m, leaves) or super().is_leaf_module(m, module_qualified_name)


class _Shallow(fx.Tracer):
    """Traces one forward pass and no layer within."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def trace(model: nn.Module) -> fx.GraphModule | None:
    """Return a copy of ``model`` as a graph of its layers, or None where its forward pass cannot be traced."""
    model = copy.deepcopy(model)
    graph = trace_graph(model)
    return None if graph is None else fx.GraphModule(model, graph, type(model).__name__)


def trace_graph(model: nn.Module) -> fx.Graph | None:
    """Return the graph of the layers of ``model``, which it names, or None where its pass cannot be traced."""
    try:
        return _Tracer().trace(model)
    except Exception:  # what a forward pass may do while being traced, and raise, has no common type
        return None


def trace_alone(layer: nn.Module) -> fx.Graph | None:
    """Return what ``layer`` itself does, with its optional arguments left out; the layers within stay as they are.

    None where that cannot be traced, or differs between training and evaluation: a graph knows one of the two.
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


def example_input(model: nn.Module, batch: int, image_size: int | tuple[int, int] | None = None) -> Tensor:
    """Return random images (batch, C, H, W) that ``model`` takes, on its device and in its dtype.

    C is that of its first convolution; H and W are ``image_size``, else what timm's ``pretrained_cfg`` says, else 224.
    """
    channels = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
    cfg = getattr(model, "pretrained_cfg", None) or {}  # timm's convention, which other networks do not share
    size = image_size or tuple(cfg.get("input_size", (3, 224, 224)))[1:]
    height, width = (size, size) if isinstance(size, int) else size
    parameter = next(model.parameters(), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, channels, height, width, generator=generator)
    return images.to(device=parameter.device, dtype=parameter.dtype)


def output_shapes(
    model: nn.Module, images: Tensor, wanted: Callable[[nn.Module], bool]
) -> dict[nn.Module, list[torch.Size]]:
    """Return the shapes that each wanted layer puts out in one pass of ``images``, in the order of its calls."""
    shapes: dict[nn.Module, list[torch.Size]] = {}

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        shapes.setdefault(module, []).append(output.shape)

    handles = [module.register_forward_hook(note) for module in model.modules() if wanted(module)]
    try:
        with eval_mode(model), torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put ``layer`` where ``model`` has the layer called ``name``."""
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, layer)
