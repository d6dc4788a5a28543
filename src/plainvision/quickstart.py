"""Train on the embedded digits, fuse, verify and time, and write one page about it: the whole path in two minutes."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from torch import nn

from plainvision.bench import comparison, measure
from plainvision.data.batches import EvaluationBatches
from plainvision.figures.page import Page
from plainvision.models.registry import create_model
from plainvision.processes import threads
from plainvision.recipes import get_recipe
from plainvision.surgery.fusing import fuse
from plainvision.surgery.same_answers import FusionReport
from plainvision.training.evaluation import Evaluation, evaluate
from plainvision.training.loop import train
from plainvision.training.report.evaluation import facts_of, tell_evaluation, tell_host
from plainvision.training.report.run import tell_course
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
    page.facts(facts_of(forms[1]))
    _tell_training(page, run, origin)
    _tell_fusion(page, report, forms)
    images = EvaluationBatches(recipe.data, batch_size=1, classes=origin.classes)
    tell_evaluation(page, forms[1], origin.classes, images.picture)
    _tell_timings(page, network, fused, origin)
    page.heading("How it was made")
    page.command(f"plainvision quickstart --out {shlex.quote(str(out))}")
    page.paragraph("The run, its recipe and its metrics are in the folder beside this page.")
    tell_host(page)
    page.write(out / "report.html")
    return Quickstart(out / "report.html", forms[0], forms[1], report, seconds)


def _tell_training(page: Page, run: Path, origin: Origin) -> None:
    lines = read_metrics(run)
    deep = next(line for line in lines if line.get("slope") == 1)
    tell_course(page, lines)
    page.paragraph(
        f"The network is `{origin.recipe.model}`, a sixteenth as wide. Each of its layers is a pair of convolutions "
        "with a leaky ReLU between them. Its negative slope, drawn above, rises from 0 to 1: at 0 the network is deep "
        f"enough to learn well, at 1, from epoch {deep['epoch'] + 1} on, each pair is one linear map, and training "
        "goes on in the form that will be deployed."
    )


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
