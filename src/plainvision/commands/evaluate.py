"""Score a trained network on the validation split of its data, or of other data.

Example: plainvision evaluate runs/clothing --data.root clothing.zip --data.validation-split test --fuse --csv test.csv
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from plainvision.commands import check_writable, show


@dataclass(frozen=True)
class Overrides:
    """Fields of the data to change; the others are as in training."""

    root: str | None = None
    """Where the images are."""
    validation_root: str | None = None
    """Where the validation split is, when it is not under the root."""
    validation_split: str | None = None
    """Which split to score."""
    image_size: int | None = None
    """Side of the square that the network sees, in pixels."""
    crop_ratio: float | None = None
    """The share of the resized short side that the centre crop keeps."""
    workers: int | None = None
    """Processes that read images."""


@dataclass(frozen=True)
class Arguments:
    """What `plainvision evaluate` takes."""

    source: Annotated[Path | None, tyro.conf.Positional] = None
    """The folder of a run, or a .safetensors file that plainvision wrote."""
    model: str | None = None
    """Instead of a source: the name of a network, whose weights --checkpoint gives."""
    checkpoint: str | None = None
    """Path or URL of weights for --model, ours or the official ones."""
    weights: Literal["best", "last"] = "best"
    """Which weights of a run."""
    data: Overrides = Overrides()
    """The data to score on."""
    fuse: bool = False
    """Fuse the network, and compare both forms."""
    csv: Path | None = None
    """Write every prediction to this file."""
    batch_size: int = 64
    """Images per pass."""
    device: str | None = None
    """Where to compute: cpu, cuda, ...; by default a GPU where there is one."""


def main(words: list[str]) -> None:
    """Print top-1 and top-5, and top-1 per class."""
    arguments = tyro.cli(Arguments, args=words, prog="plainvision evaluate", description=__doc__)
    if (arguments.source is None) == (arguments.model is None):
        raise ValueError("give either the folder of a run, or --model with --checkpoint, to say what to evaluate.")
    if (arguments.checkpoint is None) != (arguments.model is None):
        raise ValueError("--model and --checkpoint belong together: the name of a network, and its weights.")

    import torch
    from rich.table import Table

    import plainvision as pv
    from plainvision.bench.circumstances import usable_device
    from plainvision.training.data import EvaluationBatches
    from plainvision.training.evaluation import data_of
    from plainvision.training.run_folder import load_network

    device = usable_device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"), {})
    if arguments.csv is not None:
        check_writable(arguments.csv, "--csv")
    changes = {name: value for name, value in vars(arguments.data).items() if value is not None}
    if arguments.source is not None:
        network, origin = load_network(arguments.source, arguments.weights)
        data, classes = replace(origin.recipe.data, **changes), origin.classes
    else:
        assert arguments.model is not None
        assert arguments.checkpoint is not None
        network, classes = pv.create_model(arguments.model), None
        data = replace(data_of(network), **changes)
        pv.load_checkpoint(network, arguments.checkpoint)
    forms = {"as it is": network}
    if arguments.fuse:
        forms["deployed"] = pv.fuse(network, image_size=data.image_size)
    batches = EvaluationBatches(data, batch_size=arguments.batch_size, classes=classes)
    results = {
        form: pv.training.evaluate(model, batches, classes=batches.classes, device=device)
        for form, model in forms.items()
    }

    table = Table("", *results)
    table.add_row("top-1 %", *(f"{result.top1:.2f}" for result in results.values()))
    table.add_row("top-5 %", *(f"{result.top5:.2f}" for result in results.values()))
    table.add_row("loss", *(f"{result.loss:.4f}" for result in results.values()), end_section=True)
    for name in next(iter(results.values())).per_class:
        table.add_row(name, *(f"{result.per_class[name]:.2f}" for result in results.values()))
    show(table)
    first = next(iter(results.values()))
    print(f"{first.images} images of {data.validation_root or data.root}")
    for name in first.skipped:
        print(f"skipped {name}")
    if arguments.fuse:
        same = sum(a.predicted == b.predicted for a, b in zip(*(r.predictions for r in results.values()), strict=True))
        print(f"both forms name the same class for {same} of {first.images} images")
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "label", "predicted", "confidence", "form"])
            for form, result in results.items():
                writer.writerows(
                    [p.name, p.label, p.predicted, f"{p.confidence:.6f}", form] for p in result.predictions
                )
        print(f"predictions in {arguments.csv}")
