"""PatchConvNet from scratch on real photographs: attention pooling against average pooling, and where it looks.

Run: python benchmarks/patchconvnet_clothing.py --root clothing.zip             (the recipes as they are: a GPU's work)
     python benchmarks/patchconvnet_clothing.py --root clothing.zip --short     (what two CPU cores do in an hour)

Trains `patchconvnet_clothing` and `patchconvnet_clothing_average` with each seed and scores the last network on the
test split, which no choice depends on. Writes results/patchconvnet_clothing.json. A run that was stopped goes on where
it was.
"""

import shlex
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from clothing import run

import plainvision as pv
from plainvision.bench import as_table, count_macs, count_parameters, write_record
from plainvision.recipes import get_recipe
from plainvision.training import Recipe

RECIPES = ("patchconvnet_clothing", "patchconvnet_clothing_average")


@dataclass(frozen=True)
class Arguments:
    """What the benchmark takes."""

    root: str
    """The clothing images: a folder, .zip or .tar with train, validation and test."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each network per seed."""
    short: bool = False
    """Half of the epochs, at 128 pixels, for a CPU."""
    only: str | None = None
    """Train this recipe alone and write no record; another process may train the other."""
    out: Path = Path("runs/patchconvnet_clothing")
    """Where the runs go."""
    record: Path = Path("results/patchconvnet_clothing.json")
    """Where the record goes."""


def shortened(recipe: Recipe) -> Recipe:
    """Return the recipe for a CPU."""
    return replace(
        recipe,
        data=replace(recipe.data, image_size=128, workers=0),
        epochs=30,
        machine=replace(recipe.machine, threads=1),
    )


def main() -> None:
    """Train, compare, and write the record."""
    arguments = tyro.cli(Arguments, description=__doc__)
    figures: dict[str, Any] = {}
    for name in RECIPES if arguments.only is None else (arguments.only,):
        recipe = get_recipe(name)
        recipe = replace(recipe, data=replace(recipe.data, root=arguments.root))
        recipe = shortened(recipe) if arguments.short else recipe
        runs = [run(replace(recipe, seed=seed), arguments.out / f"{name}_{seed}") for seed in arguments.seeds]
        model = pv.create_model(recipe.model, num_classes=10, **recipe.model_options)
        scores = [one["test_top1"] for one in runs]
        figures[name] = {
            "epochs": recipe.epochs,
            "image_size": recipe.data.image_size,
            "parameters": count_parameters(model),
            "macs": count_macs(model, recipe.data.image_size),
            "test_top1_mean": statistics.mean(scores),
            "test_top1_std": statistics.stdev(scores) if len(scores) > 1 else None,
            "runs": runs,
        }
    rows = [{"recipe": name, **{k: v for k, v in found.items() if k != "runs"}} for name, found in figures.items()]
    print(as_table(rows))
    if arguments.only is None:
        command = f"python benchmarks/patchconvnet_clothing.py {shlex.join(sys.argv[1:])}"
        claim = "PatchConvNet from scratch on clothing, with attention pooling and with average pooling"
        write_record(arguments.record, claim, figures, command)


if __name__ == "__main__":
    main()
