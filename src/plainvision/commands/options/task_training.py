"""`plainvision detect train` and `plainvision segment train`: a recipe, its task and what it starts from, in words."""

import difflib
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast

import tyro

from plainvision.commands import parsed, resumable, say
from plainvision.commands.options.batch_size import fitted, without_auto
from plainvision.commands.options.recipe import base_of
from plainvision.data.settings import Data
from plainvision.recipes.tasks import TASK_RECIPES
from plainvision.tasks.learning import Detection, SceneTask, Segmentation
from plainvision.training.recipe import Recipe
from plainvision.training.trackers import Tracker

_Task = TypeVar("_Task", bound=SceneTask)

# What the help of a recipe's field says where it is not of classes.
_SAID = {
    "start_from": "Path or URL of a classifier's weights for the backbone, or `pretrained`: the published ones.",
    "data.train_split": "Name of the training split and of its folder.",
    "data.validation_split": "Name of the validation split, likewise.",
}


@dataclass(frozen=True)
class TrainOptions:
    """Where a run goes, and what it starts from."""

    out: Path
    """The run's folder."""
    resume: bool = False
    """Continue the run in that folder, as if it had never stopped."""
    pretrained: bool = False
    """Start the backbone from its published weights."""
    added: Annotated[tuple[str, ...], tyro.conf.arg(name="with"), tyro.conf.UseAppendAction] = ()
    """Add a technique to the recipe, as NAME:option=value,...; may be given several times."""
    without: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Leave a technique of the recipe out, by its name; may be given several times."""
    log: tuple[Tracker, ...] = ()
    """Hand the metrics to these programs too."""


@dataclass(frozen=True)
class Arguments(Generic[_Task]):
    """What the verb takes behind the recipe's name."""

    options: Annotated[TrainOptions, tyro.conf.arg(name="")]
    """Where the run goes, and what it starts from."""
    task: Annotated[_Task, tyro.conf.arg(name="")]
    """What is built on the backbone."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    """The recipe, field by field."""


def train_by_words(
    task: type[Detection] | type[Segmentation],
    words: list[str],
    description: str | None,
    said: Mapping[str, str],
    prepare: Callable[[Recipe], Recipe] = lambda recipe: recipe,
) -> None:
    """Train by the recipe that the first word names, changed by the others, and print what came out.

    ``said`` is what the help says of fields of the recipe beside `_SAID`; ``prepare`` changes the recipe of the words.

    Raises:
        ValueError, OSError: there is no such recipe, or what is asked for cannot be trained.
    """
    verb = f"{task.command} train"
    if not words or words[0].startswith("-"):
        _tell_recipes(task.command, words, description)
        return
    left, auto = without_auto(words)
    base = base_of(_named(task.command, left[0]), left[1:])
    own = base.recipe.task
    assert isinstance(own, task)
    if base.recipe.start_from is not None:  # a few large images give trained norms no statistics
        own = replace(own, freeze_norms=True)
    required = " (required)" if base.recipe.data.root == Data.root else ""
    arguments = parsed(
        cast(Any, Arguments)[task],
        base.words,
        f"{verb} {words[0]}",
        description,
        default=Arguments(TrainOptions(out=tyro.MISSING), own, base.recipe),
        unused={*own.unused, "new_classifier", *(f"task.{name}" for name in vars(own))},
        said={**_SAID, **said, "data.root": said["data.root"] + required},
    )
    if arguments.recipe.task != base.recipe.task:
        raise ValueError("the task has options of its own, without --task: write --width 128, for instance.")
    recipe = prepare(replace(arguments.recipe, task=arguments.task))
    recipe = fitted(recipe) if auto else recipe

    from rich.console import Console

    from plainvision.processes import process_group
    from plainvision.training.loop import train

    options = arguments.options
    main = process_group().is_main_process
    if main and not options.resume:
        for line in base.said:
            say(line)
    with resumable(verb, words):
        result = train(recipe, options.out, resume=options.resume, console=Console(), trackers=options.log)
    if main:
        best = f"best {recipe.task.score_name} {result.best_score:.2f} %"
        say(f"{result.last.words}; {best}; weights in {result.folder}")


def _named(command: str, name: str) -> Recipe:
    recipes = TASK_RECIPES[command]
    if name not in recipes:
        close = difflib.get_close_matches(name, recipes, n=2)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"unknown recipe {name!r}. {hint}There are {', '.join(recipes)}.")
    return recipes[name]()


def _tell_recipes(command: str, words: list[str], description: str | None) -> None:
    """Print the help of a verb that trains, where no recipe was named; without a word for help that is an error."""
    names = textwrap.fill("  ".join(TASK_RECIPES[command]), 80, initial_indent="  ", subsequent_indent="  ")
    what, example = (description or "").strip().split("\n\n")
    say(
        f"{example}\n\n{what}\n\nusage: plainvision {command} train RECIPE --out DIR [options]\n\n"
        f"recipes:\n{names}\n\n`plainvision {command} train RECIPE --help` lists the common options."
    )
    if {"-h", "--help", "--help-all"}.isdisjoint(words):
        first = next(iter(TASK_RECIPES[command]))
        raise ValueError(
            f"the recipe's name comes first, for instance: plainvision {command} train {first} --out runs/a"
        )
