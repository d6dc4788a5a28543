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
    only: tuple[str, ...] = ()
    """Train these rows alone; none is all."""
    repeated: tuple[str, ...] = ()
    """Train these rows with three seeds, the others with one."""
    out: Path = Path("runs/clothing_causes")
    """Where the runs go."""
    record: Path = Path("results/clothing_causes.json")
    """Where the record goes."""


def with_options(recipe: Recipe, **options: Option) -> Recipe:
    """Return the recipe with other options of the network."""
    return replace(recipe, model_options={**recipe.model_options, **options})


def without_deep_training(recipe: Recipe) -> Recipe:
    """Return the recipe with one convolution in the place of each pair."""
    return with_options(replace(recipe, techniques=recipe.techniques[1:]), linear_pairs=False)


def without_mixing(recipe: Recipe) -> Recipe:
    """Return the recipe with crops and flips alone."""
    return replace(recipe, augment=Augment(scale=recipe.augment.scale))


CHANGES: dict[str, Callable[[Recipe], Recipe]] = {
    "none": lambda recipe: recipe,
    "rate 0.01": lambda recipe: replace(recipe, lr=1e-2),
    "rate 0.03": lambda recipe: replace(recipe, lr=3e-2),
    "crops and flips alone": without_mixing,
    "no deep training": without_deep_training,
    "pairs without annealing": lambda recipe: replace(recipe, techniques=(DeepTraining(0), *recipe.techniques[1:])),
    "no deep training, rate 0.01": lambda recipe: replace(without_deep_training(recipe), lr=1e-2),
    "30 epochs": lambda recipe: for_epochs(recipe, 30),
    "30 epochs, no deep training": lambda recipe: for_epochs(without_deep_training(recipe), 30),
}


def points(root: Path) -> dict[str, Point]:
    """Return what is trained, by what is changed."""
    base = shortened(get_recipe("vanillanet_clothing"))
    techniques = (DeepTraining(epochs=3), EMA(decay=0.9))
    base = replace(base, data=replace(base.data, root=str(root), workers=0), techniques=techniques)
    base = with_options(base, width=WIDTH)
    return {name: Point(change(base), {"change": name}) for name, change in CHANGES.items()}


def main() -> None:
    """Train, score, and write the record."""
    arguments = tyro.cli(Arguments, description=__doc__)
    if unknown := {*arguments.only, *arguments.repeated} - CHANGES.keys():
        raise SystemExit(f"no changes called {', '.join(sorted(unknown))}. There are {', '.join(CHANGES)}.")
    chosen = {name: one for name, one in points(arguments.root).items() if name in (arguments.only or CHANGES)}
    repeated = [name for name in chosen if name in arguments.repeated]
    seeds: dict[str, list[int]] = {}
    for count, names in ((1, list(chosen)), (3, repeated)):  # the first run of all rows before the others
        these = [chosen[name] for name in names]
        resume = arguments.out.exists()
        trained = run_sweep(these, arguments.out, seeds=count, resume=resume, console=Console()) if these else []
        seeds |= {row["change"]: row["seeds"] for row in trained}
    rows: list[dict[str, Any]] = []
    for name, point in chosen.items():
        data = replace(point.recipe.data, validation_split="test")
        top1 = [score(arguments.out / point.named(seed), data) for seed in seeds[name]]
        rows.append(
            {
                "change": name,
                "epochs": point.recipe.epochs,
                "lr": point.recipe.lr,
                "width": point.recipe.model_options["width"],
                "test_top1_mean": statistics.fmean(top1) if top1 else None,
                "test_top1_std": statistics.stdev(top1) if len(top1) > 1 else None,
                "n": len(top1),
                "top1": top1,
            }
        )
    columns = ("change", "epochs", "lr", "width", "test_top1_mean", "test_top1_std", "n")
    print(as_table([{column: row[column] for column in columns} for row in rows]))
    command = f"python benchmarks/clothing_causes.py {shlex.join(sys.argv[1:])}"
    claim = "VanillaNet-6 from scratch on clothing at 64 pixels: one change of the short recipe at a time"
    write_record(arguments.record, claim, {"rows": rows}, command, columns=columns)


if __name__ == "__main__":
    main()
