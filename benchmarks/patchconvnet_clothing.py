"""PatchConvNet from scratch on real photographs: attention pooling against average pooling, and where it looks.

Run: python benchmarks/patchconvnet_clothing.py --root clothing.zip             (the recipes as they are: a GPU's work)
     python benchmarks/patchconvnet_clothing.py --root clothing.zip --short     (what two CPU cores do in an hour)

Trains `patchconvnet_clothing` and `patchconvnet_clothing_average` with each seed and scores the last network on the
test split, which no choice depends on. Of the trained networks it then measures where they look: by attention, and by
Grad-CAM where the pooling is an average.

- `central_share`: how much of a map lies within the middle half of each side, a quarter of the image. A map without
  preferences has a quarter there.
- `spread`: over how many of the patches a map is spread, the exponential of its entropy; 1 is all of them alike.
- Covering: a quarter of the patches gets the mean colour, those of the largest weight, those of the smallest, or any.
  If maps tell what the answer rests on, covering the largest costs the most accuracy, and the smallest the least.

Writes results/patchconvnet_clothing.json, and with --picture the maps of some test images. A run that was stopped goes
on where it was.
"""

import shlex
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from clothing import run
from torch import Tensor, nn

import plainvision as pv
from plainvision.bench import as_table, count_macs, count_parameters, write_record
from plainvision.data.batches import EvaluationBatches
from plainvision.explain import Explanation, attention_kind, compare, explain_image, gradcam, save
from plainvision.recipes import get_recipe
from plainvision.training import Recipe
from plainvision.training.weights_file import load_network

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
    picture: Path | None = None
    """Draw where the first seed's networks look, on a test image of each class, into this .png, .pdf or .svg file."""


def shortened(recipe: Recipe) -> Recipe:
    """Return the recipe for a CPU."""
    return replace(
        recipe,
        data=replace(recipe.data, image_size=128, workers=0),
        epochs=30,
        machine=replace(recipe.machine, threads=1),
    )


def looks(folder: Path, root: str) -> dict[str, float]:
    """Return where the network of a run looks, on the test split: means over its images."""
    network, origin = load_network(folder, "last")
    data = replace(origin.recipe.data, root=root, validation_split="test", workers=0)
    batches = EvaluationBatches(data, batch_size=62, classes=origin.classes)
    sums: dict[str, float] = {}
    images = 0
    for batch in batches:
        for name, values in _looks(network, batch.images, batch.labels).items():
            sums[name] = sums.get(name, 0.0) + values.double().sum().item()
        images += len(batch.images)
    return {name: total / images for name, total in sums.items()}


def _looks(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return each figure for each image."""
    with torch.inference_mode():
        predicted = network(images).argmax(1)
    if attention_kind(network) is None:
        maps = gradcam(network, images, predicted)
        maps = maps + 1e-9  # Grad-CAM may be zero everywhere, and has then no preference
        maps = maps / maps.sum((1, 2), keepdim=True)
    else:
        maps = pv.attention_maps(network, images)
    height, width = maps.shape[1:]
    central = maps[:, height // 4 : height - height // 4, width // 4 : width - width // 4]
    entropy = -(maps * maps.clamp(min=1e-12).log()).sum((1, 2))
    figures = {
        "central_share": central.sum((1, 2)),
        "uniform_central_share": torch.full((len(maps),), central[0].numel() / maps[0].numel()),
        "spread": entropy.exp() / maps[0].numel(),
        "top1": 100.0 * (predicted == labels),
    }
    orders = {"largest": maps, "smallest": -maps, "random": torch.rand_like(maps)}
    for name, order in orders.items():
        with torch.inference_mode():
            answers = network(cover(images, order)).argmax(1)
        figures[f"top1_without_{name}_quarter"] = 100.0 * (answers == labels)
    return figures


def cover(images: Tensor, order: Tensor, share: float = 0.25) -> Tensor:
    """Return images (B, C, H, W) whose patches of the largest ``order`` (B, h, w) have the mean colour, zero."""
    patches = order.flatten(1)
    chosen = patches.topk(round(share * patches.shape[1])).indices
    keep = torch.ones_like(patches).scatter(1, chosen, 0.0).view_as(order)
    return images * nn.functional.interpolate(keep[:, None], images.shape[2:])


def draw(folders: dict[str, Path], root: str, path: Path) -> None:
    """Draw the first test image of each class, and where the network of each run looks, in a row each."""
    rows: dict[str, list[Explanation]] = {}
    classes: tuple[str, ...] = ()
    for name, folder in folders.items():
        network, origin = load_network(folder, "last")
        classes, data = origin.classes, replace(origin.recipe.data, root=root, validation_split="test", workers=0)
        mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
        first: dict[int, Tensor] = {}
        for batch in EvaluationBatches(data, batch_size=62, classes=classes):
            for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
                first.setdefault(label, image)
        rows[name] = [
            explain_image(network, first[label], (first[label] * std + mean).clamp(0, 1), names=classes)
            for label in range(len(classes))
        ]
    save(compare(rows, titles=classes), path)


def main() -> None:
    """Train, compare, and write the record."""
    arguments = tyro.cli(Arguments, description=__doc__)
    torch.manual_seed(0)  # which patches "random" covers
    figures: dict[str, Any] = {}
    for name in RECIPES if arguments.only is None else (arguments.only,):
        recipe = get_recipe(name)
        recipe = replace(recipe, data=replace(recipe.data, root=arguments.root))
        recipe = shortened(recipe) if arguments.short else recipe
        runs = [run(replace(recipe, seed=seed), arguments.out / f"{name}_{seed}") for seed in arguments.seeds]
        model = pv.create_model(recipe.model, num_classes=10, **recipe.model_options)
        scores = [one["test_top1"] for one in runs]
        where = [looks(arguments.out / f"{name}_{seed}", arguments.root) for seed in arguments.seeds]
        figures[name] = {
            "epochs": recipe.epochs,
            "image_size": recipe.data.image_size,
            "parameters": count_parameters(model),
            "macs": count_macs(model, recipe.data.image_size),
            "test_top1_mean": statistics.mean(scores),
            "test_top1_std": statistics.stdev(scores) if len(scores) > 1 else None,
            **{figure: statistics.mean(one[figure] for one in where) for figure in where[0] if figure != "top1"},
            "runs": [{**one, "looks": look} for one, look in zip(runs, where, strict=True)],
        }
    if arguments.picture is not None:
        draw(
            {name: arguments.out / f"{name}_{arguments.seeds[0]}" for name in figures},
            arguments.root,
            arguments.picture,
        )
    rows = [{"recipe": name, **{k: v for k, v in found.items() if k != "runs"}} for name, found in figures.items()]
    print(as_table(rows))
    if arguments.only is None:
        command = f"python benchmarks/patchconvnet_clothing.py {shlex.join(sys.argv[1:])}"
        claim = "PatchConvNet from scratch on clothing, with attention pooling and with average pooling"
        columns = ("test_top1_mean", "test_top1_std", "central_share", "uniform_central_share", "spread")
        write_record(arguments.record, claim, figures, command, columns=columns)


if __name__ == "__main__":
    main()
