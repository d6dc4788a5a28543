"""Claim: from nothing, in five minutes of a CPU, boxes reach an AP50 of 80 %, masks 70 %, and areas a mean IoU of 80 %.

    $ python benchmarks/learn_shapes.py

Trains `retinanet_small`, `mask_rcnn_small` and `upernet_small`, as `plainvision detect train` and `plainvision segment
train` do, on the images that shapes.py draws, and scores the last network on images that were held out. Each seed draws
images of its own. Holds when every run gets there within five minutes of the CPU's time, which is that of one thread on
a quiet machine; the wall's is that of a machine where, as "load" says, so many processes wanted a core. A run that was
stopped begins anew, one that is finished is kept. Writes results/learn_shapes.json.
"""

import json
import os
import shutil
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from claim import conclude
from PIL import Image
from rich.console import Console
from shapes import write_shapes

from plainvision.files import write_json
from plainvision.recipes.tasks import TASK_RECIPES
from plainvision.tasks import find_areas, find_objects, load
from plainvision.tasks.drawing import draw_areas, draw_objects
from plainvision.tasks.finding import Areas, Objects
from plainvision.training import Recipe, train

CLAIM = (
    "from nothing, in five minutes of a CPU, boxes reach an AP50 of 80 %, masks one of 70 %, and areas a mean IoU of "
    "80 %"
)
MINUTES = 5
NEEDED = {
    ("retinanet_small", "box_ap50"): 80,
    ("mask_rcnn_small", "box_ap50"): 80,
    ("mask_rcnn_small", "mask_ap50"): 70,
    ("upernet_small", "miou"): 80,
}
# Images to learn from: fewer forms of a shape leave an UPerNet with 60 to 85 % after as many steps.
IMAGES = {"retinanet_small": 400, "mask_rcnn_small": 400, "upernet_small": 1200}
_WIDTH = 960  # of a picture, in pixels
COLUMNS = ("recipe", "figure", "needed", "mean", "std", "lowest", "wall_minutes", "cpu_minutes", "load", "threads")


@dataclass(frozen=True)
class Arguments:
    """What the benchmark takes."""

    seeds: tuple[int, ...] = (1, 2, 3)
    """One run of each recipe per seed."""
    only: str | None = None
    """Train this recipe alone and write no record; another process may train the others."""
    threads: int | None = None
    """Threads of torch; None leaves it to torch."""
    out: Path = Path("runs/learn_shapes")
    """Where images and runs go."""
    pictures: Path | None = None
    """Draw what the first seed's networks find on held-out images into this folder, as the documentation shows it."""


def run(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return the figures of a run, which is in its folder or trained into it."""
    finished = folder / "finished.json"
    if not finished.exists():
        shutil.rmtree(folder, ignore_errors=True)  # one that was stopped has lost its clock
        wall, cpu = time.perf_counter(), time.process_time()
        result = train(recipe, folder, console=Console())
        times = {"wall_minutes": time.perf_counter() - wall, "cpu_minutes": time.process_time() - cpu}
        figures = {name: seconds / 60 for name, seconds in times.items()}
        figures |= {"load": os.getloadavg()[1], "threads": torch.get_num_threads()}
        write_json(finished, {"recipe": recipe.name, "seed": recipe.seed, **figures, **result.last.figures})
    return json.loads(finished.read_text())


def draw(runs: Path, seed: int, place: Path) -> None:
    """Draw what the networks of a seed find on the first held-out images, beside each other, into files of a folder."""
    paths = sorted((runs / f"shapes_{seed}_400" / "images" / "validation").iterdir())[:3]
    detector = load(runs / f"retinanet_small_{seed}", weights="last")
    segmenter = load(runs / f"upernet_small_{seed}", weights="last")
    objects = [one for one in find_objects(detector, paths) if isinstance(one, Objects)]
    areas = [one for one in find_areas(segmenter, paths) if isinstance(one, Areas)]
    found = {
        "shapes_detected.png": [draw_objects(one, detector.classes) for one in objects],
        "shapes_segmented.png": [draw_areas(one, segmenter.classes) for one in areas],
    }
    for name, drawings in found.items():
        whole = Image.new("RGB", (sum(one.width for one in drawings), max(one.height for one in drawings)), "white")
        for i, one in enumerate(drawings):
            whole.paste(one, (i * one.width, 0))
        small = whole.resize((_WIDTH, round(_WIDTH * whole.height / whole.width)), Image.Resampling.LANCZOS)
        small.quantize(128).save(place / name, optimize=True)


def main() -> None:
    """Draw, train, print a table, write the record."""
    given = tyro.cli(Arguments, description=__doc__)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    recipes = {**TASK_RECIPES["detect"], **TASK_RECIPES["segment"]}
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in given.seeds:
        for name in IMAGES if given.only is None else (given.only,):
            root = given.out / f"shapes_{seed}_{IMAGES[name]}"
            if not root.exists():
                write_shapes(root, train=IMAGES[name], seed=seed)
            recipe = recipes[name]()
            data = replace(recipe.data, root=str(root), workers=0)  # so that the CPU's time is that of one process
            folder = given.out / f"{name}_{seed}"
            found.setdefault(name, []).append(run(replace(recipe, data=data, seed=seed), folder))
    if given.only is not None:
        return
    rows: list[dict[str, Any]] = []
    for (name, figure), needed in NEEDED.items():
        scores = [one[figure] for one in found[name]]
        row = {"recipe": name, "figure": figure.replace("_", " "), "needed": needed, "mean": statistics.mean(scores)}
        row |= {"std": statistics.stdev(scores) if len(scores) > 1 else None, "lowest": min(scores)}
        row |= {
            key: statistics.mean(one[key] for one in found[name]) for key in ("wall_minutes", "cpu_minutes", "load")
        }
        rows.append(row | {"threads": found[name][0]["threads"]})
    measured = [one for runs in found.values() for one in runs]
    holds = all(row["lowest"] >= row["needed"] for row in rows)
    holds &= all(one["cpu_minutes"] <= MINUTES for one in measured)
    if given.pictures is not None:
        draw(given.out, given.seeds[0], given.pictures)
    conclude(CLAIM, holds, rows, COLUMNS, device="cpu", measured=measured)


if __name__ == "__main__":
    main()
