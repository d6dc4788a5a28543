"""Techniques in words: `--with NAME:option=value,...` adds one to a recipe, `--without NAME` leaves one out."""

import ast
import dataclasses
import difflib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from plainvision.fields import from_plain
from plainvision.training.recipe import Augment, Recipe
from plainvision.training.techniques import TECHNIQUES, Technique


def changed_techniques(
    recipe: Recipe, added: Sequence[str], dropped: Sequence[str], *, resumed: bool = False
) -> Recipe:
    """Return ``recipe`` with the techniques that words add, each at its place, and without those that they drop.

    The recipe of a run that is ``resumed`` may have these changes already.

    Raises:
        ValueError: there is no such technique, the recipe lacks what is dropped or has what is added, or an option of
            it cannot be.
    """
    techniques = list(recipe.techniques)
    for word in dropped:
        kind = _kind(word, "--without")
        if not resumed and not any(type(one) is kind for one in techniques):
            there = ", ".join(_name(type(one)) for one in techniques) or "none"
            raise ValueError(f"--without {word}: the recipe {recipe.name} has no such technique; it has {there}.")
        techniques = [one for one in techniques if type(one) is not kind]
    for word in added:
        one = _technique(word)
        if resumed and one in techniques:
            continue
        if any(type(other) is type(one) for other in techniques):
            place = [type(other) for other in techniques].index(type(one))
            raise ValueError(
                f"--with {word}: the recipe {recipe.name} has this technique already. Change its options by "
                f"--techniques.{place}.NAME, or leave it out first with --without {_name(type(one))}."
            )
        order = list(TECHNIQUES.values())
        later = [order.index(type(other)) > order.index(type(one)) for other in techniques]
        techniques.insert(later.index(True) if True in later else len(techniques), one)
    return replace(recipe, techniques=tuple(techniques))


def _technique(word: str) -> Technique:
    """Return the technique that ``NAME:option=value,...`` says."""
    name, _, rest = word.partition(":")
    kind = _kind(name, "--with")
    options: dict[str, Any] = {}
    for part in re.split(r",(?=\w+=)", rest) if rest else ():
        option, sign, value = part.partition("=")
        if not sign or option in options:
            raise ValueError(f"--with {word}: {part!r} is no option. Write {name}:option=value,option=value.")
        options[option] = _value(value)
    try:
        return from_plain(kind, options, name)
    except ValueError as error:
        takes = ", ".join(one.name for one in dataclasses.fields(kind)) or "no options"  # type: ignore[arg-type]
        why = str(error).split(" Load it with")[0]
        raise ValueError(f"--with {word}: {why} It takes {takes}: {name}:option=value,option=value.") from error


def _kind(word: str, option: str) -> type[Technique]:
    names = {_name(kind): kind for kind in TECHNIQUES.values()}
    wanted = word.lower().replace("_", "-")
    found = names.get(wanted) or TECHNIQUES.get(word)
    if found is not None:
        return found
    fields = {one.name: f"--augment.{one.name}" for one in dataclasses.fields(Augment)}
    fields |= {one.name: f"--{one.name}" for one in dataclasses.fields(Recipe)}
    close = difflib.get_close_matches(wanted, names, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    if wanted.replace("-", "_") in fields:
        hint = f" It is a field of the recipe: {fields[wanted.replace('-', '_')].replace('_', '-')}."
    raise ValueError(f"{option} {word}: there is no such technique.{hint} There are {', '.join(names)}.")


def _name(kind: type[Technique]) -> str:
    """Return a technique's name as words have it: deep-training for DeepTraining."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()


def _value(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):  # a word, such as cosine; or true
        return {"true": True, "false": False, "null": None}.get(word, word)
