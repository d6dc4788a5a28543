"""VanillaNet from scratch on real photographs, against ResNet-18 under the same recipe.

Run: python benchmarks/clothing.py --root clothing.zip             (the recipe as it is: a GPU's work)
     python benchmarks/clothing.py --root clothing.zip --short     (what two CPU cores do in an hour)

Trains `vanillanet_clothing` and `resnet18_clothing` with each seed, scores the last network on the test split, which no
choice depends on, and writes results/clothing.json. A run that was stopped goes on where it was.
"""

import shlex
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

import plainvision as pv
from plainvision.bench import as_table, count_macs, write_record
from plainvision.recipes import get_recipe
from plainvision.training import Recipe, evaluate, train
from plainvision.training.resumable import read_metrics
from plainvision.training.techniques import EMA, DeepTraining

RECIPES = ("vanillanet_clothing", "resnet18_clothing")


@dataclass(frozen=True)
class Arguments:
    """What the benchmark takes."""

    root: str
    """The clothing images: a folder, .zip or .tar with train, validation and test."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each network per seed."""
    short: bool = False
    """A tenth of the epochs at 64 pixels, and VanillaNet half as wide, for a CPU."""
    only: str | None = None
    """Train this recipe alone and write no record; another process may train the other."""
    out: Path = Path("runs/clothing")
    """Where the runs go."""
    record: Path = Path("results/clothing.json")
    """Where the record goes."""


def shortened(recipe: Recipe) -> Recipe:
    """Return the recipe for a CPU: every length a tenth, and VanillaNet half as wide as the recipe's."""
    lengths = {DeepTraining: DeepTraining(epochs=3), EMA: EMA(decay=0.9)}
    options = dict(recipe.model_options)
    if "width" in options:
        options["width"] = 1 / 4
    return replace(
        recipe,
        model_options=options,
        data=replace(recipe.data, image_size=64, workers=1),
        epochs=10,
        warmup_epochs=1,
        techniques=tuple(lengths[type(technique)] for technique in recipe.techniques),
        machine=replace(recipe.machine, threads=1, channels_last=True),
    )


def run(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Train once and return what the last network scores on validation and test, and how long it took."""
    result = train(recipe, folder, resume=(folder / "recipe.json").exists(), console=Console())
    test = evaluate(result.network, replace(recipe.data, validation_split="test"), classes=result.classes)
    # A resumed run's own clock is too short: the metrics know how long the steps took, between one look and the next.
    looks = [line for line in read_metrics(folder) if "images_per_second" in line]
    steps = [look["step"] - before for look, before in zip(looks, [0, *(look["step"] for look in looks)], strict=False)]
    seconds = [n * recipe.batch_size / look["images_per_second"] for n, look in zip(steps, looks, strict=True)]
    return {
        "seed": recipe.seed,
        "validation_top1": result.last.top1,
        "test_top1": test.top1,
        "test_images": test.images,
        "training_seconds": sum(seconds),
        "training_images_per_second": looks[-1]["step"] * recipe.batch_size / sum(seconds),
    }


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
        form = model
        if name == "vanillanet_clothing":
            pv.set_slope(model, 1)
            form = pv.fuse(model, images=1)
        scores = [one["test_top1"] for one in runs]
        figures[name] = {
            "network": ", ".join([recipe.model, *(f"{key} {value:g}" for key, value in recipe.model_options.items())]),
            "epochs": recipe.epochs,
            "image_size": recipe.data.image_size,
            "training_macs": count_macs(model, recipe.data.image_size),
            "deployed_macs": count_macs(form, recipe.data.image_size),
            "test_top1_mean": statistics.mean(scores),
            "test_top1_std": statistics.stdev(scores) if len(scores) > 1 else None,
            "runs": runs,
        }
    rows = [{"recipe": name, **{k: v for k, v in found.items() if k != "runs"}} for name, found in figures.items()]
    print(as_table(rows))
    if arguments.only is None:
        command = f"python benchmarks/clothing.py {shlex.join(sys.argv[1:])}"
        claim = "VanillaNet from scratch on clothing, against ResNet-18 under the same recipe, epochs and image size"
        write_record(arguments.record, claim, figures, command)


if __name__ == "__main__":
    main()
