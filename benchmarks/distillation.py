"""A plain network on few photographs, with and without a teacher that was trained further on the same photographs.

Run: plainvision probe tf_efficientnet_lite0 --pretrained --data.root clothing.zip --data.image-size 112 --save T
     python benchmarks/distillation.py --root clothing.zip --teacher T           (the recipes as they are: a GPU's work)
     python benchmarks/distillation.py --root clothing.zip --teacher T --short   (what a CPU core does in ten minutes)
     python benchmarks/distillation.py --root clothing.zip --teacher T --short --student resnet50_max

T is a weights file or a run, such as lite0.safetensors. For --short it is a probe at 64 pixels, with
--data.train-per-class 100, or a run of benchmarks/transfer.py --short.

Trains the student's recipe with and without `Distillation`, with each seed on the same images in the same order, and
scores the last network on the test split, which no choice depends on. Writes results/distillation.json, for another
student than VanillaNet results/distillation_STUDENT.json. A run that was stopped goes on where it was.
"""

import shlex
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro
from clothing import run

from plainvision.bench import as_table, write_record
from plainvision.recipes import get_recipe
from plainvision.training import Recipe, evaluate
from plainvision.training.techniques import EMA, DeepTraining, Distillation
from plainvision.training.weights_file import load_network

STUDENTS = {"vanillanet": "vanillanet_clothing", "resnet50_max": "resnet50_max_clothing"}
WIDTHS = {"vanillanet": 1 / 8, "resnet50_max": 1 / 4}  # of --short


@dataclass(frozen=True)
class Arguments:
    """What the benchmark takes."""

    root: str
    """The clothing images: a folder, .zip or .tar with train, validation and test."""
    teacher: str
    """The weights file of the teacher, or its run."""
    student: Literal["vanillanet", "resnet50_max"] = "vanillanet"
    """Which network learns."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each recipe per seed."""
    short: bool = False
    """Less of everything, for a CPU."""
    out: Path = Path("runs/distillation")
    """Where the runs go."""
    record: Path | None = None
    """Where the record goes; None is in results/, by the student."""


def shortened(recipe: Recipe, width: float) -> Recipe:
    """Return the recipe for a CPU: 64 pixels, 100 images of a class, and a narrow network."""
    lengths = {DeepTraining: DeepTraining(epochs=4), EMA: EMA(decay=0.9)}
    return replace(
        recipe,
        model_options={**recipe.model_options, "width": width},
        data=replace(recipe.data, image_size=64, train_per_class=100, workers=0),
        epochs=12,
        batch_size=64,
        warmup_epochs=1,
        techniques=tuple(lengths.get(type(technique), technique) for technique in recipe.techniques),
        machine=replace(recipe.machine, threads=1, channels_last=True, log_steps=5),
    )


def main() -> None:
    """Train, compare, and write the record."""
    arguments = tyro.cli(Arguments, description=__doc__)
    student = arguments.student
    alone = get_recipe(STUDENTS[student])
    alone = replace(alone, data=replace(alone.data, root=arguments.root))
    alone = shortened(alone, WIDTHS[student]) if arguments.short else alone
    techniques = (*alone.techniques, Distillation(teacher=arguments.teacher))
    taught = replace(alone, name=f"{alone.name}_distilled", techniques=techniques)
    recipes = {"labels alone": alone, "labels and teacher": taught}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in recipes}
    for seed in arguments.seeds:  # both of a seed before the next one, so that what is there can be compared
        for name, recipe in recipes.items():
            runs[name].append(run(replace(recipe, seed=seed), arguments.out / f"{recipe.name}_{seed}"))
    network, origin = load_network(arguments.teacher)
    data = replace(origin.recipe.data, root=arguments.root, validation_split="test", folds=None, fold=None, workers=0)
    teacher = evaluate(network, data, classes=origin.classes).top1
    figures = {}
    for name, recipe in recipes.items():
        scores = [one["test_top1"] for one in runs[name]]
        figures[name] = {
            "network": f"{recipe.model}, width {recipe.model_options['width']:g}",
            "epochs": recipe.epochs,
            "image_size": recipe.data.image_size,
            "images_per_class": recipe.data.train_per_class,
            "teacher_test_top1": teacher if name == "labels and teacher" else None,
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
    claim = f"{alone.model} on photographs of clothing, by labels alone and by a teacher's answers too"
    columns = ("network", "images_per_class", "teacher_test_top1", "test_top1_mean", "test_top1_std")
    name = "distillation" if student == "vanillanet" else f"distillation_{student}"
    write_record(arguments.record or Path("results") / f"{name}.json", claim, figures, command, columns=columns)


if __name__ == "__main__":
    main()
