"""What trained weights buy on few photographs: a linear probe, fine-tuning, and fine-tuning from the probe.

Run: python benchmarks/transfer.py --root clothing.zip --checkpoint T              (at 224 pixels: a GPU's work)
     python benchmarks/transfer.py --root clothing.zip --checkpoint T --short      (what a CPU core does in ten minutes)

T is timm's file tf_efficientnet_lite0.safetensors. Each seed draws four fifths of the training images anew, and every
way has the same ones:

- probe: a logistic regression on frozen features; the other fifth chooses its C.
- probe, batch statistics: the same network with batch norms that normalise by batches of 32 of the test images, mixed,
  as training would: what fine-tuning starts from without `FrozenStatistics`.
- classifier alone: the recipe `finetune` with a backbone that stays frozen to the end.
- fine-tuned: the recipe `finetune` as it is: the classifier alone at first, then all layers.
- probe, then fine-tuned: `finetune` from the file that the probe was saved to, with its classifier, for the epochs in
  which all layers learn.

All are scored on the test split, which no choice depends on, and compared with the probe image by image. Writes
results/transfer_clothing.json. A run that was stopped goes on where it was.
"""

import json
import re
import shlex
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from torch import nn

import plainvision as pv
from plainvision.bench import as_table, write_record
from plainvision.data.batches import EvaluationBatches
from plainvision.files import write_json
from plainvision.models.loading import load_checkpoint
from plainvision.models.pretrained import published_preparation
from plainvision.recipes import get_recipe
from plainvision.tasks.probed import probed_network
from plainvision.training import Data, Recipe, evaluate, train
from plainvision.training.evaluation import Evaluation
from plainvision.training.resumable import read_metrics
from plainvision.training.scores import compare_predictions
from plainvision.training.techniques import FrozenBackbone, FrozenStatistics
from plainvision.training.weights_file import Origin, load_network, save_network

NETWORK = "tf_efficientnet_lite0"
SHORT = {"image_size": 64, "workers": 0}


@dataclass(frozen=True)
class Arguments:
    """What the benchmark takes."""

    root: str
    """The clothing images: a folder, .zip or .tar with train and test."""
    checkpoint: Path
    """The trained weights."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One draw of the training images, and one run of each way, per seed."""
    short: bool = False
    """64 pixels, and two epochs of all layers, for a CPU."""
    only: str | None = None
    """Train this way alone, and write no record."""
    out: Path = Path("runs/transfer")
    """Where the runs go."""
    record: Path = Path("results/transfer_clothing.json")
    """Where the record goes."""


def data_of(arguments: Arguments, seed: int) -> Data:
    """Return the images of a seed: four fifths of the training images, and the last fifth to validate on."""
    how = published_preparation(NETWORK) | (SHORT if arguments.short else {})
    return Data(root=arguments.root, folds=5, fold=1, split_seed=seed, **how)


def probed(arguments: Arguments, seed: int) -> Path:
    """Return the file of the network with a linear probe as its classifier."""
    file = arguments.out / f"probe_{seed}.safetensors"
    if not file.exists():
        data = data_of(arguments, seed)
        network = load_checkpoint(pv.create_model(NETWORK), arguments.checkpoint).eval()
        found = pv.tasks.probe(network, data, test_split="test")
        origin = Origin(Recipe("published", NETWORK, data=data), tuple(map(str, range(1000))), 0)
        network, origin = probed_network(network, origin, data, found)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_network(file, network.state_dict(), origin)
    return file


def ways(arguments: Arguments, seed: int) -> dict[str, Recipe]:
    """Return what is trained with a seed, by its name."""
    base = get_recipe("finetune")
    recipe = replace(base, start_from=str(arguments.checkpoint), data=data_of(arguments, seed), seed=seed)
    if arguments.short:
        machine = replace(recipe.machine, threads=1, channels_last=True, checkpoint_steps=20)
        recipe = replace(recipe, epochs=3, techniques=(FrozenBackbone(epochs=1), FrozenStatistics()), machine=machine)
    alone = replace(recipe, techniques=(FrozenBackbone(epochs=recipe.epochs),))
    onward = replace(
        recipe,
        start_from=str(probed(arguments, seed)),
        new_classifier=False,
        epochs=recipe.epochs - (1 if arguments.short else 2),  # without those of the classifier alone
        techniques=(FrozenStatistics(),),
    )
    return {
        "classifier alone": alone,
        "fine-tuned": recipe,
        "probe, then fine-tuned": onward,
    }


def tested(network: Any, data: Data, classes: tuple[str, ...]) -> Evaluation:
    """Return the scores of a network on the test split."""
    return evaluate(network, replace(data, validation_split="test", folds=None, fold=None), classes=classes)


def by_batch_statistics(network: nn.Module, data: Data, classes: tuple[str, ...], seed: int) -> float:
    """Return the test top-1 of a network, which is changed, whose batch norms normalise by each batch of 32 images."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean = norm.running_var = None  # then torch takes those of the batch
    data = replace(data, validation_split="test", folds=None, fold=None)
    batches = list(EvaluationBatches(data, batch_size=62, classes=classes))
    images, labels = torch.cat([one.images for one in batches]), torch.cat([one.labels for one in batches])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        named = torch.cat([network(images[part]).argmax(1) for part in order.split(32)])
    return 100 * (named == labels[order]).double().mean().item()


def run(recipe: Recipe, folder: Path, probe: Evaluation) -> dict[str, Any]:
    """Train once and return what the last network scores, by itself and against the probe."""
    done = folder / "figures.json"
    if done.exists():
        return json.loads(done.read_text())
    result = train(recipe, folder, resume=(folder / "recipe.json").exists(), console=Console())
    test = tested(result.network, recipe.data, result.classes)
    looks = [line for line in read_metrics(folder) if "images_per_second" in line]
    steps = [look["step"] - before for look, before in zip(looks, [0, *(look["step"] for look in looks)], strict=False)]
    figures = {
        "seed": recipe.seed,
        "validation_top1": result.last.top1,
        "test_top1": test.top1,
        "gain": test.top1 - probe.top1,
        "p_value": compare_predictions(probe.predictions, test.predictions).p_value,
        "training_seconds": sum(
            n * recipe.batch_size / look["images_per_second"] for n, look in zip(steps, looks, strict=True)
        ),
    }
    write_json(done, figures)
    return figures


def figures_of(runs: list[dict[str, Any]], epochs: int | None, data: Data) -> dict[str, Any]:
    """Return the figures of one way: means and standard deviations over the seeds."""
    found: dict[str, Any] = {"epochs": epochs, "image_size": data.image_size}
    for name in ("test_top1", "gain", "training_seconds"):
        values = [one[name] for one in runs if name in one]
        found[f"{name}_mean"] = statistics.mean(values) if values else None
        found[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
    return {**found, "runs": runs}


def main() -> None:
    """Probe, train, compare, and write the record."""
    arguments = tyro.cli(Arguments, description=__doc__)
    runs: dict[str, list[dict[str, Any]]] = {"probe": [], "probe, batch statistics": []}
    epochs: dict[str, int] = {}
    for seed in arguments.seeds:  # all ways of a seed before the next one, so that what is there can be compared
        network, origin = load_network(probed(arguments, seed))
        probe = tested(network, data_of(arguments, seed), origin.classes)
        runs["probe"].append({"seed": seed, "test_top1": probe.top1, "test_images": probe.images})
        moved = by_batch_statistics(network, data_of(arguments, seed), origin.classes, seed)
        runs["probe, batch statistics"].append({"seed": seed, "test_top1": moved, "gain": moved - probe.top1})
        for name, recipe in ways(arguments, seed).items():
            if arguments.only not in (None, name):
                continue
            folder = arguments.out / f"{re.sub('[^a-z]+', '_', name)}_{seed}"
            runs.setdefault(name, []).append(run(recipe, folder, probe))
            epochs[name] = recipe.epochs
    data = data_of(arguments, 0)
    figures = {name: figures_of(found, epochs.get(name), data) for name, found in runs.items()}
    rows = [{"way": name, **{k: v for k, v in one.items() if k != "runs"}} for name, one in figures.items()]
    print(as_table(rows))
    if arguments.only is not None:
        return
    command = f"python benchmarks/transfer.py {shlex.join(sys.argv[1:])}"
    claim = (
        "EfficientNet-lite0 on photographs of clothing: fine-tuned, it names at least as many as a linear probe does"
    )
    columns = ("epochs", "test_top1_mean", "test_top1_std", "gain_mean", "gain_std", "training_seconds_mean")
    write_record(arguments.record, claim, figures, command, columns=columns)


if __name__ == "__main__":
    main()
