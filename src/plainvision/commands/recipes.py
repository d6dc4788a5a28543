"""List the recipes, those for small data and your own images first, and what each trains.

Example: plainvision recipes clothing
"""

from dataclasses import dataclass
from typing import Annotated

import tyro

from plainvision.commands import Table, parsed, show


@dataclass(frozen=True)
class Arguments:
    """What `plainvision recipes` takes."""

    word: Annotated[str, tyro.conf.Positional] = ""
    """Only recipes whose name, network or description has this word."""


def main(words: list[str]) -> None:
    """Print a line for each recipe."""
    arguments = parsed(Arguments, words, "recipes", __doc__)

    from plainvision.recipes import describe, get_recipe, list_recipes

    table = Table(("recipe", "network", "what it trains"), words=3)
    recipes = [get_recipe(name) for name in list_recipes()]
    for recipe in sorted(recipes, key=lambda one: _is_of_imagenet(one.data.root)):
        told = " ".join(describe(recipe.name).split("\n\n")[0].split())
        if arguments.word.lower() in f"{recipe.name} {recipe.model} {told}".lower():
            table.add_row(recipe.name, recipe.model, told)
    if not table.rows:
        raise ValueError(
            f"no recipe has the word {arguments.word!r} in its name, its network or its description. "
            "`plainvision recipes` lists all of them."
        )
    show(table)


def _is_of_imagenet(root: str) -> bool:
    return not (root in ("digits", "images") or root.endswith(".zip"))
