"""Train a recipe with each combination of values of its fields, once for each seed; or the runs of a paper's table.

Example: plainvision sweep vanillanet_digits --grid lr=5e-3,1e-2,2e-2 weight_decay=0,0.05 --seeds 3 --out runs/sweep
"""

import difflib
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from plainvision.commands import Table, parsed, resumable, say, show
from plainvision.commands.options.output import KeptOutputOptions
from plainvision.commands.options.recipe import Base, base_of, base_recipe
from plainvision.recipes import list_recipes
from plainvision.recipes.sweeps import SWEEPS
from plainvision.study.grid import ALIASES, PUBLISHED_ON, Point, grid, in_words, read_axes, selected
from plainvision.training.recipe import Recipe, for_epochs


@dataclass(frozen=True)
class Arguments:
    """What `plainvision sweep` takes behind the name of the recipe or the table."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    """The recipe, field by field."""
    out: Path
    """The sweep's folder: record and figure, and below it the runs, in folders named after the values."""
    grid: tuple[str, ...] = ()
    """FIELD=VALUE,VALUE,...: fields as `plainvision train` has them, for instance lr, data.image_size, ema.decay; all
    combinations are trained. One value sets a field, an option of the network too."""
    only: tuple[str, ...] = ()
    """FIELD=VALUE,...: of a paper's table, train these rows only."""
    seeds: int = 1
    """How many runs each combination gets."""
    resume: bool = False
    """Go on with what is in the folder: finished runs are read, a run that was stopped is continued."""
    retry_diverged: bool = False
    """Continue also those that diverged, from their last checkpoint."""
    pretrained: bool = False
    """Start from the weights that timm or torchvision publish for the network, with a new classifier."""
    added: Annotated[tuple[str, ...], tyro.conf.arg(name="with"), tyro.conf.UseAppendAction] = ()
    """Add a technique to the recipe, as NAME:option=value,...; may be given several times."""
    without: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Leave a technique of the recipe out, by its name; may be given several times."""
    output: Annotated[KeptOutputOptions, tyro.conf.arg(name="")] = field(default_factory=KeptOutputOptions)
    """What is written beside the table. The figure is a line for one field, a heat map for two."""


def main(words: list[str]) -> None:
    """Train, print a row for each combination, and write record and figure."""
    if not words or words[0] in ("-h", "--help", "--help-all"):
        print(_help())
        if not words:
            raise ValueError("name a recipe or a table first, for instance: plainvision sweep vanillanet_table_1")
        return
    name, rest = words[0], words[1:]
    if name in SWEEPS:
        points, arguments = _of_table(name, rest)
        claim = SWEEPS[name].words
    elif name not in list_recipes() and (close := difflib.get_close_matches(name, SWEEPS, n=3)):
        raise ValueError(f"unknown recipe or table {name!r}. Did you mean {' or '.join(close)}?")
    else:
        base = base_recipe(words)
        arguments = _parsed(base, " ".join(["sweep", *words[: len(words) - len(base.words)]]))
        axes = read_axes(arguments.grid, arguments.recipe)
        if not axes:
            raise ValueError(
                "nothing is swept. Give fields and their values, for instance: --grid lr=1e-3,2e-3 drop_path=0,0.1"
            )
        if arguments.only:
            raise ValueError("--only chooses rows of a paper's table. Give fewer values to --grid instead.")
        for line in (*base.said, *in_words(arguments.grid, axes)):
            say(line)
        points = grid([Point(arguments.recipe)], axes)
        claim = f"the recipe {arguments.recipe.name} with each combination of values, trained alike"

    from rich.console import Console

    from plainvision.figures.sweep import draw_sweep
    from plainvision.study.sweep import run_sweep

    arguments.output.check()
    with resumable("sweep", words):
        rows = run_sweep(
            points,
            arguments.out,
            seeds=arguments.seeds,
            resume=arguments.resume,
            retry_diverged=arguments.retry_diverged,
            console=Console(),
        )
    fields = list(dict.fromkeys(name for point in points for name in point.values))
    show(_table(rows, fields))
    drawn = draw_sweep(rows, fields)
    if drawn is None:
        say("no figure: more than two fields have several values")
    output = arguments.output.beside(arguments.out, "sweep.png", "sweep.json")
    columns = (*fields, "top1_mean", "top1_std", "n", "diverged_epochs", "published")
    record = {"rows": rows, "fields": fields}
    output.write(claim, record, f"plainvision sweep {shlex.join(words)}", drawn, columns)


def _parsed(base: Base, verb: str) -> Arguments:
    given = Arguments(recipe=base.recipe, out=tyro.MISSING)
    return parsed(Arguments, base.words, verb, __doc__, default=given)


def _of_table(name: str, words: list[str]) -> tuple[list[Point], Arguments]:
    """Return the points of a paper's table, each with the fields that the words override, and the arguments."""
    from plainvision.training.resumable import dotted_fields

    words, epochs = _without_epochs(words)
    points = SWEEPS[name].points()
    longest = max(point.recipe.epochs for point in points)
    made, arguments, axes = [], None, {}
    for point in points:
        recipe, values = point.recipe, point.values
        if epochs is not None:
            recipe = for_epochs(recipe, max(1, round(epochs * recipe.epochs / longest)))
            values = {key: recipe.epochs if key == "epochs" else value for key, value in values.items()}
        arguments = _parsed(base_of(recipe, words), f"sweep {name}")
        meant, given = (dotted_fields(one.to_dict()) for one in (recipe, arguments.recipe))
        if changed := [key for key in values if meant.get(key) != given.get(key)]:
            raise ValueError(
                f"{name} gives {changed[0]} the values of its rows. Leave --{changed[0]} out, or choose rows with "
                "--only."
            )
        axes = read_axes(arguments.grid, arguments.recipe)
        if swept := [key for key in axes if key in values]:
            raise ValueError(f"--grid {swept[0]}: {name} gives it the values of its rows. Choose rows with --only.")
        made += grid([replace(point, recipe=arguments.recipe, values=values)], axes)
    assert arguments is not None, f"{name} has no rows"
    for line in in_words(arguments.grid, axes):
        say(line)
    return selected(made, arguments.only), arguments


def _without_epochs(words: list[str]) -> tuple[list[str], int | None]:
    """Return the words without ``--epochs N``, and N: the longest run of a table gets so many, others their share."""
    left, found, waiting = [], None, iter(words)
    for word in waiting:
        option, sign, text = word.partition("=")
        if option != "--epochs":
            left.append(word)
            continue
        found = text if sign else next(waiting, "")
        if not found.isdecimal() or int(found) < 1:
            raise ValueError(f"--epochs {found}: give a whole number from 1, the epochs of the longest run.")
    return left, None if found is None else int(found)


def _table(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> Table:
    varied = [name for name in fields if any(row[name] != rows[0][name] for row in rows)] or list(fields[:1])
    published = any(row["published"] is not None for row in rows)
    heads = (*(name.replace(".", ".\n") for name in varied), "best top-1\n%", "n", "diverged\nin epoch")
    said = [f"{name}={rows[0][name]}" for name in fields if name not in varied]
    said += [f"published: {PUBLISHED_ON}"] if published else []
    table = Table((*heads, *(["published\n%"] if published else [])), words=len(varied), caption="; ".join(said))
    for row in rows:
        spread = "" if row["top1_std"] is None else f" ± {row['top1_std']:.2f}"
        score = "" if row["top1_mean"] is None else f"{row['top1_mean']:.2f}{spread}"
        failed = ", ".join(map(str, row["diverged_epochs"]))
        paper = row["published"]
        known = "" if paper is None else f"{paper:.2f}" if isinstance(paper, float) else str(paper)
        cells = (*(str(row[name]) for name in varied), score, str(row["n"]), failed)
        table.add_row(*cells, *([known] if published else []))
    return table


def _help() -> str:
    what, example = (__doc__ or "").strip().split("\n\n")
    tables = "\n".join(
        textwrap.fill(f"{name}  {one.words}", 80, initial_indent="  ", subsequent_indent="    ")
        for name, one in SWEEPS.items()
    )
    aliases = ", ".join(f"{short} for {name}" for short, name in ALIASES.items())
    return (
        f"{example}\n\n{what}\n\n"
        "usage: plainvision sweep RECIPE --grid FIELD=VALUE,VALUE... --out DIR [options of train]\n"
        "       plainvision sweep TABLE --out DIR [--only FIELD=VALUE,...] [options of train]\n\n"
        f"tables of papers:\n{tables}\n\n"
        + textwrap.fill(
            "FIELD is a field of the recipe, with dots, or of a technique, such as deep-training.epochs. Short names: "
            f"{aliases}. `plainvision recipes` lists the recipes, `plainvision sweep RECIPE --help` the options.",
            80,
        )
    )
