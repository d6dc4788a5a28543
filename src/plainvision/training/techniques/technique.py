"""What a technique is, and when a run calls it."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from plainvision.fields import Ranges, check_ranges, ranges_of

if TYPE_CHECKING:  # a technique is described without torch; it imports it when it acts
    from collections.abc import Callable

    from torch import Tensor, nn

    from plainvision.training.recipe import Recipe
    from plainvision.training.state import State


class NoEffectWarning(UserWarning):
    """A technique found nothing to do."""


class Technique:
    """A frozen dataclass that acts at the moments named below; what it does not define, it does not do.

    For each technique in the recipe's order, a run calls::

        check(recipe)                        once, before anything is built
        technique = pinned()                 once, before the run's folder records it
        model = build(model)                 once, on the new network
        start(state)                         once, when the optimizer exists, before a saved state is put back
        model = reshape(model, epoch)        on the built network, and as each epoch begins; on the kept network alike
        settled(epoch)                       as each epoch begins
        step_start(state)                    before each optimizer step
        loss = loss(state, part, ...)        on each part of a batch, between the network's answer and the gradients
        step_end(state)                      after each optimizer step
        metrics(state)                       after each epoch's evaluation

    Beside a run, `scaled` fits a technique to another number of epochs, and `to_dict` records it.

    A technique has no state of its own, so that a resumed run is the run that was never stopped. What must survive is
    in the networks of the `State` (its weights are saved), or follows from the epoch and the step. What `start`
    computes anew from these, it keeps in ``state.notes``.
    """

    ranges: ClassVar[Ranges] = {}
    """Least and largest value of each field that is a number, from its ``Annotated[float, least, largest]``."""

    files: ClassVar[tuple[str, ...]] = ()
    """Fields that name files or addresses: in a recipe from somebody's file they are text that opens nothing."""

    def __init_subclass__(cls) -> None:
        cls.ranges = {**ranges_of(cls), **cls.ranges}

    def __post_init__(self) -> None:
        check_ranges(self, self.ranges, f"{type(self).__name__}: ")

    def scaled(self, share: "Callable[[int], int]", ratio: float) -> "Technique":
        """Return the technique for a run ``ratio`` times as long; ``share`` turns its epochs into those of that run."""
        return self

    def check(self, recipe: "Recipe") -> None:
        """Raise or warn when the recipe leaves this technique nothing to do."""

    def pinned(self) -> "Technique":
        """Return the technique with the hash of what it reads from files, so that a run resumes with the same."""
        return self

    def build(self, model: "nn.Module") -> "nn.Module":
        """Return the network to train: ``model``, changed or not."""
        return model

    def start(self, state: "State") -> None:
        """Put what each step needs into ``state.notes``, and a network to be evaluated into ``state.kept``."""

    def reshape(self, model: "nn.Module", epoch: int) -> "nn.Module":
        """Return the network in the form that it has in ``epoch``; another object gets a new optimizer."""
        return model

    def settled(self, epoch: int) -> bool:
        """Return whether the network has its final form in ``epoch``; the best weights are sought from then on."""
        return True

    def step_start(self, state: "State") -> None:
        """Act before an optimizer step; ``state.step`` is its number, from 0."""

    def loss(self, state: "State", part: Any, answer: Any, loss: "Tensor") -> "Tensor":
        """Return the mean loss over a part of a batch: ``loss``, or what becomes of it.

        Args:
            state: the run's.
            part: of classification images (B, C, H, W), mixed and augmented as the network got them, targets (B, K)
                and labels (B,); of another task what its objective makes.
            answer: the network's, for classification logits (B, K).
            loss: the recipe's, after the techniques before.
        """
        return loss

    def step_end(self, state: "State") -> None:
        """Act after an optimizer step."""

    def metrics(self, state: "State") -> dict[str, float]:
        """Return values to record with each epoch."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return the technique's name and fields as plain values."""
        assert dataclasses.is_dataclass(self), f"{type(self).__name__} must be a dataclass"
        return {"technique": type(self).__name__, **dataclasses.asdict(self)}
