"""Why VanillaNet from scratch on clothing falls behind ResNet-18 in the short run: one change of its recipe at a time.

Run: python benchmarks/clothing_causes.py --root clothing.zip --out runs/clothing_causes

Starts from what `benchmarks/clothing.py --short` trains, with VanillaNet half as wide again so that many runs fit an
hour of one CPU core, and changes one thing at a time: rate, length, augmentation, deep training, average, activation,
width. The last network of each run, which no choice depends on, is scored on the test split. Writes
results/clothing_causes.json. A run that was stopped goes on where it was: start the same command again.
"""

import shlex
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from ablations import score
from clothing import shortened
from rich.console import Console

from plainvision.bench import as_table, write_record
from plainvision.recipes import get_recipe
from plainvision.study.grid import Point
from plainvision.study.sweep import run_sweep
from plainvision.training import Augment, Recipe
from plainvision.training.recipe import Option, for_epochs
from plainvision.training.techniques import EMA, DeepTraining

WIDTH = 1 / 8


@dataclass(frozen=True)
class Arguments:
    """What the benchmark takes."""

    root: Path
    """The clothing images: a folder, .zip or .tar with train, validation and test."""
    seeds: int = 1
    """Runs of each row."""
    only: tuple[str, ...] = ()
    """Train these rows alone; none is all."""
    out: Path = Path("runs/clothing_causes")
    """Where the runs go."""
    record: Path = Path("results/clothing_causes.json")
    """Where the record goes."""


def with_options(recipe: Recipe, **options: Option) -> Recipe:
    """Return the recipe with other options of the network."""
    return replace(recipe, model_options={**recipe.model_options, **options})


def without(recipe: Recipe, technique: type) -> Recipe:
    """Return the recipe without a technique."""
    return replace(recipe, techniques=tuple(one for one in recipe.techniques if not isinstance(one, technique)))


def at_rate(lr: float) -> Callable[[Recipe], Recipe]:
    """Return the change to another learning rate."""
    return lambda recipe: replace(recipe, lr=lr)


def without_mixing(recipe: Recipe) -> Recipe:
    """Return the recipe with crops and flips alone."""
    return replace(recipe, augment=Augment(scale=recipe.augment.scale))


CHANGES: dict[str, Callable[[Recipe], Recipe]] = {
    "none": lambda recipe: recipe,
    "rate 0.01": at_rate(1e-2),
    "rate 0.02": at_rate(2e-2),
    "crops and flips alone": without_mixing,
    "no deep training": lambda recipe: with_options(without(recipe, DeepTraining), linear_pairs=False),
    "30 epochs": lambda recipe: for_epochs(recipe, 30),
    "no average of weights": lambda recipe: without(recipe, EMA),
    "plain ReLU": lambda recipe: with_options(recipe, series=0),
    "twice as wide": lambda recipe: with_options(recipe, width=2 * WIDTH),
}


def points(root: Path) -> dict[str, Point]:
    """Return what is trained, by what is changed."""
    base = shortened(get_recipe("vanillanet_clothing"))
    data = replace(base.data, root=str(root), workers=0)
    base = with_options(replace(base, data=data), width=WIDTH)
    return {name: Point(change(base), {"change": name}) for name, change in CHANGES.items()}


def main() -> None:
    """Train, score, and write the record."""
    arguments = tyro.cli(Arguments, description=__doc__)
    chosen = {name: one for name, one in points(arguments.root).items() if name in (arguments.only or CHANGES)}
    trained = run_sweep(
        list(chosen.values()),
        arguments.out,
        seeds=arguments.seeds,
        resume=arguments.out.exists(),
        console=Console(),
    )
    rows: list[dict[str, Any]] = []
    for (name, point), row in zip(chosen.items(), trained, strict=True):
        data = replace(point.recipe.data, validation_split="test")
        top1 = [score(arguments.out / point.named(seed), data) for seed in row["seeds"]]
        rows.append(
            {
                "change": name,
                "epochs": point.recipe.epochs,
                "lr": point.recipe.lr,
                "width": point.recipe.model_options["width"],
                "validation_top1": statistics.fmean(row["top1"]) if row["top1"] else None,
                "test_top1_mean": statistics.fmean(top1) if top1 else None,
                "test_top1_std": statistics.stdev(top1) if len(top1) > 1 else None,
                "n": len(top1),
                "top1": top1,
            }
        )
    columns = ("change", "epochs", "lr", "width", "validation_top1", "test_top1_mean", "test_top1_std", "n")
    print(as_table([{column: row[column] for column in columns} for row in rows]))
    command = f"python benchmarks/clothing_causes.py {shlex.join(sys.argv[1:])}"
    claim = "VanillaNet-6 from scratch on clothing at 64 pixels: one change of the short recipe at a time"
    write_record(arguments.record, claim, {"rows": rows}, command, columns=columns)


if __name__ == "__main__":
    main()
