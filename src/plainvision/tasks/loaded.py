"""A trained detector or segmenter with all that it takes to use it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from plainvision.data.settings import Data
from plainvision.deploy.writing import DESCRIPTION
from plainvision.surgery.fusing import fuse
from plainvision.tasks.deployed import load_deployed
from plainvision.tasks.learning import Detection, Segmentation
from plainvision.training.network_words import network_words
from plainvision.training.weights_file import load_network


@dataclass(frozen=True)
class LoadedTask:
    """A network in eval mode, and what its answers mean."""

    network: nn.Module
    """Images in [0, 1] -> what `detector` and `segmenter` say."""
    task: Detection | Segmentation
    """What it learned."""
    classes: tuple[str, ...]
    """Names of the classes; a detector's labels count from 1."""
    data: Data
    """How its images are read."""


def load(what: str | Path, *, weights: Literal["best", "last"] = "best") -> LoadedTask:
    """Return the detector or the segmenter in a run's folder, in a weights file of ours or in a deployed folder.

    Args:
        what: the path; ``:deployed`` behind it is its fused form.
        weights: which weights of a run.

    Raises:
        FileNotFoundError, ValueError: there is no such network, its file is damaged, it is a classifier's, or it
            cannot be fused.
    """
    if (Path(what) / DESCRIPTION).is_file():
        return LoadedTask(*load_deployed(Path(what)))
    words = network_words(str(what))
    network, origin = load_network(words.name, weights)
    task = origin.recipe.task
    if not isinstance(task, Detection | Segmentation):
        raise ValueError(
            f"{what} neither detects nor segments: it was trained to classify. `plainvision.load` reads it, and the "
            "commands without detect and segment."
        )
    network = fuse(network) if words.deployed else network
    return LoadedTask(network, task, origin.classes, origin.recipe.data)
