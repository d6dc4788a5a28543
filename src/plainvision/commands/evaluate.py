"""Score a trained network on the validation split of its data, or of other data.

Example: plainvision evaluate runs/clothing --data.root clothing.zip --data.validation-split test --fuse --csv test.csv
"""

import shlex
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from plainvision.commands import Table, check_writable, parsed, say, show
from plainvision.commands.options.data import DataOptions, PreparationOptions, data_to_read
from plainvision.commands.options.network import NetworkOptions, network_first
from plainvision.commands.options.output import Device
from plainvision.commands.options.scores import tell_scores
from plainvision.showing import shown


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
    calibrate: bool = False
    """Fit the temperature that divides the logits on these images, and keep it with the weights: then confidences say
    how often they are right. No class changes."""
    against: str | None = None
    """Another run, weights file or deployed folder, compared with the first on the same images."""
    scores: bool = False
    """Print recall, precision and F1 of each class with 95 % intervals, the confusions, and the largest losses."""
    report: Path | None = None
    """Write a page with all of this and with pictures, one .html file."""
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
    from plainvision.training.calibrating import TemperaturePlace, calibrate
    from plainvision.training.network_words import network_words
    from plainvision.training.predictions_file import write_predictions
    from plainvision.training.report.evaluation import evaluation_page
    from plainvision.training.report.tables import accuracy_rows, score_rows
    from plainvision.training.scores import compare_predictions

    device = usable_device(arguments.device)
    for path, option in ((arguments.csv, "--csv"), (arguments.report, "--report")):
        if path is not None:
            check_writable(path, option)
    place = TemperaturePlace(arguments.network.words, arguments.network.weights) if arguments.calibrate else None
    found = arguments.network.load()
    data = data_to_read(found, arguments.data, arguments.preparation)
    batches = EvaluationBatches(data, batch_size=arguments.batch_size, classes=found.classes)
    classes = batches.classes
    if place is not None:
        fitted = calibrate(found.model, batches, device)
        place.keep(fitted.temperature)
        found = replace(found, temperature=fitted.temperature)
        say(f"{fitted}; kept in {place.path}")
    score = partial(pv.training.evaluate, classes=classes, batch_size=arguments.batch_size, device=device)
    forms = {"as it is": found.model}
    if arguments.fuse:
        forms["deployed"] = pv.fuse(found.model, image_size=data.image_size)
    results = {form: score(model, batches, temperature=found.temperature) for form, model in forms.items()}
    first = results["as it is"]
    show(Table.of(score_rows(results), accuracy_rows(results)))
    say(f"{first.images} images of {data.validation_root or data.root}")
    for name in first.skipped:
        print(f"skipped {shown(name)}")
    if arguments.fuse:
        same = sum(a.predicted == b.predicted for a, b in zip(*(r.predictions for r in results.values()), strict=True))
        print(f"both forms name the same class for {same} of {first.images} images")
    if arguments.scores:
        tell_scores(first.predictions, classes)
    if arguments.against is not None:
        other = network_words(arguments.against).load()
        prepared = replace(data, **asdict(pv.deploy.Preprocessing.of(other.data)))  # as its own images were
        second = score(other.model, prepared, classes=other.classes, temperature=other.temperature)
        say(f"{arguments.against}: top-1 {second.top1:.2f} %")
        say(str(compare_predictions(first.predictions, second.predictions)))
    if arguments.csv is not None:
        write_predictions(arguments.csv, results, data)
        print(f"predictions in {arguments.csv}")
    if arguments.report is not None:
        command = shlex.join(["plainvision", "evaluate", *words])
        page = evaluation_page(
            arguments.network.network,
            results,
            classes,
            batches.picture,
            temperature=found.temperature,
            command=command,
        )
        page.write(arguments.report)
        print(f"report in {arguments.report}")
