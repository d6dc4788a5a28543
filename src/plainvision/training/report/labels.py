"""What a network says of images with sets of labels: as rows of tables, and as the parts of a page."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from plainvision.confidences import Calibration, compare_with_accuracy
from plainvision.figures.page import Card, Page
from plainvision.figures.reliability import reliability_diagram
from plainvision.intervals import share_interval
from plainvision.training.label_evaluation import LabelEvaluation
from plainvision.training.label_scores import Figure
from plainvision.training.report.evaluation import MOST_CLASSES, MOST_IMAGES, tell_skipped, thumbnails
from plainvision.training.report.tables import Rows, class_rows


def score_rows(results: Mapping[str, LabelEvaluation]) -> Rows:
    """Return the scores of each form of a network, a column for each."""
    at = f"at {next(iter(results.values())).predictions.threshold:g}"
    cells: dict[str, Callable[[LabelEvaluation], str]] = {
        "mAP %": lambda one: _within(one.detailed.map),
        f"macro F1 % {at}": lambda one: _within(one.detailed.macro_f1),
        f"micro F1 % {at}": lambda one: _within(one.detailed.micro_f1),
        f"all labels right % {at}": lambda one: f"{100 * one.predictions.exact / one.images:.2f}",
        "loss": lambda one: f"{one.loss:.4f}",
        "calibration error": lambda one: f"{calibration(one).error:.2f}",
    }
    return [{"": name} | {form: cell(one) for form, one in results.items()} for name, cell in cells.items()]


def precision_rows(results: Mapping[str, LabelEvaluation]) -> Rows:
    """Return the average precision of each label that images have, a column for each form."""
    classes = next(iter(results.values())).classes
    found = {form: one.detailed.precision for form, one in results.items()}
    return [
        {"": name} | {form: _within(figures[place]) for form, figures in found.items()}
        for place, name in enumerate(classes)
        if all(figures[place] is not None for figures in found.values())
    ]


def label_rows(evaluation: LabelEvaluation) -> Rows:
    """Return images, average precision, recall, precision and F1 of each label that images have, with intervals."""
    figures = dict(zip(evaluation.classes, evaluation.detailed.precision, strict=True))
    return [
        {"label": row.pop("class"), "images": row.pop("images"), "AP %": _within(figures[score.name])} | row
        for score in evaluation.predictions.class_scores(evaluation.classes)
        for row in class_rows([score])
    ]


def loss_rows(evaluation: LabelEvaluation, most: int) -> Rows:
    """Return the images of the largest losses with the labels that they have and get."""
    return [
        {
            "image": evaluation.names[index],
            "has": ", ".join(evaluation.labels_of(index)) or "–",
            "gets": ", ".join(evaluation.given_to(index)) or "–",
            "loss": f"{evaluation.losses[index]:.3f}",
        }
        for index in hardest(evaluation, most)
    ]


def hardest(evaluation: LabelEvaluation, most: int) -> list[int]:
    """Return which images have the largest losses, the largest first; a loss that is no number counts as such."""
    order = np.argsort(-np.nan_to_num(evaluation.losses, nan=math.inf), kind="stable")
    return [int(index) for index in order[:most]]


def calibration(evaluation: LabelEvaluation) -> Calibration:
    """Return how the confidence in each label of each image compares with how often images have it."""
    found = evaluation.predictions
    return compare_with_accuracy(found.confidences.reshape(-1).tolist(), found.truth.reshape(-1).tolist())


def in_one_sentence(evaluation: LabelEvaluation) -> str:
    """Return the mean average precision with its interval."""
    own = evaluation.detailed.map
    return (
        f"Mean average precision is {own.value:.2f} % over {int(evaluation.predictions.truth.any(0).sum())} labels of "
        f"{evaluation.images:,} images (95 % interval {own.low:.1f} to {own.high:.1f} %)"
    )


def facts_of(evaluation: LabelEvaluation) -> dict[str, str]:
    """Return what is to be seen first."""
    found, at = evaluation.detailed, f"at {evaluation.predictions.threshold:g}"
    low, high = share_interval(evaluation.predictions.exact, evaluation.images)

    def cell(figure: Figure) -> str:
        return f"{figure.value:.2f} %\n{figure.low:.1f} to {figure.high:.1f} %"

    return {
        "mAP": cell(found.map),
        f"macro F1 {at}": cell(found.macro_f1),
        f"micro F1 {at}": cell(found.micro_f1),
        f"all right {at}": f"{100 * evaluation.predictions.exact / evaluation.images:.2f} %\n"
        f"{100 * low:.1f} to {100 * high:.1f} %",
        "loss": f"{evaluation.loss:.4f}",
    }


def tell_labels(
    page: Page, evaluation: LabelEvaluation, picture: Callable[[str], Image.Image], temperature: float = 1.0
) -> None:
    """Add all parts; ``picture`` returns an image by its name."""
    rows = label_rows(evaluation)
    page.heading("The labels")
    if len(rows) > MOST_CLASSES:
        figures = dict(zip(evaluation.classes, evaluation.detailed.precision, strict=True))
        least = sorted(rows, key=lambda row: figures[row["label"]].value)[:MOST_CLASSES]  # type: ignore[union-attr]
        page.paragraph(f"The {MOST_CLASSES} of {len(rows):,} labels with the lowest average precision:")
        rows = [row for row in rows if row in least]
    page.table(rows)
    page.paragraph(
        "AP is the average precision: images are ranked by their confidence in the label, and precision is averaged "
        "over those that have it. It needs no threshold. Recall, precision and F1 count a label as given from a "
        f"confidence of {evaluation.predictions.threshold:g} on. In brackets are 95 % intervals: of AP from "
        f"{evaluation.detailed.draws:,} draws of the images, of the others Wilson's."
    )
    without = [name for name, own in zip(evaluation.classes, evaluation.detailed.precision, strict=True) if own is None]
    if without:
        rest = f" and {len(without) - 20:,} more" if len(without) > 20 else ""
        page.paragraph(f"No image has: {', '.join(without[:20])}{rest}. These labels are in no score.")
    _tell_largest_losses(page, evaluation, picture)
    _tell_confidences(page, evaluation, temperature)
    tell_skipped(page, evaluation.skipped)


def _tell_largest_losses(page: Page, evaluation: LabelEvaluation, picture: Callable[[str], Image.Image]) -> None:
    page.heading("The largest losses")
    page.paragraph("Where many of these have the wrong labels, or lack one, correct the data first.")
    chosen = hardest(evaluation, MOST_IMAGES)
    shown, unread = thumbnails([evaluation.names[index] for index in chosen], picture)
    page.cards(
        [
            Card(
                small,
                (
                    f"has {', '.join(evaluation.labels_of(index)) or 'no label'}",
                    f"gets {', '.join(evaluation.given_to(index)) or 'no label'}",
                    f"loss {evaluation.losses[index]:.2f}, {evaluation.names[index]}",
                ),
            )
            for index, small in zip(chosen, shown, strict=True)
        ]
    )
    if unread:
        page.paragraph(f"An empty place is an image that could not be read again, the first of them {unread}.")


def _tell_confidences(page: Page, evaluation: LabelEvaluation, temperature: float) -> None:
    found = calibration(evaluation)
    page.heading("Confidence")
    if not found.bins:
        page.paragraph("Confidences are no numbers: the weights are damaged, or diverged in training. Take other ones.")
        return
    page.figure(reliability_diagram(found), "Share of images that have a label, against the confidence in it")
    page.paragraph(
        "Each label of each image is a point: its confidence, and whether the image has it. The expected calibration "
        f"error, the mean distance over {len(found.bins)} bins, is {found.error:.2f} points; most points lie near 0 "
        "where images have few of many labels."
        + (f" Logits are divided by the temperature {temperature:.3g}." if temperature != 1 else "")
    )


def _within(figure: Figure | None) -> str:
    return "–" if figure is None else f"{figure.value:.2f} ({figure.low:.1f}–{figure.high:.1f})"
