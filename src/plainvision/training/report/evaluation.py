"""The parts of a page that tell what a network gets right and wrong; each adds a section to it."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from plainvision.bench import host_facts
from plainvision.data.decoding import reason
from plainvision.data.thumbnails import thumbnail
from plainvision.figures.page import Card, Page
from plainvision.figures.reliability import reliability_diagram
from plainvision.training.classification import ONE_CLASS
from plainvision.training.evaluation import Evaluation, Prediction
from plainvision.training.image_task import ImageTask
from plainvision.training.report.tables import class_rows, confusion_rows
from plainvision.training.scores import calibration, class_scores, hardest, most_confused

# Bounds of what the page holds, whatever the number of classes and images.
MOST_CLASSES, MOST_IN_MATRIX, MOST_PAIRS, MOST_IMAGES = 100, 30, 15, 24
_SIDE = 192
_MOST_NAMES = 20


def in_one_sentence(evaluation: Evaluation) -> str:
    """Return top-1 with its interval."""
    low, high = evaluation.top1_interval
    return f"Top-1 is {evaluation.top1:.2f} % of {evaluation.images:,} images (95 % interval {low:.1f} to {high:.1f} %)"


def facts_of(evaluation: Evaluation) -> dict[str, str]:
    """Return what is to be seen first."""
    low, high = evaluation.top1_interval
    return {
        "top-1": f"{evaluation.top1:.2f} %\n{low:.1f} to {high:.1f} %",
        "top-5": f"{evaluation.top5:.2f} %",
        "loss": f"{evaluation.loss:.4f}",
        "calibration error": f"{calibration(evaluation.predictions).error:.2f}\npoints",
    }


def evaluation_page(
    title: str,
    results: Mapping[str, Any],
    classes: tuple[str, ...],
    picture: Callable[[str], Image.Image],
    *,
    command: str,
    temperature: float = 1.0,
    task: ImageTask = ONE_CLASS,
) -> Page:
    """Return the page of a network's forms, by what they are called, scored on the same images; the first in detail."""
    first = next(iter(results.values()))
    page = Page(title, f"{task.sentence(first)}.")
    page.facts(task.facts(first))
    if len(results) > 1:
        page.heading("The forms")
        page.table(task.rows(results)[0])
    task.tell(page, first, classes, picture, temperature=temperature)
    page.heading("How it was made")
    page.command(command)
    tell_host(page)
    return page


def tell_evaluation(
    page: Page,
    evaluation: Evaluation,
    classes: Sequence[str],
    picture: Callable[[str], Image.Image],
    *,
    temperature: float = 1.0,
) -> None:
    """Add all parts; ``evaluation`` has the predictions for all images, ``picture`` returns an image by its name."""
    tell_classes(page, evaluation.predictions, classes)
    tell_confusions(page, evaluation.predictions, classes)
    tell_largest_losses(page, evaluation.predictions, picture)
    tell_confidences(page, evaluation.predictions, temperature)
    tell_skipped(page, evaluation.skipped)


def tell_skipped(page: Page, skipped: Sequence[str]) -> None:
    """Add the names of images that could not be read, if there are any."""
    if skipped:
        page.heading(f"Images that could not be read ({len(skipped):,})")
        page.names(skipped[:_MOST_NAMES])


def thumbnails(names: Sequence[str], picture: Callable[[str], Image.Image]) -> tuple[list[bytes | None], str]:
    """Return the images small, None where one cannot be read again, and the first of these with why."""
    found: list[bytes | None] = []
    unread = ""
    for name in names:
        try:
            found.append(thumbnail(picture(name), _SIDE))
        except Exception as error:  # a damaged file makes decoders raise nearly anything
            found.append(None)
            unread = unread or f"{name}: {reason(error)}"
    return found, unread


def tell_classes(page: Page, predictions: Sequence[Prediction], classes: Sequence[str]) -> None:
    """Add recall, precision and F1 of each class."""
    scores = class_scores(predictions, classes)
    page.heading("The classes")
    told = scores
    if len(scores) > MOST_CLASSES:
        worst = sorted(scores, key=lambda one: one.f1)[:MOST_CLASSES]
        told = tuple(one for one in scores if one in worst)
        page.paragraph(f"The {MOST_CLASSES} of {len(scores):,} classes with the lowest F1:")
    page.table(class_rows(told))
    page.paragraph(
        "Recall is the share of a class's images that get its name, precision the share of the images with its name "
        "that are its own, F1 their harmonic mean; in brackets 95 % intervals, which are wide where images are few."
    )
    without = [name for name in classes if name not in {one.name for one in scores}]
    if without:
        rest = f" and {len(without) - _MOST_NAMES:,} more" if len(without) > _MOST_NAMES else ""
        page.paragraph(f"No image of: {', '.join(without[:_MOST_NAMES])}{rest}.")


def tell_confusions(page: Page, predictions: Sequence[Prediction], classes: Sequence[str]) -> None:
    """Add the confusion matrix and the pairs of classes that are confused most."""
    counts = Counter((one.label, one.predicted) for one in predictions)
    chosen, others = list(classes), []
    page.heading("Confusions")
    if len(classes) > MOST_IN_MATRIX:
        errors: Counter[str] = Counter()
        for (label, predicted), images in counts.items():
            if label != predicted:
                errors += Counter({label: images}) + Counter({predicted: images})
        worst = set(sorted(classes, key=lambda name: -errors[name])[:MOST_IN_MATRIX])
        chosen, others = [name for name in classes if name in worst], ["others"]
        page.paragraph(f"The {MOST_IN_MATRIX} of {len(classes):,} classes with the most errors:")
    own = Counter(one.label for one in predictions)
    rows = [[counts[label, predicted] for predicted in chosen] for label in chosen]
    rows = [[*row, *[own[label] - sum(row)][: len(others)]] for label, row in zip(chosen, rows, strict=True)]
    page.matrix(chosen, chosen + others, rows)
    page.paragraph("A row holds the images of a class, a column those that get its name.")
    pairs = most_confused(predictions, MOST_PAIRS)
    if pairs:
        page.table(confusion_rows(pairs, class_scores(predictions, classes)))
    else:
        page.paragraph("No image gets the name of another class.")


def tell_largest_losses(page: Page, predictions: Sequence[Prediction], picture: Callable[[str], Image.Image]) -> None:
    """Add the images of the largest losses; where one cannot be read again, its place stays empty."""
    page.heading("The largest losses")
    page.paragraph(
        "The images to which the network gives their class with the least confidence. Where many have the wrong label, "
        "correct the data first."
    )
    cards, chosen = [], hardest(predictions, MOST_IMAGES)
    small, unread = thumbnails([one.name for one in chosen], picture)
    for one, shown in zip(chosen, small, strict=True):
        named = "named so too" if one.predicted == one.label else f"named {one.predicted}"
        sure = f"{100 * one.confidence:.0f}\u00a0%"  # which no line parts
        cards.append(Card(shown, (f"is {one.label}", f"{named}, {sure}", f"loss {one.loss:.2f}, {one.name}")))
    page.cards(cards)
    if unread:
        page.paragraph(f"An empty place is an image that could not be read again, the first of them {unread}.")


def tell_confidences(page: Page, predictions: Sequence[Prediction], temperature: float = 1.0) -> None:
    """Add how confidences compare with accuracy."""
    found = calibration(predictions)
    page.heading("Confidence")
    if not found.bins:
        lost = sum(not math.isfinite(one.confidence) for one in predictions)
        page.paragraph(
            f"{lost:,} of {len(predictions):,} confidences are no numbers: the weights are damaged, or diverged in "
            "training. Take other weights."
        )
        return
    page.figure(reliability_diagram(found), "Accuracy against confidence")
    mean = statistics.fmean(one.confidence for one in predictions)
    right = statistics.fmean(one.label == one.predicted for one in predictions)
    page.paragraph(
        f"The mean confidence is {100 * mean:.1f} %, and {100 * right:.1f} % are right. The expected calibration "
        f"error, the mean distance of the two over {len(found.bins)} bins, is {found.error:.2f} points. Points below "
        "the diagonal are surer than they are right."
    )
    page.paragraph(
        f"Logits are divided by the temperature {temperature:.3g}."
        if temperature != 1
        else "`plainvision evaluate RUN --calibrate` fits a temperature that corrects this, and keeps it with the "
        "weights."
    )


def tell_host(page: Page) -> None:
    """Add the machine and the versions, as the small print."""
    host = host_facts()
    parts = [
        f"plainvision {host['plainvision']}" + (f" ({host['commit']})" if host["commit"] else ""),
        f"torch {host['torch']}",
        f"timm {host['timm']}",
        f"Python {host['python']}",
        host["platform"],
        host["cpu"],
        f"{host['cores']} cores",
        f"{host['threads']} threads",
        *([f"{host['memory_gb']:g} GB"] if host["memory_gb"] else []),
        *([host["gpu"]] if host["gpu"] else []),
    ]
    page.footer(", ".join(parts) + ".")
