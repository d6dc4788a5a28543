"""Points of a sweep: fields of a recipe, and the values that they take. No torch here."""

import ast
import dataclasses
import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plainvision.training.recipe import Recipe, for_epochs

# Short names of fields; each is exactly the field behind it.
ALIASES = {
    "drop_path": "model_options.drop_path_rate",
    "image_size": "data.image_size",
    "wd": "weight_decay",
    "width": "model_options.width",
}
# What published scores are of, whatever a sweep is trained on.
PUBLISHED_ON = "top-1 on ImageNet-1k"
_LONGEST = 150


@dataclass(frozen=True)
class Point:
    """What is trained once for each seed."""

    recipe: Recipe
    """How it is trained."""
    values: dict[str, Any] = field(default_factory=dict)
    """What is particular to it, by field."""
    published: float | str | None = None
    """Published top-1, per cent, or how the published run failed; None where nothing is published."""

    def named(self, seed: int) -> str:
        """Return the name of the folder of its run with this seed, which tells the values."""
        parts = [f"{name}={value}" for name, value in {**self.values, "seed": seed}.items()]
        name = ",".join(re.sub(r"[^\w.+=-]", "_", part) for part in parts)
        if name == ",".join(parts) and len(name) <= _LONGEST:
            return name
        known = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
        return f"{name[:_LONGEST]}-{known}"


def grid(points: Sequence[Point], axes: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return each of ``points`` with each combination of the values of ``axes``, by the names of fields.

    Raises:
        ValueError: a recipe has no such field, or the field cannot have a value.
    """
    found = []
    for point in points:
        for values in itertools.product(*axes.values()):
            given, recipe = dict(zip(axes, values, strict=True)), point.recipe
            # The number of epochs first, for it scales others.
            for name in sorted(given, key=lambda name: name != "epochs"):
                recipe = with_value(recipe, name, given[name])
            found.append(replace(point, recipe=recipe, values={**point.values, **given}))
    return found


def with_value(recipe: Recipe, name: str, value: Any) -> Recipe:
    """Return ``recipe`` with another value of the field called ``name``, with dots as on the command line.

    Another number of epochs scales what is counted in epochs.

    Raises:
        ValueError: there is no such field, or it cannot have this value.
    """
    if name == "epochs" and type(value) is int and value > 0:
        return for_epochs(recipe, value)
    plain = recipe.to_dict()
    place: Any = plain
    *path, last = name.split(".")
    for step in path:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[last] = value
    try:
        return Recipe.from_dict(plain)
    except ValueError as error:
        raise ValueError(f"{name}={value!r}: {str(error).split(' Load it with')[0]}") from error


def read_axes(words: Sequence[str], recipe: Recipe) -> dict[str, list[Any]]:
    """Return the values by field that words like ``lr=1e-3,2e-3`` say, fields with their full names.

    Raises:
        ValueError: a word is none such, its field is not one of ``recipe``, or a value comes twice.
    """
    axes: dict[str, list[Any]] = {}
    for word in words:
        name, sign, texts = word.partition("=")
        if not sign or not name or not texts:
            raise ValueError(
                f"--grid {word}: write a field and its values, for instance: --grid lr=1e-3,2e-3 drop_path=0,0.1"
            )
        values = [_value(text) for text in re.split(r",(?![^(\[]*[)\]])", texts)]
        full = _field(name, recipe)
        if full in axes:
            raise ValueError(f"--grid {word}: {full} is there twice. Give all of its values at once.")
        if any(one == other for one, other in itertools.combinations(values, 2)):
            raise ValueError(f"--grid {word} names a value twice. Give each once; --seeds repeats runs.")
        if full == "seed":
            raise ValueError(f"--grid {word}: --seeds N trains each point with N seeds, from the recipe's own.")
        axes[full] = values
    return axes


def in_words(words: Sequence[str], axes: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return a line for each field that a word of a grid calls by another name than its own."""
    names = (word.partition("=")[0] for word in words)
    return [f"{name} is {full}" for name, full in zip(names, axes, strict=True) if name != full]


def selected(points: Sequence[Point], words: Sequence[str]) -> list[Point]:
    """Return the points whose values are among those that words like ``network=alexnet,resnet50`` say.

    A field may be called by the last part of its name.

    Raises:
        ValueError: a word is none such, no point has the field, or none is left.
    """
    left = list(points)
    names = list(dict.fromkeys(name for point in points for name in point.values))
    for word in words:
        name, sign, texts = word.partition("=")
        full = [one for one in names if name in (one, one.rpartition(".")[2]) or ALIASES.get(name) == one]
        if not sign or not full:
            raise ValueError(f"--only {word}: write FIELD=VALUE,... with one of the fields {', '.join(names)}.")
        wanted = [_value(text) for text in texts.split(",")]
        there = list(dict.fromkeys(point.values[full[0]] for point in points))
        if unknown := [value for value in wanted if value not in there]:
            raise ValueError(f"--only {word}: {name} is never {unknown[0]}. It is {', '.join(map(str, there))}.")
        left = [point for point in left if point.values[full[0]] in wanted]
    if not left:
        raise ValueError(f"--only {' '.join(words)} leaves no row. Give fewer of them.")
    return left


def _field(name: str, recipe: Recipe) -> str:
    """Return the full name of a field of the recipe: options of the network may be new ones."""
    technique, _, option = name.partition(".")
    kinds = [re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(one).__name__).lower() for one in recipe.techniques]
    if technique.replace("_", "-") in kinds:
        name = f"techniques.{kinds.index(technique.replace('_', '-'))}.{option}"
    full = ALIASES.get(name, name).replace("-", "_")
    known = _fields(recipe)
    if full in known or re.fullmatch(r"model_options\.\w+", full):
        return full
    close = difflib.get_close_matches(full, [*known, *ALIASES], n=2)
    hint = (
        f"Did you mean {' or '.join(close)}?"
        if close
        else f"An option of the network is model_options.{full}; `plainvision train RECIPE --help-all` lists "
        "the fields."
    )
    raise ValueError(f"--grid {name}: the recipe {recipe.name} has no such field. {hint}")


def _fields(recipe: Recipe) -> list[str]:
    names = []
    for one in dataclasses.fields(recipe):
        value = getattr(recipe, one.name)
        if dataclasses.is_dataclass(value):
            names += [f"{one.name}.{inner.name}" for inner in dataclasses.fields(value)]
        elif one.name == "techniques":
            for place, technique in enumerate(recipe.techniques):
                names += [f"techniques.{place}.{inner.name}" for inner in dataclasses.fields(technique)]  # type: ignore[arg-type]
        elif one.name not in ("name", "model_options"):
            names.append(one.name)
    return names


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a word, such as cosine; or true
        return {"true": True, "false": False, "null": None}.get(text, text)
