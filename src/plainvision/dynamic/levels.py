"""A network's graph, cut into levels: what must be computed again when the option of a site changes.

Level 0 depends on no site; level i on the i-th site that the image meets, and on no later one. After
levels 0 to i, each option of the next site can be tried from there.
"""

import copy
import operator
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn

from plainvision.layers.dynamic_conv import DynamicLayer, Option

Values = dict[fx.Node, Any]

_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
# Their output is new memory, which nothing else reads.
_NEW_MEMORY = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, BatchNormAct2d)


@dataclass(frozen=True)
class Step:
    """One node of the graph."""

    node: fx.Node
    """What is computed."""
    copies: bool
    """Whether it writes into a value that is still needed, and must get a copy of it."""
    spent: tuple[fx.Node, ...]
    """Values of the same level that nothing needs any more."""


@dataclass(frozen=True)
class Level:
    """The steps between the choice at one site and the choice at the next."""

    steps: tuple[Step, ...]
    """In the order of the network."""
    kept: tuple[fx.Node, ...]
    """Values that deeper levels need."""
    needed: tuple[fx.Node, ...]
    """Values of lower levels that this one or deeper ones need."""


class Levels:
    """The levels of a network with dynamic layers.

    Args:
        model: the network.
        graph: of its forward pass in eval mode; None where that cannot be traced.

    Attributes:
        sites: the sites' names in the order that an image meets them.
        levels: one more than there are sites.
        traced: whether the graph can be computed level by level; if not, the last level is the whole pass.
        input: the node that takes the images.
        output: the node that returns the logits.
    """

    def __init__(self, model: nn.Module, graph: fx.Graph | None) -> None:
        self.model = model
        self.traced = graph is not None and self._cut(graph)
        if not self.traced:
            self._cut(_whole_pass())

    def of(self, model: nn.Module) -> "Levels":
        """Return the same levels of a copy of the network."""
        levels = copy.copy(self)
        levels.model = model
        return levels

    def _cut(self, graph: fx.Graph) -> bool:
        """Sort the nodes into levels, and return whether they compute the same in that order."""
        self.graph = graph
        nodes = list(graph.nodes)
        self.input, self.output = nodes[0], nodes[-1]
        site_of = {node: self._site(node) for node in nodes}
        found = [site for site in site_of.values() if site is not None]
        layers = [layer for layer in self.model.modules() if isinstance(layer, DynamicLayer)]
        self.sites = tuple(dict.fromkeys([*found, *(layer.site for layer in layers if layer.site is not None)]))
        depth: dict[str | None, int] = {site: number for number, site in enumerate(self.sites, start=1)}
        depth[None] = 0
        level: dict[fx.Node, int] = {}
        for node in nodes:
            whole = node is self.output or (node.op == "call_module" and node.target == "")
            own = len(self.sites) if whole else depth[site_of[node]]
            level[node] = max([own, *(level[value] for value in node.all_input_nodes)])
        place = {node: number for number, node in enumerate(nodes)}
        if not all(self._can_move(node, place, level) for node in nodes):
            return False
        self.levels = tuple(self._level(number, place, level) for number in range(len(self.sites) + 1))
        return True

    def run(self, number: int, values: Values, images: Tensor | None = None) -> None:
        """Compute the steps of one level, with the options that the layers have, into ``values``."""
        for step in self.levels[number].steps:
            values[step.node] = self.compute(step, values, images)
            for node in step.spent:
                values.pop(node, None)

    def compute(self, step: Step, values: Values, images: Tensor | None = None) -> Any:
        """Return the value of one step."""
        node = step.node
        given: Any = fx.node.map_arg((node.args, node.kwargs), lambda value: values[value])
        args, options = given
        if step.copies:
            args = (args[0].clone(), *args[1:])
        if node.op == "call_module":
            return self._layer(node)(*args, **options)
        if callable(node.target):
            return node.target(*args, **options)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **options)
        if node.op == "get_attr":
            return operator.attrgetter(node.target)(self.model)
        if node.op == "placeholder":
            return images if node is self.input else args[0]  # an optional input has its default
        return args[0]

    def _site(self, node: fx.Node) -> str | None:
        layer = self._layer(node)
        return layer.site if isinstance(layer, DynamicLayer) else None

    def _layer(self, node: fx.Node) -> nn.Module | Any:
        """Return the layer that a node calls, None where it calls none."""
        return self.model.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _level(self, number: int, place: Mapping[fx.Node, int], level: Mapping[fx.Node, int]) -> Level:
        own = [node for node in place if level[node] == number]
        kept = [node for node in own if any(level[user] > number for user in node.users)]
        last = {value: node for node in own for value in node.all_input_nodes if level[value] == number}
        steps = []
        for node in own:
            spent = tuple(value for value, user in last.items() if user is node and value not in kept)
            steps.append(Step(node, self._writes(node) and self._must_copy(node, place, level), spent))
        needed = [n for n in place if level[n] < number and any(level[user] >= number for user in n.users)]
        return Level(tuple(steps), tuple(kept), tuple(needed))

    def _can_move(self, node: fx.Node, place: Mapping[fx.Node, int], level: Mapping[fx.Node, int]) -> bool:
        """Return whether a node can be computed in the order of levels: not where a copy would hide what it writes."""
        if "out" in node.kwargs:
            return False
        if not self._writes(node):
            return True
        value = node.args[0] if node.args else None
        if not isinstance(value, fx.Node) or value.op == "get_attr":
            return False
        read_later = any(place[user] > place[node] for user in value.users)
        return not read_later or not self._must_copy(node, place, level)

    def _must_copy(self, node: fx.Node, place: Mapping[fx.Node, int], level: Mapping[fx.Node, int]) -> bool:
        """Return whether a node writes into a value that the next option, or a node before it, would still read."""
        (value, *_) = node.args
        assert isinstance(value, fx.Node)  # `_can_move` has seen to it
        read_before = any(place[user] < place[node] and level[user] != level[node] for user in value.users)
        return level[value] != level[node] or read_before or not self._is_new(value)

    def _is_new(self, value: fx.Node) -> bool:
        """Return whether a value is memory that was made for it, and not a view of another value."""
        layer = self._layer(value)
        if isinstance(layer, nn.Identity):
            (given,) = value.all_input_nodes
            return len(given.users) == 1 and self._is_new(given)
        return isinstance(layer, _NEW_MEMORY) or value.target in (operator.add, torch.add) or self._writes(value)

    def _writes(self, node: fx.Node) -> bool:
        """Return whether a node overwrites its first input."""
        if node.op == "call_module":
            # torch's own convention; a whole network may write into the images.
            return node.target == "" or bool(getattr(self._layer(node), "inplace", False))
        if node.op == "call_method":
            return str(node.target).endswith("_") and not str(node.target).endswith("__")
        if node.op != "call_function":
            return False
        name = getattr(node.target, "__name__", "")
        named = name.endswith("_") and not name.endswith("__")
        asked = bool(node.kwargs.get("inplace")) or any(value is True for value in node.args[1:])
        return node.target in _IN_PLACE or named or asked


def set_options(model: nn.Module, options: Mapping[str, Option]) -> None:
    """Configure every dynamic layer of the sites that ``options`` name; a layer takes what belongs to it."""
    for layer in model.modules():
        if isinstance(layer, DynamicLayer) and layer.site is not None and layer.site in options:
            option = options[layer.site]
            layer.configure(Option(**{name: getattr(option, name) for name in layer.takes}))


def configured(model: nn.Module, options: Mapping[str, Option]) -> ExitStack:
    """Set options; leaving ``with`` gives every dynamic layer its earlier option back."""
    before = ExitStack()
    for layer in model.modules():
        if isinstance(layer, DynamicLayer):
            before.callback(setattr, layer, "option", layer.option)
    set_options(model, options)
    return before


def _whole_pass() -> fx.Graph:
    """Return the graph of a network that is one layer: itself."""
    graph = fx.Graph()
    graph.output(graph.call_module("", (graph.placeholder("images"),)))
    return graph
