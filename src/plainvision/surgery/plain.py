"""A residual network without its shortcuts, as VanillaNet's paper argues with (arXiv:2305.12972)."""

import operator
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn

from plainvision.inspection.counting import count_macs, count_parameters
from plainvision.inspection.tracing import example_input, own_copy, takes, trace_graph

_SUMS = (operator.add, operator.iadd, torch.add)
_LAYERS = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class PlainReport:
    """Which shortcuts a surgery removed, and what that saves."""

    removed: tuple[str, ...]
    """Where each ended: the last layer of the branch that stays."""
    parameters_before: int
    parameters_after: int
    macs_before: int
    """Multiply-adds of one image of ``image_size``, (H, W)."""
    macs_after: int
    image_size: tuple[int, int]

    def __str__(self) -> str:
        height, width = self.image_size
        return (
            f"{len(self.removed)} shortcuts removed; {self.parameters_before:,} parameters -> "
            f"{self.parameters_after:,}, {self.macs_before / 1e6:,.1f} M multiply-adds -> "
            f"{self.macs_after / 1e6:,.1f} M at {height} x {width}"
        )


def plain(
    model: nn.Module, *, image_size: int | tuple[int, int] | None = None, channels: int | None = None
) -> nn.Module:
    """Return a new network without shortcuts, a `torch.fx.GraphModule` whose ``report`` is a `PlainReport`.

    A shortcut is the way with fewer convolutions and linear layers of two that part and are added again; with it go the
    layers that lie on it alone, such as the 1x1 convolution of a ResNet. The other layers keep their weights, but the
    network computes something else: it is for training from the beginning, with the same settings as the residual one.

    Args:
        model: the network; it stays as it is.
        image_size: side, or (H, W), of the image that counts multiply-adds; the network's own by default.
        channels: of that image; the network's own by default.

    Raises:
        ValueError: its forward pass cannot be traced, or it has no shortcut.
    """
    name = type(model).__name__
    model = own_copy(model)
    traced = trace_graph(model)
    if traced is None:
        raise ValueError(
            f"the forward pass of {name} cannot be traced, so that nobody sees where its shortcuts are. Give a network "
            "without branches that depend on the images, such as a ResNet."
        )
    images = example_input(model, 1, image_size, channels)
    size = (images.shape[2], images.shape[3])
    before = count_parameters(model), count_macs(model, size, images.shape[1])
    graph = fx.GraphModule(model, traced, name)
    removed = []
    for node in list(graph.graph.nodes):
        branch = _branch(graph, node)
        if branch is not None:
            node.replace_all_uses_with(branch)
            graph.graph.erase_node(node)
            removed.append(str(branch.target))
    if not removed:
        raise ValueError(
            f"{name} has no shortcut: nowhere do two ways part and are added again. Give a residual network."
        )
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    if not takes(graph, images):
        raise ValueError(f"{name} without its shortcuts cannot be run: its branches change the shape. Give a ResNet.")
    graph.report = PlainReport(  # type: ignore[assignment]
        removed=tuple(removed),
        parameters_before=before[0],
        parameters_after=count_parameters(graph),
        macs_before=before[1],
        macs_after=count_macs(graph, size, images.shape[1]),
        image_size=size,
    )
    return graph


def _branch(graph: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return the way that stays of the two that a sum joins; None where ``node`` is no such sum."""
    is_sum = (node.op == "call_function" and node.target in _SUMS) or (
        node.op == "call_method" and node.target in ("add", "add_")
    )
    ways = [one for one in node.args if isinstance(one, fx.Node)]
    if not is_sum or len(ways) != 2 or node.kwargs:
        return None
    first, second = ({way, *_before(way)} for way in ways)
    fork = first & second
    if not fork:
        return None
    layers = [sum(_is_layer(graph, one) for one in own - fork) for own in (first, second)]
    if layers[0] == layers[1]:
        return None  # nothing tells which one is the shortcut
    return ways[0] if layers[0] > layers[1] else ways[1]


def _before(node: fx.Node) -> Iterator[fx.Node]:
    """Yield all nodes whose values a node's value depends on."""
    waiting, seen = list(node.all_input_nodes), set()
    while waiting:
        found = waiting.pop()
        if found not in seen:
            seen.add(found)
            waiting += found.all_input_nodes
            yield found


def _is_layer(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and any(
        isinstance(part, _LAYERS) for part in graph.get_submodule(str(node.target)).modules()
    )
