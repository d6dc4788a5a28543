"""Random option fine-tuning: each step with other options at the network's sites (arXiv:2103.09891, section 3.4)."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from plainvision.fields import ABOVE_ZERO
from plainvision.training.techniques.technique import NoEffectWarning, Technique

if TYPE_CHECKING:
    from torch import nn

    from plainvision.dynamic.network import DynamicNetwork
    from plainvision.dynamic.space import Space
    from plainvision.training.recipe import Recipe
    from plainvision.training.state import State


@dataclass(frozen=True)
class RandomOptions(Technique):
    """Draw a permutation of options for each step, so that a trained network learns to answer in all of them.

    All permutations that can be computed are equally likely; all processes draw the same one. The network is evaluated
    and saved with its trained options, and with batch-norm statistics of all permutations.

    Raises:
        ValueError: values are given beside the paper's space, or neither is; and, when a network is built and the run
            starts, sites or values that do not fit it.
    """

    attribute: Literal["stride", "dilation", "size"] | None = "stride"
    """Attribute that changes, over the values of the paper; None where values are given below."""
    stride: Annotated[tuple[float, ...] | dict[str, tuple[float, ...]] | None, ABOVE_ZERO, 1024.0] = None
    """Strides of all sites, or of each by its name; a site that is not named keeps its own. None keeps all."""
    dilation: Annotated[tuple[int, ...] | dict[str, tuple[int, ...]] | None, 1, 1024] = None
    """Dilations, likewise."""
    size: Annotated[tuple[int, ...] | dict[str, tuple[int, ...]] | None, 1, 1024] = None
    """Kernel sizes, likewise."""
    sites: dict[str, str] | None = None
    """The layer at each site, by the site's name; None takes those of a known network."""
    image_size: Annotated[int | None, 8, 4096] = None
    """Side of the images, which decides what can be computed; None is the network's own."""
    seed: Annotated[int, 0, 2**63 - 1] = 0
    """Decides, with the number of the step, which permutation a step gets."""

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("stride", "dilation", "size")}
        for name, values in given.items():
            object.__setattr__(self, name, _tuples(values))  # JSON has lists
        super().__post_init__()
        explicit = [name for name, values in given.items() if values is not None]
        if self.attribute is not None and explicit:
            raise ValueError(
                f"RandomOptions: attribute={self.attribute!r} takes the values of the paper, and {explicit[0]} gives "
                f"others. Set attribute=None, or drop {explicit[0]}."
            )
        if self.attribute is None and not explicit:
            raise ValueError(
                "RandomOptions: nothing changes. Set attribute to stride, dilation or size, or give values, for "
                "instance dilation=(1, 2, 3)."
            )

    def check(self, recipe: "Recipe") -> None:
        if self.image_size not in (None, recipe.data.image_size):
            raise ValueError(
                f"RandomOptions: image_size={self.image_size} decides which permutations can be computed, but the "
                f"network trains on data.image_size={recipe.data.image_size}. Give both the same value."
            )
        if sum(isinstance(item, RandomOptions) for item in recipe.techniques) > 1:
            raise ValueError("two RandomOptions would undo each other's permutations. Put all values into one of them.")
        if recipe.machine.fsdp:
            raise ValueError(
                "RandomOptions does not work with machine.fsdp: its processes hold no whole weights to try the "
                "permutations. Drop machine.fsdp."
            )
        if recipe.machine.compile:
            warnings.warn(
                "RandomOptions with machine.compile: torch.compile starts anew for each permutation and gives up after "
                "a few. The result is the same, and comes later. Drop machine.compile.",
                stacklevel=2,
            )

    def build(self, model: "nn.Module") -> "nn.Module":
        from plainvision.dynamic.space import Space

        # Each site keeps its own value for now: to try all permutations takes seconds, and loading needs none.
        own: dict[str, Any] = {name: {} for name in self._space().attributes}
        return self._network(model, Space(**own)).model

    def start(self, state: "State") -> None:
        network = self._network(state.model, self._space())
        permutations = [dict(zip(network.sites, found, strict=True)) for found in network.permutations]
        state.notes[RandomOptions] = permutations
        if len(permutations) == 1:
            warnings.warn(
                f"{self} has a single permutation, so that every step gets the same one. Give more values, or drop it.",
                NoEffectWarning,
                stacklevel=2,
            )

    def step_start(self, state: "State") -> None:
        from plainvision.dynamic.levels import set_options
        from plainvision.seeds import derived_seed

        # Of a 32-bit number, the few hundred permutations leave no bias worth mentioning.
        permutations = state.notes[RandomOptions]
        set_options(state.model, permutations[derived_seed(self.seed, state.step) % len(permutations)])

    def step_end(self, state: "State") -> None:
        # An evaluation may follow, which sees the trained options.
        from plainvision.dynamic.levels import set_options
        from plainvision.layers.dynamic_conv import Option

        set_options(state.model, dict.fromkeys(state.notes[RandomOptions][0], Option()))

    def _space(self) -> "Space":
        from plainvision.dynamic.space import Space

        if self.attribute is not None:
            return Space.paper(self.attribute)
        return Space(stride=self.stride, dilation=self.dilation, size=self.size)

    def _network(self, model: "nn.Module", space: "Space") -> "DynamicNetwork":
        from plainvision.dynamic.network import DynamicNetwork

        return DynamicNetwork(model, sites=self.sites, space=space, image_size=self.image_size)


def _tuples(values: Any) -> Any:
    if isinstance(values, dict):
        return {site: tuple(options) for site, options in values.items()}
    return tuple(values) if isinstance(values, list) else values
