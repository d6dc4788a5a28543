"""Score a trained segmenter: intersection over union of each class, and the mean of all.

Example: plainvision segment evaluate runs/fields --data.root fields --scales 0.75 1 1.25 --flip
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from plainvision.commands import Table, check_writable, parsed, say, show
from plainvision.commands.options.data import DataOptions, changed_data
from plainvision.commands.options.output import Device
from plainvision.commands.options.task import TrainedOptions
from plainvision.files import write_csv


@dataclass(frozen=True)
class Arguments:
    """What `plainvision segment evaluate` takes."""

    network: Annotated[TrainedOptions, tyro.conf.arg(name="")]
    """Which network."""
    data: DataOptions = field(default_factory=lambda: DataOptions())
    """Where the images are; what is not given is as in training, and nothing is opened by what a file says."""
    scales: tuple[float, ...] = (1.0,)
    """Answer the image at each of these sizes, and take the mean; papers have 0.5 to 1.75 in steps of 0.25."""
    flip: bool = False
    """Answer the mirrored image too."""
    csv: Path | None = None
    """Where to write the figures of each class."""
    device: Device = None


def main(words: list[str]) -> None:
    """Print the scores, and those of each class."""
    arguments = parsed(Arguments, words, "segment evaluate", __doc__)
    if arguments.csv is not None:
        check_writable(arguments.csv, "--csv")

    from plainvision.inspection.devices import usable_device
    from plainvision.tasks.batches import ValidationScenes
    from plainvision.tasks.label_maps import LabelScenes
    from plainvision.tasks.learning import Segmentation
    from plainvision.tasks.overlap import evaluate_segmenter

    found = arguments.network.load("segment")
    assert isinstance(found.task, Segmentation)
    data = changed_data(found.data, arguments.data)
    scenes = LabelScenes(data, "validation", zero_ignored=found.task.zero_ignored, classes=found.classes)
    say(scenes.first_line())
    scores = evaluate_segmenter(
        found.network,
        ValidationScenes(data, scenes, 1),
        found.classes,
        size=data.image_size,
        device=usable_device(arguments.device),
        scales=arguments.scales,
        flip=arguments.flip,
    )
    for name in scores.skipped:
        say(f"skipped {name}")
    table = Table(("class", "IoU\n%"))
    table.add_row("mean", f"{scores.miou:.2f}", end_section=True)
    for name, value in scores.per_class.items():
        table.add_row(name, f"{value:.2f}")
    show(table)
    say(f"{scores.words}, on {scores.images} images")
    if arguments.csv is not None:
        write_csv(arguments.csv, ("class", "iou"), [("mean", scores.miou), *scores.per_class.items()])
