"""What a run learns: the part of a run that the loop leaves to others. Classification is one, detection another."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from plainvision.fields import Ranges, check_ranges, ranges_of

if TYPE_CHECKING:  # a task is described without torch, as techniques are; it imports it when it acts
    import numpy as np
    import torch
    from torch import Tensor, nn

    from plainvision.data.drawn_split import DrawnSplit
    from plainvision.training.recipe import Recipe


class StepBatch(Protocol):
    """This process's images of one step, and whatever is known of them."""

    @property
    def names(self) -> tuple[str, ...]:
        """One for each image."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """The images that could not be read meanwhile, each `NAME (reason)`."""

    def on(self, device: "torch.device", *, channels_last: bool = False) -> "StepBatch":
        """Return the batch on ``device``, its images in that memory layout."""


class TrainingSplit(Protocol):
    """The training batches, as `plainvision.data.batches.TrainingBatches` has them."""

    classes: tuple[str, ...]
    images_per_epoch: int
    steps_per_epoch: int
    labels: "np.ndarray | None"
    drawn: "DrawnSplit | None"

    @property
    def fingerprint(self) -> str:
        """Hash of what a resumed run must find again."""

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Any]:
        """Return the batches of ``epoch``, from ``start_step`` on."""


class ValidationSplit(Protocol):
    """The validation images; its task reads them."""

    @property
    def fingerprint(self) -> str:
        """Hash of what a resumed run must find again."""


class Objective(Protocol):
    """The loss of a batch."""

    def parts(self, batch: Any, passes: int) -> Sequence[tuple[int, Any]]:
        """Return the batch in as many parts, each behind the number of its images; Mixup draws its numbers here."""

    def answer(self, model: "nn.Module", part: Any) -> Any:
        """Return what the network says of a part; mixed precision is on."""

    def loss(self, answer: Any, part: Any) -> "tuple[Tensor, Tensor | None]":
        """Return the mean loss over a part's images, and how many were answered right; None where none can be."""


class Scores(Protocol):
    """How well a network does on the validation images."""

    @property
    def score(self) -> float:
        """The figure by which the best weights are chosen, per cent; higher is better."""

    @property
    def figures(self) -> dict[str, float]:
        """What the metrics record, by name."""

    @property
    def words(self) -> str:
        """The figures for the line of an epoch."""


class Task:
    """A frozen dataclass that gives the loop batches, a network, a loss and scores.

    A run calls::

        training, validation = splits(recipe, rank, processes)
        model = build(recipe, classes)           the network with new weights, before techniques change it
        load_start(model, recipe)                the weights to start from, in a new run
        check_network(model, recipe, ...)        before the run's folder exists
        objective(recipe, training)
        noise(recipe, training)                  in place of images, to try whether a step fits into memory
        first_lines(recipe, training, validation)
        evaluate(model, validation, ...)         after each epoch
        doubts(last, raw, metrics)               at the end
        report(result, recipe, validation, main)

    It has no state: what decides the result is in its fields, which the recipe records.
    """

    score_name: ClassVar[str]
    """What `Scores.score` is called, for messages."""
    command: ClassVar[str] = ""
    """The word of the command line whose verbs read such runs; "" where the plain verbs do."""
    ranges: ClassVar[Ranges] = {}

    def __init_subclass__(cls) -> None:
        cls.ranges = {**ranges_of(cls), **cls.ranges}
        TASKS[cls.__name__] = cls

    def __post_init__(self) -> None:
        check_ranges(self, self.ranges, f"{type(self).__name__}: ")

    def splits(self, recipe: "Recipe", rank: int, processes: int) -> "tuple[TrainingSplit, ValidationSplit]":
        """Return the batches of both splits, this process's share; data that cannot work is a `ValueError`."""
        raise NotImplementedError

    def build(self, recipe: "Recipe", classes: int) -> "nn.Module":
        """Return the network with new weights; a `ValueError` where there is none of that name or those options."""
        raise NotImplementedError

    def load_start(self, model: "nn.Module", recipe: "Recipe") -> None:
        """Load the weights that the recipe starts from, if any."""
        raise NotImplementedError

    def check_network(self, model: "nn.Module", recipe: "Recipe", classes: int, per_pass: int) -> None:
        """Pass an image through the network; what cannot be trained with so many images a pass is a `ValueError`."""
        raise NotImplementedError

    def objective(self, recipe: "Recipe", training: "TrainingSplit") -> Objective:
        """Return the loss."""
        raise NotImplementedError

    def noise(self, recipe: "Recipe", training: "TrainingSplit") -> StepBatch:
        """Return a step's batch that takes as much memory as any of ``training`` can."""
        raise NotImplementedError

    def first_lines(self, recipe: "Recipe", training: "TrainingSplit", validation: "ValidationSplit") -> Iterator[str]:
        """Yield what a person should know of the data before the first step."""
        raise NotImplementedError

    def evaluate(
        self,
        model: "nn.Module",
        validation: "ValidationSplit",
        *,
        classes: tuple[str, ...],
        device: "torch.device",
        total: "Callable[[Tensor], Tensor] | None",
    ) -> Scores:
        """Return the scores of ``model``; ``total`` sums over processes, where each reads a part."""
        raise NotImplementedError

    def doubts(self, last: Any, raw: Any, metrics: Sequence[dict[str, Any]]) -> list[str]:
        """Return reasons to doubt a finished run; ``raw`` are the scores of the weights whose average is kept."""
        return []

    def report(self, result: Any, recipe: "Recipe", validation: "ValidationSplit", main: bool) -> str | None:
        """Write what tells a person of the run, in its ``main`` process, and say where; every process calls this."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the task's name and fields as plain values."""
        assert dataclasses.is_dataclass(self), f"{type(self).__name__} must be a dataclass"
        return {"task": type(self).__name__, **dataclasses.asdict(self)}


TASKS: dict[str, type[Task]] = {}
"""Every task that was imported, by its name."""
