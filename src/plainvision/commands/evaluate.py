"""Score a trained network on the validation split of its data, or of other data.

Example: plainvision evaluate runs/clothing --data.root clothing.zip --data.validation-split test --fuse --csv test.csv
"""

import shlex
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plainvision.commands import Table, parsed, say, show
from plainvision.commands.options.data import DataOptions, PreparationOptions, data_to_read
from plainvision.commands.options.network import NetworkOptions, network_first
from plainvision.commands.options.output import Device, OutputOptions
from plainvision.commands.options.scores import ScoreOptions
from plainvision.showing import shown

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from plainvision.data.settings import Data
    from plainvision.training.network_words import Network


@dataclass(frozen=True)
class Arguments:
    """What `plainvision evaluate` takes."""

    network: Annotated[NetworkOptions, tyro.conf.arg(name="")]
    """Which network, and whose weights."""
    data: DataOptions = field(default_factory=DataOptions)
    """The data to score on; what is not given is as in training."""
    preparation: Annotated[PreparationOptions, tyro.conf.arg(name="data")] = field(default_factory=PreparationOptions)
    """How they are prepared."""
    said: Annotated[ScoreOptions, tyro.conf.arg(name="")] = field(default_factory=ScoreOptions)
    """What is said of the predictions, and where."""
    fuse: bool = False
    """Fuse the network, and compare both forms."""
    calibrate: bool = False
    """Fit the temperature that divides the logits on these images, and keep it with the weights: then confidences say
    how often they are right. No class changes."""
    threshold: float | None = None
    """Of a network that gives an image a set of labels: count those of this confidence or more, rather than by its own
    threshold."""
    against: str | None = None
    """Another run, weights file or deployed folder, compared with the first on the same images."""
    sizes: tuple[int, ...] = ()
    """Sides of the images, in pixels: top-1 at each, and of the mean of their answers. --figure draws it."""
    keep: Path | None = None
    """Keep the answers at each of --sizes in this folder: the same command, after a stop, goes on with those left."""
    batch_size: int = 64
    """Images per pass."""
    device: Device = None
    output: Annotated[OutputOptions, tyro.conf.arg(name="")] = field(default_factory=OutputOptions)
    """Where the record, and the figure of --sizes, go."""


def main(words: list[str]) -> None:
    """Print top-1 and top-5, and top-1 per class."""
    arguments = parsed(Arguments, network_first(words), "evaluate", __doc__)

    import plainvision as pv
    from plainvision.data.class_folders import order_told
    from plainvision.inspection.devices import usable_device
    from plainvision.training.calibrating import TemperaturePlace, calibrate
    from plainvision.training.network_words import network_words
    from plainvision.training.score_record import score_record

    device = usable_device(arguments.device)
    arguments.said.check()
    arguments.output.check()
    if arguments.output.figure is not None and len(arguments.sizes) < 2:
        raise ValueError(
            "--figure draws top-1 against the size of the images. Give two or more, for instance --sizes 160 224"
        )
    if arguments.keep is not None and not arguments.sizes:
        raise ValueError("--keep keeps the answers at each of several sizes. Give these, for instance --sizes 160 224")
    place = TemperaturePlace(arguments.network.words, arguments.network.weights) if arguments.calibrate else None
    found = arguments.network.load().with_threshold(arguments.threshold)
    if arguments.sizes:
        found.refuse_sets("--sizes")
    task, data = found.task, data_to_read(found, arguments.data, arguments.preparation)
    images = task.images(data, batch_size=arguments.batch_size, classes=found.classes)
    if found.classes is None:  # the weights do not say what their logits mean
        say(order_told(images.classes))
    if place is not None:
        fitted = calibrate(found.model, images, device)
        place.keep(fitted.temperature)
        found = replace(found, temperature=fitted.temperature)
        say(f"{fitted}; kept in {place.path}")
    forms = {"as it is": found.model}
    if arguments.fuse:
        forms["deployed"] = pv.fuse(found.model, image_size=data.image_size)
    score = partial(task.evaluate, device=device)
    results = {
        form: score(model, images, classes=images.classes, temperature=found.temperature)
        for form, model in forms.items()
    }
    first = results["as it is"]
    show(Table.of(*task.rows(results)))
    say(f"{first.images} images of {data.validation_root or data.root}")
    for name in first.skipped:
        print(f"skipped {shown(name)}")
    if arguments.fuse:
        print(task.same_answers(*results.values()))
    if arguments.against is not None:
        other = network_words(arguments.against).load()
        if type(other.task) is not type(task):
            raise ValueError(
                f"{arguments.against} and {arguments.network.network} cannot be compared: one gives an image a set of "
                "labels, the other one class. Give two networks of one kind."
            )
        prepared = replace(data, **asdict(pv.deploy.Preprocessing.of(other.data)))  # as its own images were
        own = task.images(prepared, batch_size=arguments.batch_size, classes=other.classes)
        second = score(other.model, own, classes=own.classes, temperature=other.temperature)
        say(f"{arguments.against}: {task.score_name} {second.score:.2f} %")
        say(task.compare(first, second))
    name = arguments.network.network
    rows = [score_record(name, form, task.record(one), forms[form], data) for form, one in results.items()]
    figure = None
    if arguments.sizes:
        rows, figure = _at_sizes(arguments, found, data, device)
    command = shlex.join(["plainvision", "evaluate", *words])
    arguments.said.tell(task, results, images, data, network=name, command=command, temperature=found.temperature)
    arguments.output.write(f"{task.score_name} of {name}", {"rows": rows}, command, figure)


def _at_sizes(
    arguments: Arguments, found: "Network", data: "Data", device: "torch.device"
) -> "tuple[list[dict[str, Any]], Figure | None]":
    from plainvision.training.resolutions import evaluate_sizes

    results, refused = evaluate_sizes(
        found.model,
        data,
        arguments.sizes,
        classes=found.classes,
        batch_size=arguments.batch_size,
        device=device,
        keep=arguments.keep,
        found=lambda one: say(str(one)),
    )
    for size, why in refused.items():
        say(f"the network does not run at {size} pixels: {why}")
    rows = [
        {"image_size": one.image_size, "top1": one.top1, "low": one.interval[0], "high": one.interval[1]}
        for one in results
    ]
    if arguments.output.figure is None:
        return rows, None
    from plainvision.figures.resolutions import resolutions_figure

    return rows, resolutions_figure(rows, trained=data.image_size)
