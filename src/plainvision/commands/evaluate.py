"""Score a trained network on the validation split of its data, or of other data.

Example: plainvision evaluate runs/clothing --data.root clothing.zip --data.validation-split test --fuse --csv test.csv
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from plainvision.commands import Table, check_writable, parsed, say, show
from plainvision.commands.options.data import DataOptions, PreparationOptions, data_to_read
from plainvision.commands.options.network import NetworkOptions, network_first
from plainvision.commands.options.output import Device
from plainvision.showing import shown

if TYPE_CHECKING:
    from plainvision.training.evaluation import Evaluation
    from plainvision.training.recipe import Data


@dataclass(frozen=True)
class Arguments:
    """What `plainvision evaluate` takes."""

    network: Annotated[NetworkOptions, tyro.conf.arg(name="")]
    """Which network, and whose weights."""
    data: DataOptions = field(default_factory=DataOptions)
    """The data to score on; what is not given is as in training."""
    preparation: Annotated[PreparationOptions, tyro.conf.arg(name="data")] = field(default_factory=PreparationOptions)
    """How they are prepared."""
    fuse: bool = False
    """Fuse the network, and compare both forms."""
    against: str | None = None
    """Another run, weights file or deployed folder, compared with the first on the same images."""
    scores: bool = False
    """Print recall, precision and F1 of each class with 95 % intervals, and the most confused classes."""
    csv: Path | None = None
    """Write every prediction to this file. An image's name is a path in the folder, or the archive, of the last
    column."""
    batch_size: int = 64
    """Images per pass."""
    device: Device = None


def main(words: list[str]) -> None:
    """Print top-1 and top-5, and top-1 per class."""
    arguments = parsed(Arguments, network_first(words), "evaluate", __doc__)

    import plainvision as pv
    from plainvision.data.batches import EvaluationBatches
    from plainvision.inspection.devices import usable_device
    from plainvision.training.network_words import network_words
    from plainvision.training.scores import compare_predictions

    device = usable_device(arguments.device)
    if arguments.csv is not None:
        check_writable(arguments.csv, "--csv")
    found = arguments.network.load()
    data = data_to_read(found, arguments.data, arguments.preparation)
    forms = {"as it is": found.model}
    if arguments.fuse:
        forms["deployed"] = pv.fuse(found.model, image_size=data.image_size)
    batches = EvaluationBatches(data, batch_size=arguments.batch_size, classes=found.classes)
    results = {
        form: pv.training.evaluate(model, batches, classes=batches.classes, device=device)
        for form, model in forms.items()
    }
    first = results["as it is"]
    show(_table(results))
    say(f"{first.images} images of {data.validation_root or data.root}")
    for name in first.skipped:
        print(f"skipped {shown(name)}")
    if arguments.fuse:
        same = sum(a.predicted == b.predicted for a, b in zip(*(r.predictions for r in results.values()), strict=True))
        print(f"both forms name the same class for {same} of {first.images} images")
    if arguments.scores:
        _tell_scores(first, batches.classes)
    if arguments.against is not None:
        other = network_words(arguments.against).load()
        prepared = replace(data, **asdict(pv.deploy.Preprocessing.of(other.data)))  # as its own images were
        second = pv.training.evaluate(
            other.model, prepared, classes=other.classes, batch_size=arguments.batch_size, device=device
        )
        say(f"{arguments.against}: top-1 {second.top1:.2f} %")
        say(str(compare_predictions(first.predictions, second.predictions)))
    if arguments.csv is not None:
        _write(arguments.csv, results, data)
        print(f"predictions in {arguments.csv}")


def _table(results: "dict[str, Evaluation]") -> Table:
    from plainvision.training.scores import calibration

    table = Table(("", *results))
    table.add_row("top-1 %", *(f"{result.top1:.2f}" for result in results.values()))
    table.add_row("top-5 %", *(f"{result.top5:.2f}" for result in results.values()))
    table.add_row("loss", *(f"{result.loss:.4f}" for result in results.values()))
    errors = (calibration(result.predictions).error for result in results.values())
    table.add_row("calibration error", *(f"{error:.2f}" for error in errors), end_section=True)
    for name in results["as it is"].per_class:
        table.add_row(name, *(f"{result.per_class[name]:.2f}" for result in results.values()))
    return table


def _tell_scores(result: "Evaluation", classes: tuple[str, ...]) -> None:
    from plainvision.training.scores import class_scores, most_confused

    table = Table(("class", "images", "recall %", "95 %", "precision %", "95 %", "F1 %", "95 %"))
    for one in class_scores(result.predictions, classes):
        pairs = (
            (one.recall, one.recall_interval),
            (one.precision, one.precision_interval),
            (one.f1, one.f1_interval),
        )
        cells = [
            cell
            for value, (low, high) in pairs
            for cell in ("" if value is None else f"{value:.1f}", f"{low:.0f}–{high:.0f}")
        ]
        table.add_row(one.name, str(one.images), *cells)
    show(table)
    confused = [f"{one.label} as {one.predicted} {one.images}" for one in most_confused(result.predictions, 5)]
    if confused:
        say(f"most confused: {', '.join(confused)}")


def _write(path: Path, results: "dict[str, Evaluation]", data: "Data") -> None:
    """Write every prediction, and where its image is."""
    from plainvision.files import write_csv

    place = _place(data)
    rows = [
        [one.name, one.label, one.predicted, f"{one.confidence:.6f}", form, place]
        for form, result in results.items()
        for one in result.predictions
    ]
    write_csv(path, ["image", "label", "predicted", "confidence", "form", "found_in"], rows)


def _place(data: "Data") -> str:
    """Return where the images' names begin: an absolute folder or archive, or the root where it is no file."""
    root = data.validation_root or data.root
    path = Path(root).expanduser()
    if not path.exists():
        return root
    return str(path.resolve().parent if path.is_dir() else path.resolve())
