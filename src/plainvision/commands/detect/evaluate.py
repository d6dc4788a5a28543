"""Score a trained detector on a split in COCO's form: average precision of boxes, and of masks where it draws any.

Example: plainvision detect evaluate runs/trees --data.root trees.zip
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
    """What `plainvision detect evaluate` takes."""

    network: Annotated[TrainedOptions, tyro.conf.arg(name="")]
    """Which network."""
    data: DataOptions = field(default_factory=lambda: DataOptions())
    """Where the images are; what is not given is as in training, and nothing is opened by what a file says."""
    said: Annotated[TaskScoreOptions, tyro.conf.arg(name="")] = field(default_factory=TaskScoreOptions)
    """Which forms are scored, and where the figures go."""
    batch_size: int = 4
    """Images per pass."""
    device: Device = None


def main(words: list[str]) -> None:
    """Print the scores, and those of each class."""
    arguments = parsed(Arguments, words, "detect evaluate", __doc__)
    arguments.said.check()

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
    results = {
        form: evaluate_detector(network, batches, scenes, device=device, masks=masks)
        for form, network in arguments.said.forms(found.network).items()
    }
    first = results["as it is"]
    for name in first.skipped:
        say(f"skipped {name}")
    arguments.said.tell(
        {
            form: {
                f"{kind} AP": (one.ap, one.per_class)
                for kind, one in (("box", scores.box), ("mask", scores.mask))
                if one is not None
            }
            for form, scores in results.items()
        },
        "all",
    )
    say(f"{first.words}, on {first.images} images with {first.objects} objects")
