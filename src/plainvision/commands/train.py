"""Train a network by a recipe; any field of the recipe can be overridden.

Example: plainvision train vanillanet_clothing --data.root clothing.zip --out runs/clothing --epochs 50
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from plainvision.commands import parsed
from plainvision.recipes import get_recipe, list_recipes
from plainvision.training.recipe import Recipe


@dataclass(frozen=True)
class Arguments:
    """What `plainvision train` takes behind the recipe's name."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    """The recipe, field by field."""
    out: Path
    """The run's folder."""
    resume: bool = False
    """Continue the run in that folder, as if it had never stopped."""


def main(words: list[str]) -> None:
    """Train, and print what came out."""
    if not words or words[0].startswith("-"):
        print(_help())
        if not words or words[0] not in ("-h", "--help"):
            raise ValueError(
                "the recipe's name comes first, for instance: plainvision train vanillanet_digits --out runs/a"
            )
        return
    arguments = parsed(
        Arguments,
        words[1:],
        f"train {words[0]}",
        __doc__,
        default=Arguments(recipe=get_recipe(words[0]), out=tyro.MISSING),
    )

    from accelerate import PartialState

    from plainvision.training.loop import train
    from plainvision.training.processes import TrainingInterrupted

    try:
        result = train(arguments.recipe, arguments.out, resume=arguments.resume)
    except TrainingInterrupted as error:
        again = shlex.join([*words, *([] if arguments.resume else ["--resume"])])
        raise TrainingInterrupted(f"{error}\n  plainvision train {again}") from None
    if not PartialState().is_main_process:
        return
    print(f"top-1 {result.last.top1:.2f} %, best {result.best_top1:.2f} %; weights in {result.folder}")
    print(f"Next: plainvision fuse {result.folder}")


def _help() -> str:
    names = "\n".join(f"  {name}" for name in list_recipes())
    return (
        f"usage: plainvision train RECIPE --out DIR [options]\n\n{__doc__}\nrecipes:\n{names}\n\n"
        "`plainvision train RECIPE --help` lists every field that can be overridden."
    )
