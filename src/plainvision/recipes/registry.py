"""Recipes by name. No torch here, so that the command line lists them at once."""

import difflib
import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec

from plainvision.training.recipe import Recipe

Values = ParamSpec("Values")

_RECIPES: dict[str, Callable[[], Recipe]] = {}


def recipe(build: Callable[[], Recipe]) -> Callable[[], Recipe]:
    """Register a function under its own name, which the recipe that it returns gets too.

    Raises:
        ValueError: the name is taken.
    """
    name = build.__name__
    if name in _RECIPES:
        raise ValueError(
            f"cannot register the recipe {name!r} of {build.__module__}: {_RECIPES[name].__module__} has it "
            "already, and a name must lead to one run. Rename the function."
        )

    @functools.wraps(build)
    def named() -> Recipe:
        return replace(build(), name=name)

    _RECIPES[name] = named
    return named


def add_recipe(words: str, build: Callable[Values, Recipe], *row: Values.args, **options: Values.kwargs) -> None:
    """Register ``build(*row)`` under the name that it has, with the docstring ``words``."""

    def run() -> Recipe:
        return build(*row, **options)

    run.__name__ = run().name
    run.__doc__ = words
    run.__module__ = build.__module__
    recipe(run)


def list_recipes() -> list[str]:
    """Return the recipes' names, family by family."""
    return list(_RECIPES)


def get_recipe(name: str) -> Recipe:
    """Return the recipe called ``name``; where there is none, the `ValueError` names those that are like it."""
    return _find(name)()


def describe(name: str) -> str:
    """Return what the recipe called ``name`` says of itself: what it runs, and the result to expect."""
    return inspect.cleandoc(_find(name).__doc__ or "")


def _find(name: str) -> Callable[[], Recipe]:
    if name not in _RECIPES:
        close = difflib.get_close_matches(name, _RECIPES, n=3)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"unknown recipe {name!r}. {hint}`plainvision train --help` lists them.")
    return _RECIPES[name]
