"""Train a network by a recipe; any field of the recipe can be overridden.

Example: plainvision train vanillanet_clothing --data.root clothing.zip --out runs/clothing --epochs 50
"""

import argparse
import os
import shlex
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from plainvision.commands import parsed, resumable, say
from plainvision.recipes import get_recipe, list_recipes
from plainvision.training.recipe import Recipe, for_epochs


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
        words = [_recorded_name(Path(words[1])), "--out", words[1], "--resume", *words[2:]]
    if not words or words[0].startswith("-"):
        print(_help())
        if not words or words[0] not in ("-h", "--help", "--help-all"):
            raise ValueError(
                "the recipe's name comes first, for instance: plainvision train vanillanet_digits --out runs/a"
            )
        return
    base = get_recipe(words[0])
    default = _default(base, words[1:])
    given = Arguments(recipe=default, out=tyro.MISSING)
    arguments = parsed(Arguments, words[1:], f"train {words[0]}", __doc__, default=given)

    from rich.console import Console
    from rich.pretty import pretty_repr

    from plainvision.layers.linear_pair import LinearPair
    from plainvision.processes import process_group
    from plainvision.training.loop import train

    if not arguments.resume and os.environ.get("RANK", "0") == "0":
        _say_what_was_scaled(base, default, arguments.recipe)
    if arguments.show_recipe:
        say(pretty_repr(arguments.recipe))
    with resumable("train", words):
        result = train(arguments.recipe, arguments.out, resume=arguments.resume, console=Console())
    if not process_group().is_main_process:
        return
    say(f"top-1 {result.last.top1:.2f} %, best {result.best_top1:.2f} %; weights in {result.folder}")
    if all(pair.slope.item() == 1 for pair in result.network.modules() if isinstance(pair, LinearPair)):
        say(f"Next: plainvision fuse {shlex.quote(str(result.folder))}")


def _default(base: Recipe, words: list[str]) -> Recipe:
    """Return the recipe that the words override: that of the run to resume, or the named one for as many epochs."""
    seen = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("--out", "--epochs", "--start-from"):
        seen.add_argument(option)
    seen.add_argument("--resume", action="store_true")
    try:
        given, _ = seen.parse_known_args(words)
        epochs = int(given.epochs or base.epochs)
        known = Path(given.out) / "recipe.json" if given.resume and given.out else None
    except (argparse.ArgumentError, ValueError):  # which tyro explains better
        return base
    if known is not None and known.exists():
        from plainvision.training.run_folder import recorded_recipe

        recipe = recorded_recipe(known.parent, replace(base, start_from=given.start_from or base.start_from))
        if recipe.name == base.name:
            return recipe
    return for_epochs(base, epochs) if 0 < epochs != base.epochs else base


def _recorded_name(folder: Path) -> str:
    """Return the name of the recipe of the run in ``folder``."""
    from plainvision.files import read_object

    file = folder / "recipe.json"
    if not file.is_file():
        raise FileNotFoundError(f"no run to resume in {folder}: it holds no recipe.json. Give the folder of a run.")
    name = read_object(file).get("name")
    if name not in list_recipes():
        raise ValueError(
            f"the run in {folder} was by {name!r}, and no recipe is called so here. Resume it in the program that has "
            "the recipe."
        )
    return str(name)


def _say_what_was_scaled(base: Recipe, default: Recipe, recipe: Recipe) -> None:
    from plainvision.training.resumable import dotted_fields

    named, scaled, final = (dotted_fields(one.to_dict()) for one in (base, default, recipe))
    changed = [
        f"{name} {scaled[name]} instead of {named[name]}"
        for name in named
        if name != "epochs" and named[name] != scaled[name] == final[name]
    ]
    if changed:
        say(f"for {recipe.epochs} epochs instead of {base.epochs}: {', '.join(changed)}")


def _help() -> str:
    names = textwrap.fill("  ".join(list_recipes()), 80, initial_indent="  ", subsequent_indent="  ")
    what, example = (__doc__ or "").strip().split("\n\n")
    return (
        f"{example}\n\n{what}\n\nusage: plainvision train RECIPE --out DIR [options]\n\nrecipes:\n{names}\n\n"
        "`plainvision recipes` says what each is. `plainvision train RECIPE --help` lists the common fields of a "
        "recipe, --help-all every field."
    )
