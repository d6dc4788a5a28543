"""Score a trained detector on a split in COCO's form: average precision of boxes, and of masks where it draws any.

Example: plainvision detect evaluate runs/trees --data.root trees.zip
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
    """What `plainvision detect evaluate` takes."""

    network: Annotated[TrainedOptions, tyro.conf.arg(name="")]
    """Which network."""
    data: DataOptions = field(default_factory=lambda: DataOptions())
    """Where the images are; what is not given is as in training, and nothing is opened by what a file says."""
    csv: Path | None = None
    """Where to write the figures of each class."""
    batch_size: int = 4
    """Images per pass."""
    device: Device = None


def main(words: list[str]) -> None:
    """Print the scores, and those of each class."""
    arguments = parsed(Arguments, words, "detect evaluate", __doc__)
    if arguments.csv is not None:
        check_writable(arguments.csv, "--csv")

    from plainvision.inspection.devices import usable_device
    from plainvision.tasks.average_precision import evaluate_detector
    from plainvision.tasks.batches import ValidationScenes
    from plainvision.tasks.boxes import BoxScenes
    from plainvision.tasks.learning import Detection

    found = arguments.network.load("detect")
    assert isinstance(found.task, Detection)
    data, masks = changed_data(found.data, arguments.data), found.task.kind == "mask_rcnn"
    scenes = BoxScenes(data, "validation", masks=masks, classes=found.classes)
    say(scenes.first_line())
    batches = ValidationScenes(data, scenes, arguments.batch_size)
    device = usable_device(arguments.device)
    scores = evaluate_detector(found.network, batches, scenes, device=device, masks=masks)
    for name in scores.skipped:
        say(f"skipped {name}")
    table = Table(("class", "box AP\n%", *(("mask AP\n%",) if masks else ())))
    rows = [("all", scores.box.ap, scores.mask.ap if scores.mask else None)]
    rows += [
        (name, value, scores.mask.per_class.get(name) if scores.mask else None)
        for name, value in scores.box.per_class.items()
    ]
    for name, *values in rows:
        table.add_row(name, *(f"{value:.2f}" for value in values if value is not None), end_section=name == "all")
    show(table)
    say(f"{scores.words}, on {scores.images} images with {scores.objects} objects")
    if arguments.csv is not None:
        write_csv(
            arguments.csv,
            ("class", "box_ap", *(("mask_ap",) if masks else ())),
            [[name, *(value for value in values if value is not None)] for name, *values in rows],
        )
