"""Train a network by a recipe; any field of the recipe can be overridden.

Example: plainvision train vanillanet_clothing --data.root clothing.zip --out runs/clothing --epochs 50
"""

import os
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plainvision.commands import Table, parsed, resumable, say, show
from plainvision.commands.options.batch_size import fitted, without_auto
from plainvision.commands.options.recipe import Base, base_recipe, record_of
from plainvision.recipes import list_recipes
from plainvision.training.recipe import Recipe
from plainvision.training.trackers import Tracker

if TYPE_CHECKING:
    from plainvision.training.cross_validation import CrossValidation


@dataclass(frozen=True)
class Arguments:
    """What `plainvision train` takes behind the recipe's name."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    """The recipe, field by field."""
    out: Path
    """The run's folder."""
    resume: bool = False
    """Continue the run in that folder as if unbroken."""
    pretrained: bool = False
    """Start from the weights that timm or torchvision publish for the network, with a new classifier."""
    multi_label: bool = False
    """Images have sets of labels, in a .csv (--data.labels) or in folders called like their set, such as cat+dog."""
    added: Annotated[tuple[str, ...], tyro.conf.arg(name="with"), tyro.conf.UseAppendAction] = ()
    """Add a technique to the recipe, as NAME:option=value,...; may be given several times."""
    without: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Leave a technique of the recipe out, by its name; may be given several times."""
    log: tuple[Tracker, ...] = ()
    """Hand the metrics to these programs too."""
    find_lr: bool = False
    """Try learning rates and suggest one, instead of training."""
    show_recipe: bool = False
    """Print every field of the recipe first, not only those that differ from the defaults."""


def main(words: list[str]) -> None:
    """Train, and print what came out."""
    if words[:1] == ["--resume"] and len(words) > 1:
        words = [str(record_of(Path(words[1]))), "--out", words[1], "--resume", *words[2:]]
    typed = {word.partition("=")[0] for word in words}
    if not words or words[0].startswith("-"):
        asked = not {"-h", "--help", "--help-all"}.isdisjoint(typed)
        if asked or {"--data.root", "--resume"}.isdisjoint(typed):
            print(_help())
            if asked:
                return
            raise ValueError(
                "the recipe's name comes first, for instance: plainvision train vanillanet_digits --out runs/a. To "
                "have one chosen, name the images: plainvision train --data.root IMAGES --out runs/a"
            )
    left, auto = without_auto(words)
    base = base_recipe(left)
    # A range test leaves nothing but its figure.
    given = Arguments(recipe=base.recipe, out=Path(base.recipe.name) if "--find-lr" in typed else tyro.MISSING)
    verb = " ".join(["train", *left[: len(left) - len(base.words)]])
    arguments = parsed(Arguments, base.words, verb, __doc__, default=given)
    recipe = fitted(arguments.recipe) if auto else arguments.recipe
    if arguments.find_lr:
        if arguments.resume:
            raise ValueError("--find-lr tries rates on a new network, and continues no run. Leave --resume out.")
        from plainvision.commands.options.learning_rates import find_learning_rate

        find_learning_rate(recipe, arguments.out.with_name(f"{arguments.out.name}_lr.png"))
        return

    from rich.console import Console
    from rich.pretty import pretty_repr

    from plainvision.layers.linear_pair import LinearPair
    from plainvision.processes import process_group
    from plainvision.training.cross_validation import cross_validate
    from plainvision.training.loop import train

    if not arguments.resume and os.environ.get("RANK", "0") == "0":
        for line in base.said:
            say(textwrap.fill(line, 100, subsequent_indent="  "))
        if scaled := _scaled(base, recipe):
            say(f"for {recipe.epochs} epochs instead of {base.named.epochs}: {', '.join(scaled)}")
    if arguments.show_recipe:
        say(pretty_repr(recipe))
    out, resume = arguments.out, arguments.resume
    with resumable("train", words):
        if recipe.data.folds is not None and recipe.data.fold is None:
            found = cross_validate(recipe, out, resume=resume, console=Console(), trackers=arguments.log)
            _tell(found, recipe.task.score_name, out)
            return
        result = train(recipe, out, resume=resume, console=Console(), trackers=arguments.log)
    if not process_group().is_main_process:
        return
    name = recipe.task.score_name
    say(f"{name} {result.last.score:.2f} %, best {result.best_score:.2f} %; weights in {result.folder}")
    if all(pair.slope.item() == 1 for pair in result.network.modules() if isinstance(pair, LinearPair)):
        say(f"Next: plainvision fuse {shlex.quote(str(result.folder))}")


def _tell(found: "CrossValidation", score: str, out: Path) -> None:
    """Print the folds' scores and how they spread."""
    from plainvision.processes import process_group

    if not process_group().is_main_process:
        return
    table = Table(("fold", "images", f"{score} %", "best %"))
    for one in found.scores:
        table.add_row(str(one.fold), str(one.images), f"{one.score:.2f}", f"{one.best_score:.2f}")
    show(table)
    say(
        f"{score} {found.mean:.2f} ± {found.std:.2f} % (mean and standard deviation of {len(found.scores)} folds, "
        f"{found.images} images); scores in {out / 'cross_validation.json'}, weights in its folders"
    )


def _scaled(base: Base, recipe: Recipe) -> list[str]:
    """Return in words what has another value than named because the run has another length, and not by a word."""
    named, scaled, final = (_fields(one) for one in (base.named, base.recipe, recipe))
    return [
        f"{final[name][0]} {value:g} instead of {named[name][1]:g}"
        for name, (_, value) in scaled.items()
        if name != "epochs" and name in named and named[name][1] != value == final.get(name, ("", None))[1]
    ]


def _fields(recipe: Recipe) -> dict[str, tuple[str, Any]]:
    """Return each field of a recipe under a name that does not change with the place of a technique.

    With the value is the name that the command line has for it.
    """
    from plainvision.training.resumable import dotted_fields

    plain = recipe.to_dict()
    fields = {name: (name, value) for name, value in dotted_fields(plain | {"techniques": None}).items()}
    for place, technique in enumerate(plain["techniques"]):
        for name, value in dotted_fields(technique).items():
            fields[f"{technique['technique']}.{name}"] = f"techniques.{place}.{name}", value
    return fields


def _help() -> str:
    names = textwrap.fill("  ".join(list_recipes()), 80, initial_indent="  ", subsequent_indent="  ")
    what, example = (__doc__ or "").strip().split("\n\n")
    return (
        f"{example}\n\n{what}\n\n"
        "usage: plainvision train RECIPE --out DIR [options]\n"
        "       plainvision train --data.root IMAGES [--model NAME] [--start-from FILE | --pretrained] --out DIR\n\n"
        f"recipes:\n{names}\n\n"
        "RECIPE is one of these names, or the folder of a run or its recipe.json, by whose recipe another run trains. "
        "Without one, images and weights decide, and it is said why. `plainvision recipes` says what each is. "
        "`plainvision train RECIPE --help` lists the common fields of a recipe, --help-all every field."
    )
