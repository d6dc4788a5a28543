"""VanillaNet on few photographs, with and without a teacher: a probe of a pretrained network on the same photographs.

Run: plainvision probe tf_efficientnet_lite0 --pretrained --data.root clothing.zip --data.image-size 112 --save T
     python benchmarks/distillation.py --root clothing.zip --teacher T           (the recipes as they are: a GPU's work)
     python benchmarks/distillation.py --root clothing.zip --teacher T --short   (what a CPU core does in ten minutes)

T is a weights file, such as lite0.safetensors. For --short it is probed at 64 pixels, with --data.train-per-class 100.

Trains `vanillanet_clothing_distilled` and `vanillanet_clothing` with each seed on the same images in the same order,
and scores the last network on the test split, which no choice depends on. Writes results/distillation.json. A run that
was stopped goes on where it was.
"""

import shlex
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from clothing import run

from plainvision.bench import as_table, write_record
from plainvision.recipes import get_recipe
from plainvision.training import Recipe, evaluate
from plainvision.training.techniques import EMA, DeepTraining, Distillation
from plainvision.training.weights_file import load_network

RECIPES = {"labels alone": "vanillanet_clothing", "labels and teacher": "vanillanet_clothing_distilled"}


@dataclass(frozen=True)
class Arguments:
    """What the benchmark takes."""

    root: str
    """The clothing images: a folder, .zip or .tar with train, validation and test."""
    teacher: str
    """The weights file of the teacher."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each recipe per seed."""
    short: bool = False
    """Less of everything, for a CPU."""
    out: Path = Path("runs/distillation")
    """Where the runs go."""
    record: Path = Path("results/distillation.json")
    """Where the record goes."""


def shortened(recipe: Recipe) -> Recipe:
    """Return the recipe for a CPU: 64 pixels, 100 images of a class, and an eighth of VanillaNet-6's width."""
    lengths = {DeepTraining: DeepTraining(epochs=4), EMA: EMA(decay=0.9)}
    return replace(
        recipe,
        model_options={**recipe.model_options, "width": 1 / 8},
        data=replace(recipe.data, image_size=64, train_per_class=100, workers=0),
        epochs=12,
        batch_size=64,
        warmup_epochs=1,
        techniques=tuple(lengths.get(type(technique), technique) for technique in recipe.techniques),
        machine=replace(recipe.machine, threads=1, channels_last=True, log_steps=5),
    )


def with_teacher(recipe: Recipe, teacher: str) -> Recipe:
    """Return the recipe with that teacher, where it has one."""
    techniques = (replace(one, teacher=teacher) if isinstance(one, Distillation) else one for one in recipe.techniques)
    return replace(recipe, techniques=tuple(techniques))


def main() -> None:
    """Train, compare, and write the record."""
    arguments = tyro.cli(Arguments, description=__doc__)
    recipes = {name: with_teacher(get_recipe(one), arguments.teacher) for name, one in RECIPES.items()}
    recipes = {name: replace(one, data=replace(one.data, root=arguments.root)) for name, one in recipes.items()}
    if arguments.short:
        recipes = {name: shortened(one) for name, one in recipes.items()}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in recipes}
    for seed in arguments.seeds:  # both of a seed before the next one, so that what is there can be compared
        for name, recipe in recipes.items():
            runs[name].append(run(replace(recipe, seed=seed), arguments.out / f"{RECIPES[name]}_{seed}"))
    network, origin = load_network(arguments.teacher)
    data = replace(origin.recipe.data, root=arguments.root, validation_split="test", workers=0)
    taught = evaluate(network, data, classes=origin.classes).top1
    figures = {}
    for name, recipe in recipes.items():
        scores = [one["test_top1"] for one in runs[name]]
        figures[name] = {
            "network": f"{recipe.model}, width {recipe.model_options['width']:g}",
            "epochs": recipe.epochs,
            "image_size": recipe.data.image_size,
            "images_per_class": recipe.data.train_per_class,
            "teacher_test_top1": taught if name == "labels and teacher" else None,
            "test_top1_mean": statistics.mean(scores),
            "test_top1_std": statistics.stdev(scores) if len(scores) > 1 else None,
            "runs": runs[name],
        }
    print(
        as_table(
            [{"learns from": name, **{k: v for k, v in one.items() if k != "runs"}} for name, one in figures.items()]
        )
    )
    command = f"python benchmarks/distillation.py {shlex.join(sys.argv[1:])}"
    claim = "VanillaNet on photographs of clothing, by labels alone and by a teacher's answers too"
    columns = ("network", "images_per_class", "teacher_test_top1", "test_top1_mean", "test_top1_std")
    write_record(arguments.record, claim, figures, command, columns=columns)


if __name__ == "__main__":
    main()
