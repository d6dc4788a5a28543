"""Train a network by a recipe; any field of the recipe can be overridden.

Example: plainvision train vanillanet_clothing --data.root clothing.zip --out runs/clothing --epochs 50
"""

import os
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from plainvision.commands import parsed, resumable, say
from plainvision.commands.options.recipe import Base, base_recipe
from plainvision.recipes import list_recipes
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
    show_recipe: bool = False
    """Print every field of the recipe first, not only those that differ from the defaults."""


def main(words: list[str]) -> None:
    """Train, and print what came out."""
    if words[:1] == ["--resume"] and len(words) > 1:
        words = [words[1], "--out", words[1], "--resume", *words[2:]]
    if not words or words[0].startswith("-"):
        print(_help())
        if not words or words[0] not in ("-h", "--help", "--help-all"):
            raise ValueError(
                "the recipe's name comes first, for instance: plainvision train vanillanet_digits --out runs/a"
            )
        return
    base = base_recipe(words[0], words[1:])
    given = Arguments(recipe=base.recipe, out=tyro.MISSING)
    arguments = parsed(Arguments, words[1:], f"train {words[0]}", __doc__, default=given)

    from rich.console import Console
    from rich.pretty import pretty_repr

    from plainvision.layers.linear_pair import LinearPair
    from plainvision.processes import process_group
    from plainvision.training.loop import train

    if not arguments.resume and os.environ.get("RANK", "0") == "0":
        _say_what_was_scaled(base, arguments.recipe)
    if arguments.show_recipe:
        say(pretty_repr(arguments.recipe))
    with resumable("train", words):
        result = train(arguments.recipe, arguments.out, resume=arguments.resume, console=Console())
    if not process_group().is_main_process:
        return
    say(f"top-1 {result.last.top1:.2f} %, best {result.best_top1:.2f} %; weights in {result.folder}")
    if all(pair.slope.item() == 1 for pair in result.network.modules() if isinstance(pair, LinearPair)):
        say(f"Next: plainvision fuse {shlex.quote(str(result.folder))}")


def _say_what_was_scaled(base: Base, recipe: Recipe) -> None:
    from plainvision.training.resumable import dotted_fields

    named, scaled, final = (dotted_fields(one.to_dict()) for one in (base.named, base.recipe, recipe))
    changed = [
        f"{name} {scaled[name]} instead of {named[name]}"
        for name in named
        if name != "epochs" and named[name] != scaled[name] == final[name]
    ]
    if changed:
        say(f"for {recipe.epochs} epochs instead of {base.named.epochs}: {', '.join(changed)}")


def _help() -> str:
    names = textwrap.fill("  ".join(list_recipes()), 80, initial_indent="  ", subsequent_indent="  ")
    what, example = (__doc__ or "").strip().split("\n\n")
    return (
        f"{example}\n\n{what}\n\nusage: plainvision train RECIPE --out DIR [options]\n\nrecipes:\n{names}\n\n"
        "RECIPE is one of these names, or the folder of a run or its recipe.json, by whose recipe another run trains. "
        "`plainvision recipes` says what each is. `plainvision train RECIPE --help` lists the common fields of a "
        "recipe, --help-all every field."
    )
