"""The page of a finished run."""

import shlex
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plainvision.data.batches import EvaluationBatches
from plainvision.figures.curves import training_curves
from plainvision.figures.page import Page
from plainvision.inspection.counting import count_parameters
from plainvision.surgery.fusing import fold
from plainvision.training.image_task import ImageTask
from plainvision.training.recipe import Data, Recipe
from plainvision.training.report.evaluation import tell_host
from plainvision.training.resumable import read_metrics

if TYPE_CHECKING:
    from plainvision.training.loop import Result

FILE = "report.html"
# The most that timing the forms may take.
_SECONDS, _PASSES, _FEWEST = 0.5, 30, 3


def write_run_report(result: "Result", recipe: Recipe, images: EvaluationBatches) -> str:
    """Write report.html into the folder of a run, and return in words where it is, or why there is none.

    Nothing raises: a run is never lost for its report. ``result.last`` has the predictions for all images.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what only the page does
            run_page(result, recipe, images).write(result.folder / FILE)
    except Exception as error:  # weights and scores are saved, whatever this is
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return f"no report: {why}. The run itself is saved."
    return f"report in {result.folder / FILE}"


def run_page(result: "Result", recipe: Recipe, images: EvaluationBatches) -> Page:
    """Return the page of a run: its course, its scores, its speed, and how to repeat it."""
    lines = read_metrics(result.folder)
    epochs = [line for line in lines if "validation_loss" in line]
    task = recipe.task
    assert isinstance(task, ImageTask), "whose report this is"
    page = Page(
        f"{recipe.name}: {recipe.model}",
        f"{task.sentence(result.last)} after {len(epochs):,} epoch{'s' * (len(epochs) != 1)}.",
    )
    own = {
        f"best {task.score_name}": f"{result.best_score:.2f} %",
        "parameters": f"{count_parameters(result.network):,}",
    }
    page.facts(task.facts(result.last) | own)
    said = (*([result.stopped_early] if result.stopped_early else []), *result.doubts)
    if said:
        page.names(said)
    tell_course(page, lines)
    task.tell(page, result.last, result.classes, images.picture)
    tell_speed(page, result.network, recipe, lines)
    tell_origin(page, recipe, result.folder)
    return page


def tell_course(page: Page, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add the curves of a run."""
    page.heading("Training")
    page.figures(training_curves(lines))
    page.paragraph(
        "Training is scored on augmented images, and its loss on softened or mixed labels where the recipe has them: "
        "it may lie on the other side of validation."
    )


def tell_speed(page: Page, network: nn.Module, recipe: Recipe, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add how many images training took in a second, and how fast the network and its deployed form are."""
    page.heading("Speed")
    speeds = [line["images_per_second"] for line in lines if "images_per_second" in line]
    if speeds:
        page.paragraph(
            f"Training took {_number(statistics.median(speeds))} images a second, the median over its readings."
        )
    if recipe.machine.fsdp:  # whose parts are in many processes
        return
    forms = {"as trained": network} | _deployed(network)
    try:
        times = _times(forms, recipe.data)
    except Exception as error:  # what a network or a device makes of one image alone is anything
        page.paragraph(f"The network could not be timed: {' '.join(str(error).split())[:200]}")
        return
    page.table(
        [
            {
                "form": name,
                "parameters": f"{count_parameters(forms[name]):,}",
                "one image": f"{_number(statistics.median(passes))} ms",
                "images/s": _number(1000 / statistics.median(passes)),
            }
            for name, passes in times.items()
        ]
    )
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    page.paragraph(
        f"One image at a time on {device} with {torch.get_num_threads()} threads, the median of "
        f"{len(times['as trained'])} passes, in turns. `plainvision tune RUN` finds the fastest form for a machine."
    )


def tell_origin(page: Page, recipe: Recipe, folder: Path) -> None:
    """Add how to repeat a run, and where it ran."""
    page.heading("How it was made")
    page.paragraph("What differs from the defaults; `recipe.json` beside this page has every field:")
    page.command(recipe.brief())
    page.paragraph("This trains anew by the same recipe:")
    page.command(shlex.join(_again(recipe, folder)))
    tell_host(page)


def _again(recipe: Recipe, folder: Path) -> list[str]:
    """Return the words that repeat a run: what names files is taken from words alone."""
    words = ["plainvision", "train", str(folder), "--out", f"{folder}-again"]
    data = recipe.data
    named = {
        "--data.root": None if data.root == "digits" else data.root,
        "--data.validation-root": data.validation_root,
        "--data.labels": data.labels,
        "--start-from": recipe.start_from,
    }
    words += [word for option, value in named.items() if value is not None for word in (option, value)]
    return words + (["--data.allow-pipes"] if data.allow_pipes else [])


def _number(value: float) -> str:
    """Return a number with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(forms: Mapping[str, nn.Module], data: Data) -> dict[str, list[float]]:
    """Return milliseconds of passes of one image, until its answer is on the CPU."""
    images = torch.rand(1, data.channels, data.image_size, data.image_size)

    def answer(network: nn.Module, given: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(given).cpu()

    works = {}
    for name, network in forms.items():
        parameter = next(network.parameters(), images)
        works[name] = partial(answer, network, images.to(parameter.device))
    times: dict[str, list[float]] = {name: [] for name in works}
    begun = time.perf_counter()
    for number in range(_PASSES + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append(1000 * (time.perf_counter() - start))
        if number >= _FEWEST and time.perf_counter() - begun > _SECONDS:
            break
    return {name: passes[1:] for name, passes in times.items()}  # the first has warmed up


def _deployed(network: nn.Module) -> dict[str, nn.Module]:
    """Return the deployed form of a network, where it has one."""
    try:
        form = fold(network)
    except Exception:  # a slope below 1, or a network that cannot be traced: `fuse` says why
        return {}
    return {"deployed": form} if count_parameters(form) != count_parameters(network) else {}
