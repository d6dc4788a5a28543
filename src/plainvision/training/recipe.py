"""A recipe: one frozen value that decides the result of a training run.

It needs no torch, so that the command line prints and overrides it at once. The words beneath a field are its help.
"""

import dataclasses
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from plainvision.data.settings import RECORDED, Augment, Data
from plainvision.fields import ABOVE_ZERO, BELOW_ONE, FINITE, check_ranges, from_plain, ranges_of
from plainvision.training.classification import Classification
from plainvision.training.multi_label import MultiLabel
from plainvision.training.task import TASKS, Task
from plainvision.training.techniques import TECHNIQUES, Technique

__all__ = ["PRETRAINED", "Augment", "Data", "Machine", "MultiLabel", "Option", "Recipe", "as_recorded", "for_epochs"]

_PLAIN_SPLIT = re.compile(r"\w[\w.+-]*(\[[\w:%]*\])?", re.ASCII)

# Where a recipe starts from the published weights of its network.
PRETRAINED = "pretrained"

Option = bool | int | float | str | None


@dataclass(frozen=True)
class Machine:
    """How the run uses the hardware. Results differ by rounding and, with batch norm, by its statistics.

    These are over the images of one pass of `accumulate` in one process, or in all processes with `sync_batch_norm`.
    """

    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the forward pass."""
    accumulate: Annotated[int, 1, 10**6] = 1
    """Split each process's share of a batch into this many passes, to save memory; each is a batch to a batch norm."""
    channels_last: bool = False
    """Keep activations in the channels_last memory layout."""
    compile: bool = False
    """Compile the network with torch.compile."""
    fsdp: bool = False
    """Shard parameters over the processes (FSDP2) instead of copying them to each (DDP)."""
    sync_batch_norm: bool = False
    """Share batch-norm statistics between processes; needs a GPU in each."""
    threads: Annotated[int | None, 1, 4096] = None
    """CPU threads of each process; None leaves it to torch. Small networks are fastest on one."""
    checkpoint_steps: Annotated[int | None, 1, 10**9] = None
    """Save the full state every so many steps too, beside the end of each epoch."""
    log_steps: Annotated[int, 1, 10**9] = 10
    """Steps between two readings of the loss; each synchronises the device."""

    def __post_init__(self) -> None:
        check_ranges(self, _MACHINE, "machine.")


_MACHINE = ranges_of(Machine)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a training run."""

    name: str
    """The recipe's name; a run's folder remembers it."""
    model: str
    """Any name that `plainvision.create_model` knows, timm's included."""
    model_options: dict[str, Option] = field(default_factory=dict)
    """The network's own options, for instance `width`, `series`, `drop_rate`."""
    num_classes: Annotated[int | None, 1, 10**6] = None
    """Number of classes; None takes it from the data."""
    start_from: str | None = None
    """Path or URL of weights to start from, or `pretrained`: those that timm or torchvision publish for the network."""
    new_classifier: bool = False
    """Leave the classifier of `start_from` out and learn a new one, for other classes."""
    data: Data = field(default_factory=Data)
    """Where the images come from."""
    augment: Augment = field(default_factory=Augment)
    """What training does to an image."""
    epochs: Annotated[int, 1, 10**6] = 300
    """Passes over the training images."""
    batch_size: Annotated[int, 1, 10**7] = 1024
    """Images per step, over all processes; `auto` fits a GPU."""
    optimizer: str = "lamb"
    """timm's name of the optimizer: lamb, sgd, adamw, ..."""
    lr: Annotated[float, ABOVE_ZERO, FINITE] = 3.5e-3
    """Peak learning rate, for this batch size."""
    min_lr: Annotated[float, 0.0, FINITE] = 1e-6
    """Learning rate at the end of the schedule."""
    momentum: Annotated[float, 0.0, BELOW_ONE] = 0.9
    """Momentum, for optimizers that have one."""
    betas: Annotated[tuple[float, float] | None, 0.0, BELOW_ONE] = None
    """Betas of Adam-like optimizers; None keeps the optimizer's own."""
    optimizer_eps: Annotated[float | None, 0.0, 1.0] = None
    """Epsilon of Adam-like optimizers; None keeps the optimizer's own."""
    weight_decay: Annotated[float, 0.0, 1e3] = 0.0
    """Weight decay, on weights of two dimensions or more."""
    layer_decay: Annotated[float | None, ABOVE_ZERO, 1.0] = None
    """Each layer, from the head down, learns at this fraction of the rate of the one above."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Learning-rate schedule after the warm-up, updated every step."""
    decay_epochs: Annotated[int, 1, 10**6] = 30
    """The step schedule multiplies the rate by 0.1 this often, counted from the run's beginning."""
    warmup_epochs: Annotated[int, 0, 10**6] = 5
    """Epochs of linear warm-up."""
    warmup_lr: Annotated[float, 0.0, FINITE] = 0.0
    """Learning rate at the start of the warm-up."""
    clip_grad: Annotated[float | None, ABOVE_ZERO, FINITE] = None
    """Largest norm of the gradient; None does not clip."""
    loss: Literal["cross_entropy", "bce"] = "cross_entropy"
    """Soft cross-entropy, or binary cross-entropy per class."""
    label_smoothing: Annotated[float, 0.0, BELOW_ONE] = 0.1
    """Share of the target spread over all classes."""
    bce_threshold: Annotated[float | None, 0.0, 1.0] = None
    """With bce, targets above this count as 1 and all others as 0; None keeps the shares of mixed images."""
    class_weights: Literal["balanced"] | None = None
    """Let all classes weigh the same in the loss."""
    patience: Annotated[int | None, 1, 10**6] = None
    """Stop after so many epochs without a better score."""
    techniques: tuple[Technique, ...] = ()
    """What a run does beside plain training, in this order."""
    task: Task = field(default_factory=Classification)
    """What is learned: to classify, unless another task is given."""
    machine: Machine = field(default_factory=Machine)
    """How the run uses the hardware."""
    seed: Annotated[int, -(2**63), 2**63 - 1] = 0
    """Decides initial weights, order, augmentation and dropout."""

    def __post_init__(self) -> None:
        check_ranges(self, RANGES, f"recipe {self.name!r}: ")
        if self.bce_threshold is not None and (self.loss != "bce" or not 0 <= self.bce_threshold < 1):
            raise ValueError(
                f"recipe {self.name!r}: bce_threshold={self.bce_threshold} with loss={self.loss!r}. It is a share of a "
                "class in a mixed image, from 0 to below 1, and goes with loss='bce'."
            )
        if self.class_weights is not None and self.data.sampling == "balanced":
            raise ValueError(
                f"recipe {self.name!r}: class_weights={self.class_weights!r} and data.sampling='balanced' both make up "
                "for rare classes; together they would favour them. Choose one."
            )
        if self.new_classifier and self.start_from is None:
            raise ValueError(
                f"recipe {self.name!r}: new_classifier=True leaves out the classifier of start_from, but start_from is "
                "None, and a network with new weights has a new classifier anyway. Give the weights to start from, or "
                "drop new_classifier."
            )
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(
                f"recipe {self.name!r}: {self.warmup_epochs} warm-up epochs leave nothing of {self.epochs} epochs for "
                "the schedule. Give fewer warmup_epochs or more epochs."
            )

    def network_options(self, classes: int) -> dict[str, Any]:
        """Return the options that the network is built with, for so many classes."""
        data = {"num_classes": classes} | ({"in_chans": self.data.channels} if self.data.channels != 3 else {})
        return {**data, **self.model_options}

    def brief(self) -> str:
        """Return the recipe's name, its network, and the fields that differ from the defaults, in lines to read."""
        changed = [f"{name}={value!r}" for name, value in _changed(self) if name not in ("name", "model", "techniques")]
        changed += [f"{type(one).__name__}({_arguments(one)})" for one in self.techniques]
        text = f"recipe {self.name}: {self.model}" + "".join(f", {one}" for one in changed)
        return textwrap.fill(text, 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values that JSON can hold."""
        plain = dataclasses.asdict(self)
        plain["techniques"] = [technique.to_dict() for technique in self.techniques]
        plain["task"] = self.task.to_dict()
        if isinstance(self.task, Classification):  # which every version takes for granted
            del plain["task"]
        return json.loads(json.dumps(plain))

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Recipe":
        """Rebuild a recipe from what `to_dict` returned.

        Raises:
            ValueError: a field or a technique that this version does not know.
        """
        rest = dict(plain) if isinstance(plain, dict) else {}
        techniques, options = rest.pop("techniques", None), rest.pop("model_options", None)
        if not isinstance(techniques, list) or not isinstance(options, dict):
            raise ValueError("recipe is no object that has techniques and model_options. Copy it again.")
        ready: dict[str, Any] = {"techniques": tuple(map(_technique, techniques)), "model_options": options}
        if "task" in rest:
            ready["task"] = _task(rest.pop("task"))
        return from_plain(cls, rest, "recipe", ready)


RANGES = ranges_of(Recipe)


def for_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """Return ``recipe`` for ``epochs``: what is counted in epochs keeps its part of the run, rounded.

    What ended before the run did still does.

    Raises:
        ValueError: ``epochs`` is below 1.
    """

    def share(part: int) -> int:
        scaled = round(part * epochs / recipe.epochs)
        return min(scaled, epochs - 1) if part < recipe.epochs else max(scaled, 1)

    return dataclasses.replace(
        recipe,
        epochs=epochs,
        warmup_epochs=share(recipe.warmup_epochs),
        decay_epochs=max(1, share(recipe.decay_epochs)) if recipe.schedule == "step" else recipe.decay_epochs,
        patience=None if recipe.patience is None else max(1, share(recipe.patience)),
        techniques=tuple(technique.scaled(share, epochs / recipe.epochs) for technique in recipe.techniques),
    )


def as_recorded(recipe: Recipe) -> Recipe:
    """Return a recipe that somebody else's file holds, without anything that opens a file, an address or a process.

    Of the data, only the embedded digits and plain names of splits stay; what else is recorded is kept as text behind
    `RECORDED`, for messages.
    """

    def kept(text: str, plain: object) -> str:
        return text if plain or not text or text.startswith(RECORDED) else RECORDED + text

    data = recipe.data
    data = dataclasses.replace(
        data,
        root=kept(data.root, data.root == "digits"),
        train_split=kept(data.train_split, _PLAIN_SPLIT.fullmatch(data.train_split)),
        validation_split=kept(data.validation_split, _PLAIN_SPLIT.fullmatch(data.validation_split)),
        validation_root=None,
        labels=data.labels and kept(data.labels, False),
        class_map=data.class_map and kept(data.class_map, False),
        allow_pipes=False,
        max_pixels=min(data.max_pixels, Data.max_pixels),
        workers=None if data.workers is None else min(data.workers, os.cpu_count() or 1),
    )
    kept_recipe = dataclasses.replace(recipe, data=data, start_from=None, new_classifier=False)
    return with_files(kept_recipe, lambda _, __, text: kept(text, False))


def with_files(recipe: Recipe, named: Callable[[int, str, str], str | None]) -> Recipe:
    """Return ``recipe`` with other files in its techniques: what ``named`` returns for place, field and present name.

    A field that names no file stays as it is.
    """
    techniques = []
    for place, one in enumerate(recipe.techniques):
        own = {name: getattr(one, name) for name in one.files}
        changes = {name: named(place, name, text) for name, text in own.items() if text is not None}
        techniques.append(dataclasses.replace(one, **changes))  # type: ignore[type-var]
    return dataclasses.replace(recipe, techniques=tuple(techniques))


def _technique(plain: Any) -> Technique:
    fields = dict(plain) if isinstance(plain, dict) else {}
    name = fields.pop("technique", None)
    if not isinstance(name, str) or name not in TECHNIQUES:
        raise ValueError(f"unknown technique {name!r}; this version knows {', '.join(sorted(TECHNIQUES))}.")
    return from_plain(TECHNIQUES[name], fields, name)


def _task(plain: Any) -> Task:
    fields = dict(plain) if isinstance(plain, dict) else {}
    name = fields.pop("task", None)
    tasks = {one: kind for one, kind in TASKS.items() if dataclasses.is_dataclass(kind)}
    if not isinstance(name, str) or name not in tasks:
        raise ValueError(
            f"its task is {name!r}, and this command knows {', '.join(sorted(tasks))}. `plainvision detect` and "
            "`plainvision segment` read networks of their tasks."
        )
    return from_plain(tasks[name], fields, name)


def _changed(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of a dataclass that are not their default, those of dataclasses in it one by one."""
    for one in dataclasses.fields(values):
        value, name = getattr(values, one.name), f"{prefix}{one.name}"
        default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        if dataclasses.is_dataclass(value) and type(value) is type(default):
            yield from _changed(value, f"{name}.")
        elif value != default:
            yield name, value


def _arguments(technique: Any) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in _changed(technique))
