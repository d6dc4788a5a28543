"""The exponential moving average of the weights is evaluated and saved instead of the weights."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from plainvision.training.techniques.technique import Technique

if TYPE_CHECKING:
    from collections.abc import Callable

    from plainvision.training.recipe import Recipe
    from plainvision.training.state import State


@dataclass(frozen=True)
class EMA(Technique):
    """Average weights and batch-norm statistics over the steps, by timm's `ModelEmaV3`.

    Without warm-up the average needs some multiples of 1 / (1 - decay) steps to forget the initial weights.
    """

    decay: Annotated[float, 0.0, 1.0] = 0.9999
    """Share of the average that a step keeps."""
    warmup: bool = True
    """Start with a smaller decay, 1 - step ** (-2 / 3), so that a short run does not keep its initial weights."""

    def scaled(self, share: "Callable[[int], int]", ratio: float) -> "EMA":
        # The average reaches over 1 / (1 - decay) steps, which stay the same part of the run.
        return replace(self, decay=max(0.0, round(1 - (1 - self.decay) / ratio, 7)))

    def check(self, recipe: "Recipe") -> None:
        if recipe.machine.fsdp:
            raise ValueError(f"{self} does not work with machine.fsdp: no process holds whole weights. Drop one.")

    def start(self, state: "State") -> None:
        from timm.utils.model_ema import ModelEmaV3

        average = ModelEmaV3(state.model, decay=self.decay, use_warmup=self.warmup)
        state.notes[EMA], state.kept = average, average.module

    def step_end(self, state: "State") -> None:
        average = state.notes[EMA]
        average.module = state.kept  # another object, once a technique gave it another form
        average.update(state.model, step=state.step if self.warmup else None)
