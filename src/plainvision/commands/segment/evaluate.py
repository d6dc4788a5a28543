"""Score a trained segmenter: intersection over union of each class, and the mean of all.

Example: plainvision segment evaluate runs/fields --data.root fields --scales 0.75 1 1.25 --flip
"""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from plainvision.commands import parsed, say
from plainvision.commands.options.data import DataOptions, changed_data
from plainvision.commands.options.output import Device
from plainvision.commands.options.task import TrainedOptions
from plainvision.commands.options.task_scores import TaskScoreOptions


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
    zero_ignored: bool = False
    """Of a deployed folder: in the maps of labels 0 is no class and 1 the first. A run knows it by itself."""
    said: Annotated[TaskScoreOptions, tyro.conf.arg(name="")] = field(default_factory=TaskScoreOptions)
    """Which forms are scored, and where the figures go."""
    device: Device = None


def main(words: list[str]) -> None:
    """Print the scores, and those of each class."""
    arguments = parsed(Arguments, words, "segment evaluate", __doc__)
    arguments.said.check()

    from plainvision.inspection.devices import usable_device
    from plainvision.tasks.batches import ValidationScenes
    from plainvision.tasks.label_maps import LabelScenes
    from plainvision.tasks.learning import Segmentation
    from plainvision.tasks.overlap import evaluate_segmenter

    found = arguments.network.load("segment")
    assert isinstance(found.task, Segmentation)
    data = changed_data(found.data, arguments.data)
    zero_ignored = found.task.zero_ignored or arguments.zero_ignored
    scenes = LabelScenes(data, "validation", zero_ignored=zero_ignored, classes=found.classes)
    say(scenes.first_line())
    results = {
        form: evaluate_segmenter(
            network,
            ValidationScenes(data, scenes, 1),
            found.classes,
            size=data.image_size,
            device=usable_device(arguments.device),
            scales=arguments.scales,
            flip=arguments.flip,
        )
        for form, network in arguments.said.forms(found.network).items()
    }
    first = results["as it is"]
    for name in first.skipped:
        say(f"skipped {name}")
    arguments.said.tell({form: {"IoU": (one.miou, one.per_class)} for form, one in results.items()}, "mean")
    say(f"{first.words}, on {first.images} images")
