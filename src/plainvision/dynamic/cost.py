"""Costs of permutations, and which cannot be computed, from shapes alone."""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from plainvision.dynamic.levels import Levels, Step, Values, set_options
from plainvision.inspection.counting import counted_macs
from plainvision.inspection.eval_mode import eval_mode
from plainvision.layers.dynamic_conv import DynamicLayer, Permutation

_SHRUNK = "a feature map would shrink to nothing"


@dataclass(frozen=True)
class Cost:
    """What one image costs in one permutation."""

    macs: int = 0
    """Multiply-adds, of convolutions and matrix products."""
    activations: int = 0
    """Outputs of all convolutions, which is what arXiv:2003.13678 counts as activations."""
    problem: str | None = None
    """Why it cannot be computed, None where it can."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.macs + other.macs, self.activations + other.activations, self.problem or other.problem)


class Costs:
    """The costs of a network's permutations for images of one size.

    They are computed on shapes without values. Levels whose inputs have the same shapes cost the same, whatever options
    led to them, so that few are computed. A network that cannot be traced may decide on values, and computes with them.

    Args:
        levels: of the network.
        sites: their sites' names, in the order of permutations.
        images: (B, C, H, W), of which only shape and dtype matter; costs are of one image.
    """

    def __init__(self, levels: Levels, sites: Sequence[str], images: Tensor) -> None:
        weights = (*levels.model.parameters(), *levels.model.buffers())
        shared: dict[int, Any] = {id(value): value for value in weights}
        self._image = images[:1]
        if levels.traced:
            shared = {key: _without_values(value) for key, value in shared.items()}
            self._image = _without_values(self._image)
        self._model = copy.deepcopy(levels.model, shared)  # copies the layers, and not the weights
        self._levels = levels.of(self._model)
        self._sites = sites
        self._known: dict[Any, tuple[Cost, Values]] = {}
        self._activations = 0
        for layer in self._model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(self._count)
        self._begin = self._pass(0, {})

    def __call__(self, permutation: Permutation) -> Cost:
        """Return the cost of one permutation."""
        return sum(self.levels(permutation), Cost())

    def levels(self, permutation: Permutation) -> list[Cost]:
        """Return the cost of each level of one permutation, up to the first that cannot be computed."""
        options = dict(zip(self._sites, permutation, strict=True))
        cost, values = self._begin
        costs = [cost]
        for number, site in enumerate(self._levels.sites, start=1):
            if cost.problem is not None:
                break
            shapes = tuple(_shape(values[node]) for node in self._levels.levels[number].needed)
            # A network that cannot be traced depends on all options at once.
            chosen = options[site] if self._levels.traced else permutation
            key = (number, chosen, shapes)
            if key not in self._known:
                set_options(self._model, options)
                self._known[key] = self._pass(number, values)
            cost, more = self._known[key]
            costs.append(cost)
            values = {**values, **more}
        return costs

    def _pass(self, number: int, values: Values) -> tuple[Cost, Values]:
        """Return what one level costs, and the values that it leaves."""
        self._activations = 0
        reached = dict(values)
        with eval_mode(self._model), torch.no_grad(), counted_macs() as counted:
            for step in self._levels.levels[number].steps:
                try:
                    reached[step.node] = self._levels.compute(step, reached, self._image)
                except (RuntimeError, ValueError, AssertionError) as error:
                    return Cost(problem=_problem(step, self._model, error)), {}
                value = reached[step.node]
                if isinstance(value, Tensor) and not value.numel():  # which shapes alone may let pass
                    return Cost(problem=_SHRUNK), {}
        return Cost(counted(), self._activations), {node: reached[node] for node in self._levels.levels[number].kept}

    def _count(self, _: nn.Module, __: object, output: Tensor) -> None:
        self._activations += output.numel()


def feasible(
    costs: Costs, permutations: Sequence[Permutation], default: Permutation, max_activations: float | None
) -> tuple[tuple[Permutation, ...], tuple[Cost, ...], dict[str, int]]:
    """Return the permutations within the bound, their costs, and how many there are beside them, by reason.

    The bound is ``max_activations`` times the activations of the trained network, the ``default``; None is no bound.
    """
    bound = None if max_activations is None else max_activations * costs(default).activations
    left_out: Counter[str] = Counter()
    kept = []
    for permutation in permutations:
        cost = costs(permutation)
        reason = cost.problem
        if reason is None and bound is not None and cost.activations > bound:
            reason = f"more than {max_activations:g} times the activations of the trained network"
        if reason is None:
            kept.append((permutation, cost))
        else:
            left_out[reason] += 1
    return tuple(p for p, _ in kept), tuple(cost for _, cost in kept), dict(left_out)


def _shape(value: Any) -> Any:
    """Return what decides the cost of a value: shapes, and numbers that were read from shapes."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, list | tuple):
        return tuple(_shape(item) for item in value)
    return value


def _without_values(value: Tensor) -> Tensor:
    """Return a tensor of shape and type alone, a parameter for a parameter."""
    empty = value.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(value, nn.Parameter) else empty


def _problem(step: Step, model: nn.Module, error: Exception) -> str:
    node = step.node
    layer = model.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(layer, DynamicLayer | nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return _SHRUNK
    if len(node.all_input_nodes) > 1:
        return "two paths of the network no longer meet in the same size"
    what = str(node.target) or "the network"
    return f"{what} cannot compute it ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
