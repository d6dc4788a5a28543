"""Train on the embedded digits, fuse, verify and time, and write one page about it: the whole path in two minutes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor, nn

import plainvision as pv
from plainvision.bench import comparison, host_facts, measure
from plainvision.bench.report import Page
from plainvision.data.batches import EvaluationBatches
from plainvision.figures.style import BLUE, GREEN, GREY, RED, plain
from plainvision.models.registry import create_model
from plainvision.processes import threads
from plainvision.recipes import get_recipe
from plainvision.surgery.fusing import fuse
from plainvision.surgery.same_answers import FusionReport
from plainvision.training.evaluation import Evaluation, Prediction, evaluate
from plainvision.training.loop import train
from plainvision.training.recipe import Data
from plainvision.training.resumable import read_metrics
from plainvision.training.weights_file import Origin, load_network, save_network

RECIPE = "vanillanet_digits"


@dataclass(frozen=True)
class Quickstart:
    """What the quickstart found."""

    page: Path
    """The report, one HTML file."""
    training_form: Evaluation
    """What the trained network scores on the test images."""
    deployed_form: Evaluation
    """What it scores once fused."""
    fusion: FusionReport
    """How far the answers moved."""
    seconds: float
    """How long training took, or the rest of it where an earlier call had begun."""


@threads(1)  # so small a network is faster on one than on several that wait for each other
def quickstart(out: str | Path, *, console: Console | None = None) -> Quickstart:
    """Train, fuse, verify and time a narrow VanillaNet on the embedded digits, and write ``out``/report.html.

    A quickstart that was stopped goes on where it was.

    Args:
        out: the folder of the report, the run and the deployed weights.
        console: where to show the progress of training; None is nowhere.

    Raises:
        ValueError: the folder holds something else.
        OSError: the folder cannot be written.
    """
    out, recipe = Path(out), get_recipe(RECIPE)
    run = out / "run"
    fresh = not (run / "recipe.json").exists()
    start = time.perf_counter()
    train(recipe, run, resume=not fresh, console=console)
    seconds = time.perf_counter() - start
    spent = f" in {seconds:.0f} s" if fresh else ""

    network, origin = load_network(run, "last")
    fused = fuse(network, image_size=recipe.data.image_size)
    save_network(out / "deployed.safetensors", fused.state_dict(), replace(origin, deployed=True))
    forms = [evaluate(model, recipe.data, classes=origin.classes) for model in (network, fused)]
    report: FusionReport = fused.report  # type: ignore[assignment]  # fuse attaches it

    page = Page(
        "A VanillaNet, trained deep and deployed shallow",
        f"Trained on 1,437 images of handwritten digits{spent}, it names {forms[0].top1:.1f} % of 360 others "
        "rightly, and its fused form gives the same answers.",
    )
    _tell_training(page, run, origin)
    _tell_fusion(page, report, forms)
    page.heading("What it gets right and wrong")
    page.paragraph(
        "Above, twelve test images that the deployed network names rightly; below, those it gets wrong, with what it "
        "says and how sure it is."
    )
    page.figure(_predictions_figure(recipe.data, forms[1].predictions), "Digits with their predicted classes")
    _tell_timings(page, network, fused, origin)
    facts = host_facts()
    page.footer(
        f"plainvision {pv.__version__}, torch {facts['torch']}, timm {facts['timm']}, {facts['cpu']}, "
        "one thread. The run, its recipe and its metrics are in the folder beside this page."
    )
    page.write(out / "report.html")
    return Quickstart(out / "report.html", forms[0], forms[1], report, seconds)


def _tell_training(page: Page, run: Path, origin: Origin) -> None:
    deep = next(line for line in read_metrics(run) if line.get("slope") == 1)
    page.heading("Training")
    page.paragraph(
        f"The network is `{origin.recipe.model}`, a sixteenth as wide. Each of its layers is a pair of convolutions "
        "with a leaky ReLU between them. Its negative slope, drawn below, rises from 0 to 1: at 0 the network is deep "
        f"enough to learn well, at 1, from epoch {deep['epoch'] + 1} on, each pair is one linear map, and training "
        "goes on in the form that will be deployed. The loss in training is on augmented images and softened labels, "
        "so it ends above the test's."
    )
    page.figure(_training_figure(run), "Test accuracy, loss and slope by epoch")


def _tell_fusion(page: Page, report: FusionReport, forms: Sequence[Evaluation]) -> None:
    page.heading("Fusing")
    same = sum(a.predicted == b.predicted for a, b in zip(forms[0].predictions, forms[1].predictions, strict=True))
    page.paragraph(
        "`plainvision.fuse` folds each pair into one convolution and each batch norm into the convolution before it, "
        "in float64, then compares both forms on random images. It refuses when they differ by more than rounding "
        "explains."
    )
    rows = (
        ("layers with weights", f"{report.layers_before}", f"{report.layers_after}"),
        ("parameters", f"{report.parameters_before:,}", f"{report.parameters_after:,}"),
        ("test accuracy", *(f"{form.top1:.2f} %" for form in forms)),
    )
    page.table([dict(zip(("", "training form", "deployed form"), row, strict=True)) for row in rows])
    page.paragraph(
        f"On {report.images} random images the largest difference of a logit is {report.largest_absolute_error:.1e}, "
        f"{report.largest_relative_error:.1e} of the largest logit; both forms name the same class for "
        f"{report.argmax_agreement:.0%} of them, and for {same} of {forms[0].images} test images."
    )


def _tell_timings(page: Page, network: nn.Module, fused: nn.Module, origin: Origin) -> None:
    data = origin.recipe.data
    networks = {
        "ResNet-18": create_model("resnet18", num_classes=len(origin.classes), in_chans=data.channels),
        "VanillaNet, training form": network,
        "VanillaNet, deployed form": fused,
    }
    timed = partial(measure, networks, image_size=data.image_size, channels=data.channels, runs=40, seconds=4)
    page.heading("Speed")
    for batch in (1, 64):
        page.paragraph("One image at a time:" if batch == 1 else f"In batches of {batch}:")
        page.table(
            [
                {
                    "network": row["name"],
                    "parameters": f"{row['parameters']:,}",
                    "multiply-adds": f"{row['macs'] / 1e6:.1f} M",
                    "p50": f"{row['p50_ms']:.2f} ms",
                    "p90": f"{row['p90_ms']:.2f} ms",
                    "images/s": f"{row['images_per_second']:,.0f}",
                    "peak memory": "" if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.1f} MB",
                    "speed": f"{row['speed_ratio']:.1f} x",
                }
                for row in comparison(timed(batch_size=batch))
            ]
        )
    page.paragraph(
        "The three are timed in turns, so that a slow moment of the machine meets all of them. Speed is relative to "
        "ResNet-18, which is far wider: a task this small needs no large network. What fusing brings is the difference "
        "of the two forms."
    )


def _training_figure(run: Path) -> Figure:
    lines = read_metrics(run)
    epochs = [line for line in lines if "top1" in line]
    steps = [line for line in lines if "loss" in line]
    ends = [line["epoch"] + 1 for line in epochs]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    accuracy, loss, slope = map(plain, figure.subplots(1, 3))
    accuracy.plot(ends, [line["top1"] for line in epochs], color=BLUE)
    accuracy.set(title="test accuracy, %", ylim=(0, 101))
    passed = [line["step"] / epochs[0]["step"] for line in steps]
    loss.plot(passed, [line["loss"] for line in steps], color=GREY, label="training")
    loss.plot(ends, [line["validation_loss"] for line in epochs], color=BLUE, label="test")
    loss.set(title="loss", ylim=(0, None))
    loss.legend(frameon=False, loc="upper right")
    slope.plot(ends, [line["slope"] for line in epochs], color=RED, drawstyle="steps-mid")
    slope.set(title="slope: 0 = ReLU, 1 = identity", ylim=(-0.03, 1.05))
    for panel in (accuracy, loss, slope):
        panel.set_xlabel("epoch")
    return figure


def _predictions_figure(data: Data, predictions: Sequence[Prediction]) -> Figure:
    wrong = sorted((p for p in predictions if p.label != p.predicted), key=lambda p: -p.confidence)[:12]
    right = [p for p in predictions if p.label == p.predicted][:: max(1, len(predictions) // 13)][:12]
    pictures = _pictures(data, {p.name for p in (*right, *wrong)})
    figure = Figure(figsize=(9, 2.5), layout="constrained")
    cells = figure.subplots(2, 12)
    for row, chosen, colour in zip(cells, (right, wrong), (GREEN, RED), strict=True):
        for cell in row:
            cell.axis("off")
        for cell, prediction in zip(row, chosen, strict=False):
            cell.imshow(pictures[prediction.name], cmap="gray_r", vmin=0, vmax=1)
            said = prediction.predicted + (f", is {prediction.label}" if chosen is wrong else "")
            cell.set_title(f"{said}\n{prediction.confidence:.0%}", color=colour, fontsize=9)
    if not wrong:
        cells[1, 0].text(0, 0.5, "None: every test image is named rightly.", fontsize=10)
    return figure


def _pictures(data: Data, names: set[str]) -> dict[str, np.ndarray]:
    """Return the named validation images as (H, W) in [0, 1]."""
    found: dict[str, Tensor] = {}
    for batch in EvaluationBatches(data, batch_size=64):
        found |= {name: image for name, image in zip(batch.names, batch.images, strict=True) if name in names}
    return {name: (image[0] * data.std[0] + data.mean[0]).clamp(0, 1).numpy() for name, image in found.items()}
