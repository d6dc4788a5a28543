"""Train a segmenter on photographs with maps of labels: folders such as ADE20k's, also packed.

Example: plainvision segment train upernet --data.root fields --num-classes 2 --out runs/fields --epochs 20
"""

from dataclasses import dataclass, replace
from typing import Annotated

import tyro

from plainvision.commands import parsed
from plainvision.commands.options.task import TrainOptions, task_recipe, tell_recipes, train_task
from plainvision.tasks.learning import Segmentation
from plainvision.training.recipe import Recipe


@dataclass(frozen=True)
class Arguments:
    """What `plainvision segment train` takes behind the recipe's name."""

    options: Annotated[TrainOptions, tyro.conf.arg(name="")]
    """Where the run goes, and what it starts from."""
    task: Annotated[Segmentation, tyro.conf.arg(name="")]
    """What is built on the backbone."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    """The recipe, field by field."""


def main(words: list[str]) -> None:
    """Train, and print what came out."""
    if not words or words[0].startswith("-"):
        tell_recipes("segment", words, __doc__)
        return
    recipe, rest = task_recipe("segment", words)
    assert isinstance(recipe.task, Segmentation)
    given = Arguments(TrainOptions(out=tyro.MISSING), recipe.task, recipe)
    arguments = parsed(Arguments, rest, f"segment train {words[0]}", __doc__, default=given)
    train_task("segment", words, replace(arguments.recipe, task=arguments.task), arguments.options)
