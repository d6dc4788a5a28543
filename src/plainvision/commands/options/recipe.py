"""The recipe that the words of `plainvision train` start from, before tyro overrides its fields by the others."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from plainvision.commands.options.techniques import changed_techniques
from plainvision.data.settings import Data
from plainvision.recipes import get_recipe, list_recipes
from plainvision.training.multi_label import MultiLabel, multi_label
from plainvision.training.recipe import PRETRAINED, Recipe, for_epochs

# Which images there are decides about a recipe that nobody names.
_DATA = ("root", "validation_root", "train_split", "validation_split", "labels", "class_map")


@dataclass(frozen=True)
class Base:
    """Where the words start from."""

    named: Recipe
    """The recipe as it is named, for as many epochs as it has."""
    recipe: Recipe
    """The one that the words override: for as many epochs as they say, or that of the run to resume."""
    words: list[str]
    """The words that override it."""
    said: tuple[str, ...] = ()
    """Why it is as it is, where nobody named it; what else was not asked for."""


def base_recipe(words: list[str]) -> Base:
    """Return the recipe that the words name, or one for the images and the weights that they name.

    A recipe is named by the first word: by its name, the folder of a run, or the path of a recipe.json.

    Raises:
        FileNotFoundError, ValueError: there is no such recipe, a file is damaged, or nobody names recipe or images.
    """
    word, rest = (None, words) if words[0].startswith("-") else (words[0], words[1:])
    seen = _seen(rest)
    if seen is None:  # tyro explains it better
        base = get_recipe("finetune") if word is None else _named(word, None)
        return Base(base, base, rest)
    source = _source(seen)
    resumed = record_of(Path(seen.out)) if seen.resume and seen.out else None
    if resumed is not None and (resumed / "recipe.json").exists():
        from plainvision.training.run_folder import recipe_of, recorded_recipe

        base = recipe_of(resumed) if word in (None, "finetune") else _named(word, resumed)
        recipe = recorded_recipe(resumed, replace(base, start_from=source or base.start_from))
        if recipe.name == base.name:
            recipe = _of_sets(recipe) if seen.multi_label else recipe
            if resumed != Path(seen.out):  # of all folds
                recipe = replace(recipe, data=replace(recipe.data, fold=None))
            return Base(base, changed_techniques(recipe, seen.added, seen.without, resumed=True), rest)
        said: tuple[str, ...] = ()
    elif word is None or (word == "finetune" and seen.root):
        base, said = _chosen(word, seen, source)
    else:
        base, said = _started(_named(word, resumed), seen.model, source)
    return _overridden(base, seen, rest, said)


def base_of(recipe: Recipe, words: list[str]) -> Base:
    """Return where words start from that override ``recipe``, which none of them names.

    Raises:
        FileNotFoundError, ValueError: there are no such weights or techniques.
    """
    seen = _seen(words)
    if seen is None:  # tyro explains it better
        return Base(recipe, recipe, words)
    base, said = _started(recipe, seen.model, _source(seen))
    return _overridden(base, seen, words, said)


def record_of(folder: Path) -> Path:
    """Return the folder of a run that records the recipe of ``folder``: itself, or the first of its folds."""
    first = folder / "fold_1"
    return first if not (folder / "recipe.json").exists() and (first / "recipe.json").exists() else folder


def _overridden(base: Recipe, seen: argparse.Namespace, words: list[str], said: tuple[str, ...]) -> Base:
    base = _of_sets(base) if seen.multi_label else base
    epochs = seen.epochs or base.epochs
    recipe = for_epochs(base, epochs) if 0 < epochs != base.epochs else base
    return Base(base, changed_techniques(recipe, seen.added, seen.without), words, said)


def _seen(words: list[str]) -> argparse.Namespace | None:
    """Return those of the words that decide about the recipe; None where they cannot be read."""
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("out", "model", "start_from", *_DATA):
        option = f"data.{name}" if name in _DATA else name
        reader.add_argument(f"--{option}", f"--{option.replace('_', '-')}", dest=name)
    reader.add_argument("--data.validation-share", "--data.validation_share", dest="validation_share", type=float)
    reader.add_argument("--data.folds", dest="folds", type=int)
    reader.add_argument("--epochs", type=int)
    reader.add_argument("--with", dest="added", action="append", default=[])
    reader.add_argument("--without", action="append", default=[])
    for flag in ("resume", "pretrained"):
        reader.add_argument(f"--{flag}", action="store_true")
    reader.add_argument("--multi-label", "--multi_label", dest="multi_label", action="store_true")
    try:
        return reader.parse_known_args(words)[0]
    except argparse.ArgumentError:
        return None


def _source(seen: argparse.Namespace) -> str | None:
    """Return which weights the words start from."""
    if seen.pretrained and seen.start_from not in (None, PRETRAINED):
        raise ValueError(
            f"--pretrained and --start-from {seen.start_from} are two answers to one question. Give one of them."
        )
    given = PRETRAINED if seen.pretrained else seen.start_from
    return None if given == "None" else given


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


def _chosen(word: str | None, seen: argparse.Namespace, source: str | None) -> tuple[Recipe, tuple[str, ...]]:
    """Return a recipe for the images and the weights that the words name, and why it is as it is."""
    from plainvision.data.glance import glance
    from plainvision.data.images import open_images
    from plainvision.data.label_sets import open_label_sets
    from plainvision.recipes.choosing import choose
    from plainvision.training.starting import known_weights

    model = seen.model
    if word is not None and source is None:
        source, model = PRETRAINED, model or get_recipe(word).model
    weights = None if source is None else known_weights(source, model)
    given = {
        name: getattr(seen, name) for name in (*_DATA, "validation_share", "folds") if getattr(seen, name) is not None
    }
    choice = choose(glance(Data(**given), open_label_sets if seen.multi_label else open_images), model, weights)
    return choice.recipe, choice.reasons


def _of_sets(recipe: Recipe) -> Recipe:
    return recipe if isinstance(recipe.task, MultiLabel) else multi_label(recipe)


def _started(base: Recipe, model: str | None, source: str | None) -> tuple[Recipe, tuple[str, ...]]:
    """Return a named recipe that starts from the weights that the words name, with mean and std of these."""
    if source is None:
        return base, ()
    base = replace(base, start_from=source, new_classifier=base.new_classifier or source == PRETRAINED)
    from plainvision.training.starting import known_weights

    data, told = base.data, known_weights(source, model or base.model)
    other = told.preparation["channels"] != data.channels
    if other or (data.mean, data.std) == (told.preparation["mean"], told.preparation["std"]):
        return base, ()
    data = replace(data, mean=told.preparation["mean"], std=told.preparation["std"])
    return replace(base, data=data), (f"mean {data.mean} and std {data.std}, as the weights of {told.model} know it",)
