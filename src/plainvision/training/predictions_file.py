"""A table of every prediction, which spreadsheets read."""

from collections.abc import Mapping
from pathlib import Path

from plainvision.data.labels import BETWEEN
from plainvision.data.settings import Data
from plainvision.files import write_csv
from plainvision.training.evaluation import Evaluation
from plainvision.training.label_evaluation import LabelEvaluation

_HEADS = ("image", "label", "predicted", "confidence", "loss", "form", "found_in")


def write_predictions(path: Path, results: Mapping[str, Evaluation], data: Data) -> None:
    """Write the predictions of each form of a network, and where the images' names begin."""
    place = where_names_begin(data)
    rows = [
        [one.name, one.label, one.predicted, f"{one.confidence:.6f}", f"{one.loss:.6f}", form, place]
        for form, result in results.items()
        for one in result.predictions
    ]
    write_csv(path, _HEADS, rows)


def write_label_predictions(path: Path, results: Mapping[str, LabelEvaluation], data: Data) -> None:
    """Write the labels that images have and get from each form of a network, and the confidence in each label."""
    place = where_names_begin(data)
    classes = next(iter(results.values())).classes
    rows = [
        [
            one.names[index],
            BETWEEN.join(one.labels_of(index)),
            BETWEEN.join(one.given_to(index)),
            f"{one.losses[index]:.6f}",
            form,
            place,
            *(f"{value:.6f}" for value in one.predictions.confidences[index]),
        ]
        for form, one in results.items()
        for index in range(one.images)
    ]
    heads = ("image", "labels", "predicted", "loss", "form", "found_in", *(f"confidence {name}" for name in classes))
    write_csv(path, heads, rows)


def where_names_begin(data: Data) -> str:
    """Return where the images' names begin: an absolute folder or archive, or the root where it is no file."""
    root = data.validation_root or data.root
    path = Path(root).expanduser()
    if not path.exists():
        return root
    return str(path.resolve().parent if path.is_dir() else path.resolve())
