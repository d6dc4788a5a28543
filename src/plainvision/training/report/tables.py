"""Scores as rows of tables, for a page and for a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from plainvision.training.evaluation import Evaluation, Prediction
from plainvision.training.scores import (
    ClassScore,
    Confusion,
    calibration,
    class_scores,
    confusion_matrix,
    hardest,
    most_confused,
)

# A matrix of so many classes is printed.
_WIDEST = 15

Rows = list[dict[str, str]]


def score_rows(results: Mapping[str, Evaluation]) -> Rows:
    """Return the scores of each form of a network, a column for each."""
    cells = {
        "top-1 %": lambda one: f"{one.top1:.2f}",
        "top-5 %": lambda one: f"{one.top5:.2f}",
        "loss": lambda one: f"{one.loss:.4f}",
        "calibration error": lambda one: f"{calibration(one.predictions).error:.2f}",
    }
    return [{"": name} | {form: cell(one) for form, one in results.items()} for name, cell in cells.items()]


def accuracy_rows(results: Mapping[str, Evaluation]) -> Rows:
    """Return top-1 of each class that has images, a column for each form."""
    names = dict.fromkeys(name for one in results.values() for name in one.per_class)
    return [{"": name} | {form: f"{one.per_class[name]:.2f}" for form, one in results.items()} for name in names]


def class_rows(scores: Sequence[ClassScore]) -> Rows:
    """Return images, recall, precision and F1 of each class, with their 95 % intervals."""
    return [
        {
            "class": one.name,
            "images": f"{one.images:,}",
            "recall %": _within(one.recall, one.recall_interval),
            "precision %": _within(one.precision, one.precision_interval),
            "F1 %": _within(one.f1, one.f1_interval),
        }
        for one in scores
    ]


def confusion_rows(confusions: Sequence[Confusion], scores: Sequence[ClassScore]) -> Rows:
    """Return pairs of classes, and how many images of the first, and which share of it, get the name of the second."""
    images = {one.name: one.images for one in scores}
    return [
        {
            "class": one.label,
            "named": one.predicted,
            "images": f"{one.images:,}",
            "of the class": f"{100 * one.images / images[one.label]:.1f} %",
        }
        for one in confusions
    ]


def loss_rows(predictions: Sequence[Prediction]) -> Rows:
    """Return images with their class, the class that they are named, how sure the network is, and the loss."""
    return [
        {
            "image": one.name,
            "class": one.label,
            "named": one.predicted,
            "confidence": f"{100 * one.confidence:.1f} %",
            "loss": f"{one.loss:.2f}",
        }
        for one in predictions
    ]


def detail_tables(
    predictions: Sequence[Prediction], classes: Sequence[str], most: int
) -> Iterator[tuple[str, Rows, int]]:
    """Yield tables of the classes, the confusions and the largest losses, as `ImageTask.details`."""
    scores, confused = class_scores(predictions, classes), most_confused(predictions, most)
    yield "", class_rows(scores), 1
    if len(classes) <= _WIDEST:
        counts = confusion_matrix(predictions, classes).tolist()
        cells = [[str(count or "·") for count in row] for row in counts]
        matrix = [{"": name} | dict(zip(classes, row, strict=True)) for name, row in zip(classes, cells, strict=True)]
        yield "confusions: a row holds the images of a class, a column those that get its name", matrix, 1
    if confused:
        yield "most confused:", confusion_rows(confused, scores), 2
    yield "largest losses:", loss_rows(hardest(predictions, most)), 3


def _within(value: float | None, interval: tuple[float, float]) -> str:
    low, high = interval
    return "–" if value is None else f"{value:.1f} ({low:.0f}–{high:.0f})"
