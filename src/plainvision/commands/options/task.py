"""What the verbs of `plainvision detect` and `plainvision segment` share."""

import difflib
import itertools
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from plainvision.commands import resumable, say
from plainvision.data.settings import Data
from plainvision.recipes.tasks import TASK_RECIPES
from plainvision.tasks.learning import Detection, Segmentation
from plainvision.training.recipe import PRETRAINED, Recipe, for_epochs

if TYPE_CHECKING:
    from plainvision.tasks.loaded import LoadedTask


@dataclass(frozen=True)
class TrainOptions:
    """Where a run goes, and what it starts from."""

    out: Path
    """The run's folder."""
    resume: bool = False
    """Continue the run in that folder, as if it had never stopped."""
    pretrained: bool = False
    """Start the backbone from its published weights."""


@dataclass(frozen=True)
class TrainedOptions:
    """A trained network."""

    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")]
    """A run's folder, or a weights file; :deployed behind it is its fused form."""
    weights: str = "best"
    """Which weights of a run: best or last."""

    def load(self, command: str) -> "LoadedTask":
        """Return the network; one of another task is a `ValueError`."""
        from plainvision.tasks.loaded import load

        if self.weights not in ("best", "last"):
            raise ValueError(f"--weights {self.weights}: a run has its best weights and its last. Give best or last.")
        found = load(self.network, weights="last" if self.weights == "last" else "best")
        if found.task.command != command:
            raise ValueError(
                f"{self.network} was trained to {found.task.command}, and this is plainvision {command}. Use "
                f"`plainvision {found.task.command}`."
            )
        return found


@dataclass(frozen=True)
class PhotographArguments:
    """Which images; a group of its own, for words without a dash come in the order of their groups."""

    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")] = ()
    """Photographs, folders, .zip or .tar archives."""

    def check(self, command: str) -> None:
        """Raise a `ValueError` where there is none."""
        if not self.paths:
            raise ValueError(
                "give images behind the network: photographs, folders or archives, for instance: plainvision "
                f"{command} predict runs/a photo.jpg"
            )


def task_recipe(command: str, words: list[str]) -> tuple[Recipe, list[str]]:
    """Return the recipe that the first word names, for as many epochs as the others say, and the others.

    Raises:
        ValueError: there is no such recipe.
    """
    recipes = TASK_RECIPES[command]
    name, *rest = words
    if name not in recipes:
        close = difflib.get_close_matches(name, recipes, n=2)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"unknown recipe {name!r}. {hint}There are {', '.join(recipes)}.")
    recipe = recipes[name]()
    for word, value in itertools.pairwise(rest):
        if word == "--epochs" and value.isdecimal() and int(value) > 0:
            recipe = for_epochs(recipe, int(value))
    return recipe, rest


def train_task(command: str, words: list[str], recipe: Recipe, options: TrainOptions) -> None:
    """Train by a recipe whose task is complete, and print what came out."""
    from rich.console import Console

    from plainvision.processes import process_group
    from plainvision.training.loop import train

    if options.pretrained:
        recipe = replace(recipe, start_from=PRETRAINED)
    recipe = _normalised(recipe)
    task = recipe.task
    if recipe.start_from is not None and isinstance(task, Detection | Segmentation) and not task.freeze_norms:
        recipe = replace(recipe, task=replace(task, freeze_norms=True))
        say("the batch norms of the backbone are fixed, as is right for trained weights")
    with resumable(f"{command} train", words):
        result = train(recipe, options.out, resume=options.resume, console=Console())
    if process_group().is_main_process:
        best = f"best {recipe.task.score_name} {result.best_score:.2f} %"
        say(f"{result.last.words}; {best}; weights in {result.folder}")


def _normalised(recipe: Recipe) -> Recipe:
    """Return a recipe that starts from weights with the mean and the std that these know, unless others are given."""
    data, usual = recipe.data, Data()
    if recipe.start_from is None or (data.mean, data.std) != (usual.mean, usual.std):
        return recipe
    from plainvision.training.starting import known_weights

    told = known_weights(recipe.start_from, recipe.model).preparation
    if told["channels"] != data.channels or (told["mean"], told["std"]) == (data.mean, data.std):
        return recipe
    say(f"mean {told['mean']} and std {told['std']}, as the weights of {recipe.model} know it")
    return replace(recipe, data=replace(data, mean=told["mean"], std=told["std"]))


def tell_recipes(command: str, words: list[str], description: str | None) -> None:
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
