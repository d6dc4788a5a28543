"""RetinaNet on 44 aerial photographs of trees: from ImageNet's weights, and networks of ours from nothing.

Run: python benchmarks/trees.py --root trees-coco.zip --lite0 tf_efficientnet_lite0.safetensors

Trains `retinanet_small` at 320 pixels, its anchors fitted to the training boxes, with each network and each seed, all
for about as long: a smaller network has more epochs. Scores the last network on the 15 photographs of the validation
split, by which nothing is chosen, and writes results/trees.json. A run that was stopped goes on where it was; one that
is finished is kept.
"""

import json
import shlex
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from plainvision.bench import as_table, write_record
from plainvision.files import write_json
from plainvision.recipes.tasks import retinanet_small
from plainvision.tasks.learning import Detection
from plainvision.tasks.starting import with_fitted_anchors
from plainvision.training import Recipe, train
from plainvision.training.resumable import read_metrics

CLAIM = "RetinaNet finds trees on aerial photographs, from ImageNet's weights and from nothing"


@dataclass(frozen=True)
class Arguments:
    """What the benchmark takes."""

    root: str
    """The trees: a folder, .zip or .tar in COCO's form with train and validation."""
    lite0: str
    """ImageNet's weights of tf_efficientnet_lite0."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each network per seed."""
    out: Path = Path("runs/trees")
    """Where the runs go."""


def recipes(root: str, lite0: str) -> dict[str, Recipe]:
    """Return the runs by name."""
    base = retinanet_small()
    data = replace(base.data, root=root, image_size=320, workers=0)
    base = with_fitted_anchors(replace(base, data=data, batch_size=2))
    assert isinstance(base.task, Detection)
    half = (0.5, 0.5, 0.5)  # as these weights know images
    return {
        "ImageNet's weights": replace(
            base,
            model="tf_efficientnet_lite0",
            model_options={},
            start_from=lite0,
            data=replace(base.data, mean=half, std=half),
            task=replace(base.task, freeze_norms=True),
            lr=3e-4,  # a trained backbone wants less
            epochs=10,
        ),
        "VanillaNet from nothing": replace(base, epochs=30),
        "ResNet-50-max from nothing": replace(base, model="resnet50_max", model_options={"width": 1 / 4}, epochs=24),
    }


def run(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return the figures of a run, which is in its folder or trained into it."""
    finished = folder / "finished.json"
    if not finished.exists():
        result = train(recipe, folder, resume=(folder / "recipe.json").exists(), console=Console())
        # A resumed run's own clock is too short: the metrics know how long the steps took, between looks.
        looks = [line for line in read_metrics(folder) if "images_per_second" in line]
        befores = [0, *(look["step"] for look in looks)]
        seconds = sum(
            (look["step"] - before) * recipe.batch_size / look["images_per_second"]
            for before, look in zip(befores, looks, strict=False)
        )
        figures = {"seed": recipe.seed, **result.last.figures, "training_minutes": seconds / 60}
        write_json(finished, {**figures, "photographs": result.last.images, "trees": result.last.objects})
    return json.loads(finished.read_text())


def main() -> None:
    """Train, compare, and write the record."""
    given = tyro.cli(Arguments, description=__doc__)
    figures: dict[str, Any] = {}
    # Seed by seed, so that a record of fewer seeds can be had early.
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in given.seeds:
        for name, recipe in recipes(given.root, given.lite0).items():
            folder = given.out / f"{recipe.model}_{seed}"
            found.setdefault(name, []).append(run(replace(recipe, seed=seed), folder))
    for name, recipe in recipes(given.root, given.lite0).items():
        ap, ap50 = ([one[key] for one in found[name]] for key in ("box_ap", "box_ap50"))
        figures[name] = {
            "network": ", ".join([recipe.model, *(f"{key} {value:g}" for key, value in recipe.model_options.items())]),
            "epochs": recipe.epochs,
            "box_ap50_mean": statistics.mean(ap50),
            "box_ap50_std": statistics.stdev(ap50) if len(ap50) > 1 else None,
            "box_ap_mean": statistics.mean(ap),
            "training_minutes": statistics.mean(one["training_minutes"] for one in found[name]),
            "image_size": recipe.data.image_size,
            "runs": found[name],
        }
    rows = [{"name": name, **{k: v for k, v in one.items() if k != "runs"}} for name, one in figures.items()]
    print(as_table(rows))
    command = f"python benchmarks/trees.py {shlex.join(sys.argv[1:])}"
    write_record(Path(__file__).parents[1] / "results" / "trees.json", CLAIM, figures, command)


if __name__ == "__main__":
    main()
