"""Train a detector on images with boxes or masks in COCO's form: a folder, a .zip or a .tar.

Example: plainvision detect train retinanet --data.root trees.zip --out runs/trees --epochs 20
"""

from dataclasses import dataclass, replace
from typing import Annotated

import tyro

from plainvision.commands import parsed
from plainvision.commands.options.task import TrainOptions, task_recipe, tell_recipes, train_task
from plainvision.tasks.learning import Detection
from plainvision.training.recipe import Recipe


@dataclass(frozen=True)
class Arguments:
    """What `plainvision detect train` takes behind the recipe's name."""

    options: Annotated[TrainOptions, tyro.conf.arg(name="")]
    """Where the run goes, and what it starts from."""
    task: Annotated[Detection, tyro.conf.arg(name="")]
    """What is built on the backbone."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    """The recipe, field by field."""


def main(words: list[str]) -> None:
    """Train, and print what came out."""
    if not words or words[0].startswith("-"):
        tell_recipes("detect", words, __doc__)
        return
    recipe, rest = task_recipe("detect", words)
    assert isinstance(recipe.task, Detection)
    given = Arguments(TrainOptions(out=tyro.MISSING), recipe.task, recipe)
    arguments = parsed(Arguments, rest, f"detect train {words[0]}", __doc__, default=given)
    train_task("detect", words, replace(arguments.recipe, task=arguments.task), arguments.options)
