"""The recipe that the words of `plainvision train` start from, before tyro overrides its fields by the others."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from plainvision.recipes import get_recipe, list_recipes
from plainvision.training.recipe import Recipe, for_epochs


@dataclass(frozen=True)
class Base:
    """Where the words start from."""

    named: Recipe
    """The recipe as it is named, for as many epochs as it has."""
    recipe: Recipe
    """The one that the words override: for as many epochs as they say, or that of the run to resume."""


def base_recipe(word: str, words: list[str]) -> Base:
    """Return the recipe called ``word``, or that in a run's folder or its recipe.json, as the words behind it need it.

    Raises:
        FileNotFoundError, ValueError: there is no such recipe, or the file is damaged.
    """
    seen = _seen(words)
    if seen is None:  # tyro explains it better
        return Base(base := _named(word, None), base)
    base = _named(word, Path(seen.out) if seen.resume and seen.out else None)
    if seen.resume and seen.out and (Path(seen.out) / "recipe.json").exists():
        from plainvision.training.run_folder import recorded_recipe

        recipe = recorded_recipe(Path(seen.out), replace(base, start_from=seen.start_from or base.start_from))
        if recipe.name == base.name:
            return Base(base, recipe)
    epochs = seen.epochs or base.epochs
    return Base(base, for_epochs(base, epochs) if 0 < epochs != base.epochs else base)


def _seen(words: list[str]) -> argparse.Namespace | None:
    """Return those of the words that decide about the recipe; None where they cannot be read."""
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    reader.add_argument("--out")
    reader.add_argument("--epochs", type=int)
    reader.add_argument("--start-from", "--start_from")
    reader.add_argument("--resume", action="store_true")
    try:
        return reader.parse_known_args(words)[0]
    except argparse.ArgumentError:
        return None


def _named(word: str, resumed: Path | None) -> Recipe:
    """Return the recipe called ``word``, or that in a file; of a run that is ``resumed``, the one that it names."""
    if word in list_recipes() or not (Path(word).exists() or "/" in word or word.endswith(".json")):
        return get_recipe(word)
    from plainvision.training.run_folder import recipe_of

    own = resumed is not None and resumed == Path(word)
    if own and not (Path(word) / "recipe.json").is_file():
        raise FileNotFoundError(f"no run to resume in {word}: it holds no recipe.json. Give the folder of a run.")
    recipe = recipe_of(Path(word))
    return get_recipe(recipe.name) if own and recipe.name in list_recipes() else recipe
